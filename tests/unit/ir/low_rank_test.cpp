#include "ir/low_rank.h"

#include <cstdint>
#include <memory>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "ir/decode/tensor.h"

namespace regauge {
namespace {

RowSourcePtr floats(std::int64_t rows, const std::vector<float>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return std::make_shared<MemoryRows>(std::vector<std::byte>(bytes.begin(), bytes.end()), rows,
                                      values.size() * 4 / static_cast<std::size_t>(rows));
}

std::vector<float> read(const RowSource& source, RowRange rows) {
  std::vector<float> values(static_cast<std::size_t>(rows.size()) * source.row_bytes() / 4);
  source.read(rows, std::as_writable_bytes(std::span(values)));
  return values;
}

/// Two matrices of 2 x 3 in one stack, all zeros.
Tensor stack() {
  Tensor tensor;
  tensor.name = "experts.weight";
  tensor.shape = {2, 2, 3};
  tensor.encoding = Dense{DType::f32};
  tensor.parts.push_back({PartId::values, DType::f32, tensor.shape, floats(4, std::vector<float>(12, 0.0F))});
  return tensor;
}

FactorPair pair(std::int64_t rank, const std::vector<float>& a, const std::vector<float>& b) {
  return {floats(rank, a), floats(2, b), rank};
}

TEST(StackedFactors, AreFilledUpToTheLargestRankAndTellTheirOwn) {
  Tensor tensor = stack();
  const std::vector<FactorPair> pairs{pair(1, {1, 2, 3}, {4, 5}), pair(2, {1, 0, 0, 0, 1, 0}, {6, 7, 8, 9})};
  add_factors(tensor, DType::f32, DType::f32, pairs);
  EXPECT_EQ(low_rank_groups(tensor), (LowRankGroups{2, 2, 2}));
  EXPECT_EQ(low_rank_ranks(tensor), (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(tensor.part(PartId::lowrank_a).shape, (Shape{2, 2, 3}));
  EXPECT_EQ(read(*tensor.part(PartId::lowrank_a).rows, {0, 4}),
            (std::vector<float>{1, 2, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0}));
  EXPECT_EQ(read(*tensor.part(PartId::lowrank_b).rows, {0, 4}), (std::vector<float>{4, 0, 5, 0, 6, 7, 8, 9}));
  // Ranges that begin and end inside of blocks.
  EXPECT_EQ(read(*tensor.part(PartId::lowrank_a).rows, {1, 3}), (std::vector<float>{0, 0, 0, 1, 0, 0}));
  EXPECT_EQ(read(*tensor.part(PartId::lowrank_b).rows, {1, 3}), (std::vector<float>{5, 0, 6, 7}));
}

TEST(StackedFactors, MultiplyWithinTheirOwnWeightHoweverBandsAreCut) {
  Tensor tensor = stack();
  const std::vector<FactorPair> pairs{pair(1, {1, 2, 3}, {4, 5}), pair(2, {1, 0, 0, 0, 1, 0}, {6, 7, 8, 9})};
  add_factors(tensor, DType::f32, DType::f32, pairs);
  const std::vector<float> expected{4, 8, 12, 5, 10, 15, 6, 7, 0, 8, 9, 0};
  for (const std::int64_t height : {1, 2, 3, 4}) {
    TensorDecoder decoder(tensor, {.with_low_rank = true});
    std::vector<float> all(12);
    for (std::int64_t row = 0; row < 4; row += height) {
      const RowRange band{row, std::min<std::int64_t>(4, row + height)};
      decoder.decode(
          band, std::span(all).subspan(static_cast<std::size_t>(row * 3), static_cast<std::size_t>(band.size() * 3)));
    }
    EXPECT_EQ(all, expected) << height;
  }
}

TEST(StackedFactors, OfAWeightWithoutAnyAreZeros) {
  Tensor tensor = stack();
  const std::vector<FactorPair> pairs{{}, pair(1, {1, 2, 3}, {4, 5})};
  add_factors(tensor, DType::f32, DType::f32, pairs);
  EXPECT_EQ(low_rank_ranks(tensor), (std::vector<std::int64_t>{0, 1}));
  EXPECT_EQ(read(*tensor.part(PartId::lowrank_a).rows, {0, 2}), (std::vector<float>{0, 0, 0, 1, 2, 3}));
  EXPECT_EQ(read(*tensor.part(PartId::lowrank_b).rows, {0, 4}), (std::vector<float>{0, 0, 4, 5}));
}

TEST(StackedFactors, OfOneWeightAreItsOwn) {
  Tensor tensor = stack();
  tensor.shape = {4, 3};
  const std::vector<FactorPair> pairs{{floats(1, {1, 2, 3}), floats(4, {4, 5, 6, 7}), 1}};
  add_factors(tensor, DType::f32, DType::f32, pairs);
  EXPECT_EQ(low_rank_groups(tensor), (LowRankGroups{1, 1, 4}));
  EXPECT_EQ(tensor.part(PartId::lowrank_a).shape, (Shape{1, 3}));
}

TEST(CutFactors, LoseWhatFillsThemUp) {
  const Part a{PartId::lowrank_a, DType::f32, {4, 2}, floats(4, {1, 2, 0, 0, 3, 4, 0, 0})};
  const Part b{PartId::lowrank_b, DType::f32, {4, 2}, floats(4, {5, 0, 6, 0, 7, 0, 8, 0})};
  const FactorPair second = cut_factors(a, {2, 4}, b, {2, 4}, 1);
  EXPECT_EQ(read(*second.a, {0, 1}), (std::vector<float>{3, 4}));
  EXPECT_EQ(read(*second.b, {0, 2}), (std::vector<float>{7, 8}));
  EXPECT_EQ(cut_factors(a, {0, 2}, b, {0, 2}, 0).a, nullptr);
}

TEST(ReorderedRows, TakeRowsAndColumnsInTheirOrder) {
  View order;
  order.rows = AxisMap({{2, 1}, {0, 2}});
  order.columns = AxisMap({{1, 2}, {0, 1}});
  std::vector<float> values(9);
  std::iota(values.begin(), values.end(), 0.0F);
  const ReorderedRows rows(floats(3, values), order, 4);
  EXPECT_EQ(read(rows, {0, 3}), (std::vector<float>{7, 8, 6, 1, 2, 0, 4, 5, 3}));
  EXPECT_EQ(read(rows, {1, 2}), (std::vector<float>{1, 2, 0}));
}

TEST(LowRankGroups, OfPartsThatDoNotGoTogetherAreAnError) {
  Tensor tensor = stack();
  tensor.parts.push_back({PartId::lowrank_a, DType::f32, {3, 1, 3}, floats(3, std::vector<float>(9))});
  tensor.parts.push_back({PartId::lowrank_b, DType::f32, {4, 1}, floats(4, std::vector<float>(4))});
  EXPECT_THROW(low_rank_groups(tensor), Error);
}

}  // namespace
}  // namespace regauge
