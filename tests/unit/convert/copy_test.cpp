#include "convert/route/copy.h"

#include <cstring>
#include <random>

#include <gtest/gtest.h>

#include "ir/decode/blocks.h"
#include "tests/support/golden.h"
#include "tests/support/tensors.h"
#include "tests/unit/convert/targets.h"

namespace regauge {
namespace {

using testing::count_bit_differences;
using testing::decode_all;
using testing::dense_tensor;
using testing::make_all;
using testing::seen_through;
using testing::whole;

std::vector<float> counting(std::int64_t count) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) values.push_back(static_cast<float>(i));
  return values;
}

Tensor random_q4_0(std::int64_t rows, std::int64_t columns) {
  std::mt19937 random(1);
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(rows * columns / 32 * 18));
  for (auto& b : bytes) b = static_cast<std::uint8_t>(random() & 0x3FU);
  Tensor tensor;
  tensor.name = "q";
  tensor.shape = Shape{rows, columns};
  tensor.encoding = Blocked{BlockType::q4_0};
  tensor.parts.push_back(testing::memory_part<std::uint8_t>(PartId::blocks, DType::u8, rows, columns / 32 * 18, bytes));
  return tensor;
}

TEST(Copy, MovesRowsAndColumnsOfDenseValues) {
  const Tensor tensor = dense_tensor("t", Shape{4, 6}, counting(24), DType::bf16);
  const View view{
      .rows = AxisMap({{2, 2}, {0, 2}}), .columns = AxisMap({{3, 3}, {0, 3}}), .elementwise = Elementwise::none};
  const Target target = whole(tensor, view);
  ASSERT_FALSE(cannot_copy(target));
  Loss loss;
  for (const std::int64_t band : {1, 3, 4}) {
    const auto bytes = make_all(*make_copy(target), target, 12, band, loss);
    const Tensor copied = [&] {
      Tensor t = tensor;
      t.parts.front().rows = std::make_shared<MemoryRows>(bytes, 4, 12);
      return t;
    }();
    EXPECT_EQ(count_bit_differences(seen_through(view, counting(24), 4, 6), decode_all(copied)), 0U);
  }
}

TEST(Copy, MovesWholeBlocksAndRefusesToCutThem) {
  const Tensor tensor = random_q4_0(3, 128);
  const View blocks{.rows = {}, .columns = AxisMap({{64, 64}, {0, 64}}), .elementwise = Elementwise::none};
  const Target target = whole(tensor, blocks);
  ASSERT_FALSE(cannot_copy(target));
  Loss loss;
  const auto bytes = make_all(*make_copy(target), target, 128 / 32 * 18, 2, loss);
  std::vector<float> values(3 * 128);
  decode_blocks(BlockType::q4_0, bytes, values);
  EXPECT_EQ(count_bit_differences(seen_through(blocks, decode_all(tensor), 3, 128), values), 0U);

  const View cut{.rows = {}, .columns = AxisMap({{16, 112}, {0, 16}}), .elementwise = Elementwise::none};
  EXPECT_TRUE(cannot_copy(whole(tensor, cut)));
}

// The patch kernel: two slots that Hugging Face keeps interleaved in one array.
TEST(Copy, PutsInterleavedColumnsTogether) {
  const Tensor even = dense_tensor("even", Shape{2, 2}, std::vector<float>{0, 2, 4, 6});
  const Tensor odd = dense_tensor("odd", Shape{2, 2}, std::vector<float>{1, 3, 5, 7});
  Target target = whole(even);
  target.columns = 4;
  target.shape = Shape{2, 4};
  target.pieces.front().target_columns = AxisMap({{0, 1}, {2, 1}});
  target.pieces.push_back(whole(odd).pieces.front());
  target.pieces.back().target_columns = AxisMap({{1, 1}, {3, 1}});
  ASSERT_FALSE(cannot_copy(target));
  Loss loss;
  const auto bytes = make_all(*make_copy(target), target, 16, 1, loss);
  std::vector<float> values(8);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  EXPECT_EQ(values, counting(8));
}

// Seen as [2, 6] or as [4, 3], the same numbers: MLX keeps conv1d as [C, k, 1], others as [C, k].
TEST(Copy, ReadsAMatrixOfAnotherFactoring) {
  const Tensor tensor = dense_tensor("conv", Shape{2, 6, 1}, counting(12));
  Target target = whole(tensor);
  target.rows = 4;
  target.columns = 3;
  target.shape = Shape{4, 3};
  target.pieces.front().source_columns = 3;
  target.pieces.front().rows = {0, 4};
  target.pieces.front().target_rows = 4;
  target.pieces.front().view.rows = AxisMap({{3, 1}, {0, 3}});
  Loss loss;
  const auto bytes = make_all(*make_copy(target), target, 12, 2, loss);
  std::vector<float> values(12);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  EXPECT_EQ(values, (std::vector<float>{9, 10, 11, 0, 1, 2, 3, 4, 5, 6, 7, 8}));
}

TEST(Copy, AChangeOfValueIsNoCopy) {
  const Tensor tensor = dense_tensor("norm", Shape{4}, counting(4));
  EXPECT_TRUE(cannot_copy(whole(tensor, {.rows = {}, .columns = {}, .elementwise = Elementwise::add_one})));
}

}  // namespace
}  // namespace regauge
