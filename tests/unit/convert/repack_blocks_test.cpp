#include "convert/route/repack_blocks.h"

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
using testing::grouped_tensor;
using testing::GroupedSpec;
using testing::make_all;
using testing::seen_through;
using testing::whole;

std::vector<float> repacked_values(const Target& target, BlockType expected, std::int64_t band) {
  auto source = AffineSource::of(target);
  if (const auto* reason = std::get_if<std::string>(&source)) {
    ADD_FAILURE() << *reason;
    return {};
  }
  auto& affine = std::get<AffineSource>(source);
  auto plan = plan_block_repack(affine, affine.facts(), false);
  if (const auto* reason = std::get_if<std::string>(&plan)) {
    ADD_FAILURE() << *reason;
    return {};
  }
  EXPECT_EQ(name(std::get<BlockRepack>(plan).type), name(expected));
  const BlockType type = std::get<BlockRepack>(plan).type;
  const auto maker = make_block_repack(std::move(affine), std::get<BlockRepack>(std::move(plan)));
  Loss loss;
  const auto row_bytes = static_cast<std::size_t>(target.columns / block_elements(type) * block_bytes(type));
  const auto blocks = make_all(*maker, target, row_bytes, band, loss);
  std::vector<float> values(static_cast<std::size_t>(target.rows * target.columns));
  decode_blocks(type, blocks, values);
  return values;
}

/// The block type that holds `target`, or the reason why none does.
std::variant<BlockRepack, std::string> planned(const Target& target) {
  auto source = AffineSource::of(target);
  if (auto* reason = std::get_if<std::string>(&source)) return *reason;
  const auto& affine = std::get<AffineSource>(source);
  return plan_block_repack(affine, affine.facts(), false);
}

// Every f16 scale meets every code: 2048 rows of 32 groups are the 65,536 scales, and 32 columns hold the codes twice.
GroupedSpec every_scale_and_code(int bits, int zero) {
  GroupedSpec spec{
      .rows = 2048, .columns = 32 * 32, .bits = bits, .group = 32, .codes = {}, .scales = {}, .zeros = {}, .index = {}};
  const int codes = 1 << bits;
  for (int scale = 0; scale < 65536; ++scale) {
    spec.scales.push_back(static_cast<std::uint16_t>(scale));
    spec.zeros.push_back(static_cast<std::uint8_t>(zero));
    // Eight bits have more codes than a group has columns: each scale gets an eighth of them, neighbours get the others.
    for (int i = 0; i < 32; ++i) spec.codes.push_back(static_cast<std::uint8_t>((i + 32 * (scale % 8)) % codes));
  }
  return spec;
}

struct Expected {
  int bits;
  int zero;
  BlockType type;
};

class EveryScaleAndCode : public ::testing::TestWithParam<Expected> {};

TEST_P(EveryScaleAndCode, HasTheSameBitsAfterRepacking) {
  const auto [bits, zero, type] = GetParam();
  const Tensor tensor = grouped_tensor("t", every_scale_and_code(bits, zero));
  EXPECT_EQ(count_bit_differences(decode_all(tensor), repacked_values(whole(tensor), type, 512)), 0U);
}

INSTANTIATE_TEST_SUITE_P(AllWidths, EveryScaleAndCode,
                         ::testing::Values(Expected{2, 2, BlockType::q4_0}, Expected{2, 0, BlockType::q4_0},
                                           Expected{3, 4, BlockType::q4_0}, Expected{3, 8, BlockType::q4_0},
                                           Expected{4, 8, BlockType::q4_0}, Expected{4, 7, BlockType::q5_0},
                                           Expected{4, 0, BlockType::q5_0}, Expected{4, 16, BlockType::q5_0},
                                           Expected{5, 16, BlockType::q5_0}, Expected{5, 3, BlockType::q8_0},
                                           Expected{6, 32, BlockType::q8_0}, Expected{7, 64, BlockType::q8_0},
                                           Expected{8, 128, BlockType::q8_0}),
                         [](const auto& test) {
                           return "u" + std::to_string(test.param.bits) + "_zero_" + std::to_string(test.param.zero);
                         });

GroupedSpec random_spec(std::mt19937& random, std::int64_t rows, std::int64_t columns, std::int64_t group, int low_zero,
                        int high_zero) {
  GroupedSpec spec{
      .rows = rows, .columns = columns, .bits = 4, .group = group, .codes = {}, .scales = {}, .zeros = {}, .index = {}};
  for (std::int64_t i = 0; i < rows * columns; ++i) spec.codes.push_back(static_cast<std::uint8_t>(random() % 16));
  for (std::int64_t i = 0; i < rows * ((columns + group - 1) / group); ++i) {
    spec.scales.push_back(static_cast<std::uint16_t>(random() % 0x7C00U));
    spec.zeros.push_back(static_cast<std::uint8_t>(
        low_zero + static_cast<int>(random() % static_cast<unsigned>(high_zero - low_zero + 1))));
  }
  return spec;
}

TEST(RepackBlocks, RowsAndWholeBlocksOfColumnsMayMove) {
  std::mt19937 random(3);
  const Tensor tensor = grouped_tensor("out_proj", random_spec(random, 96, 384, 128, 8, 8));
  const View view{.rows = AxisMap({{32, 64}, {0, 32}}),
                  .columns = AxisMap({{64, 64}, {0, 64}, {256, 128}, {128, 128}}),
                  .elementwise = Elementwise::none};
  const auto expected = seen_through(view, decode_all(tensor), 96, 384);
  for (const std::int64_t band : {1, 7, 96}) {
    EXPECT_EQ(count_bit_differences(expected, repacked_values(whole(tensor, view), BlockType::q4_0, band)), 0U) << band;
  }
}

TEST(RepackBlocks, MixedZeroPointsTakeFiveBits) {
  std::mt19937 random(4);
  const Tensor tensor = grouped_tensor("t", random_spec(random, 8, 256, 64, 0, 15));
  EXPECT_EQ(count_bit_differences(decode_all(tensor), repacked_values(whole(tensor), BlockType::q5_0, 8)), 0U);
}

TEST(RepackBlocks, AnIndexThatKeepsGroupsOf32TogetherIsExact) {
  std::mt19937 random(5);
  GroupedSpec spec = random_spec(random, 8, 128, 32, 8, 8);
  spec.index.emplace();
  for (std::int32_t c = 0; c < 128; ++c) spec.index->push_back(3 - c / 32);
  const Tensor tensor = grouped_tensor("t", spec);
  EXPECT_EQ(count_bit_differences(decode_all(tensor), repacked_values(whole(tensor), BlockType::q4_0, 8)), 0U);
}

TEST(RepackBlocks, ActOrderIsRefusedWithItsName) {
  std::mt19937 random(6);
  GroupedSpec spec = random_spec(random, 4, 64, 32, 8, 8);
  spec.index.emplace();
  for (std::int32_t c = 0; c < 64; ++c) spec.index->push_back(c % 2);
  const Tensor tensor = grouped_tensor("t", spec);
  const auto plan = planned(whole(tensor));
  ASSERT_TRUE(std::holds_alternative<std::string>(plan));
  EXPECT_NE(std::get<std::string>(plan).find("act-order"), std::string::npos);
}

TEST(RepackBlocks, GroupsOrColumnsThatCutBlocksAreRefused) {
  std::mt19937 random(7);
  const Tensor narrow = grouped_tensor("t", random_spec(random, 4, 64, 16, 8, 8));
  EXPECT_TRUE(std::holds_alternative<std::string>(planned(whole(narrow))));
  const Tensor odd = grouped_tensor("t", random_spec(random, 4, 80, 80, 8, 8));
  EXPECT_TRUE(std::holds_alternative<std::string>(planned(whole(odd))));
  const Tensor wide = grouped_tensor("t", random_spec(random, 4, 128, 32, 8, 8));
  const View cut{.rows = {}, .columns = AxisMap({{16, 16}, {0, 16}, {32, 96}}), .elementwise = Elementwise::none};
  EXPECT_FALSE(std::holds_alternative<std::string>(planned(whole(wide))));
  EXPECT_FALSE(std::holds_alternative<std::string>(planned(whole(wide, cut)))) << "a move within one group is exact";
  const View across{.rows = {}, .columns = AxisMap({{16, 32}, {0, 16}, {48, 80}}), .elementwise = Elementwise::none};
  EXPECT_TRUE(std::holds_alternative<std::string>(planned(whole(wide, across))));
}

// The bounds of eight-bit codes and asymmetric zeros do not decide; the codes do.
TEST(RepackBlocks, AsymmetricEightBitsDependOnTheCodes) {
  GroupedSpec spec{.rows = 2,
                   .columns = 32,
                   .bits = 8,
                   .group = 32,
                   .codes = std::vector<std::uint8_t>(64, 200),
                   .scales = {0x3C00, 0x3C00},
                   .zeros = {100, 100},
                   .index = {}};
  const Tensor fits = grouped_tensor("t", spec);
  EXPECT_EQ(count_bit_differences(decode_all(fits), repacked_values(whole(fits), BlockType::q8_0, 2)), 0U);
  spec.codes[40] = 255;
  const Tensor does_not = grouped_tensor("t", spec);
  EXPECT_TRUE(std::holds_alternative<std::string>(planned(whole(does_not))));
}

}  // namespace
}  // namespace regauge
