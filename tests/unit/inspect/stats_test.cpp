#include "inspect/stats.h"

#include <cmath>
#include <limits>
#include <numeric>

#include <gtest/gtest.h>

#include "base/error.h"
#include "inspect/block_codes.h"
#include "tests/unit/inspect/checkpoint_builder.h"

namespace regauge::inspect {
namespace {

using testing::CheckpointBuilder;

TensorStats stats_of(const std::vector<float>& values, Shape shape) {
  CheckpointBuilder builder;
  builder.dense("w", DType::f32, std::move(shape), CheckpointBuilder::bytes_of(values));
  return measure(builder.checkpoint(), 0);
}

TEST(Stats, DescribeKnownValues) {
  const TensorStats stats = stats_of({1, 2, 3, 4, 5, 6}, {2, 3});
  EXPECT_EQ(stats.count, 6U);
  EXPECT_EQ(stats.min, 1);
  EXPECT_EQ(stats.max, 6);
  EXPECT_EQ(stats.mean, 3.5);
  EXPECT_DOUBLE_EQ(stats.deviation, std::sqrt(17.5 / 6));
  EXPECT_TRUE(stats.codes.empty());
}

TEST(Stats, NumbersThatAreNoneStayOutOfTheRest) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const TensorStats stats = stats_of({std::nanf(""), kInf, -kInf, 2, -0.0F, 0}, {6});
  EXPECT_EQ(stats.nan, 1U);
  EXPECT_EQ(stats.infinite, 2U);
  EXPECT_EQ(stats.finite, 3U);
  EXPECT_EQ(stats.zeros, 2U);
  EXPECT_EQ(stats.negative_zeros, 1U);
  EXPECT_EQ(stats.min, 0);
  EXPECT_EQ(stats.max, 2);
  EXPECT_DOUBLE_EQ(stats.mean, 2.0 / 3.0);
}

TEST(Stats, TheHistogramCoversMinToMaxInEqualSteps) {
  std::vector<float> values(65);
  std::iota(values.begin(), values.end(), 0.0F);
  const TensorStats stats = stats_of(values, {65});
  // 0 .. 64 in 64 steps of one: the maximum belongs to the last interval.
  for (std::size_t bin = 0; bin + 1 < TensorStats::kBins; ++bin) EXPECT_EQ(stats.histogram[bin], 1U) << bin;
  EXPECT_EQ(stats.histogram.back(), 2U);
}

TEST(Stats, EqualValuesShareTheFirstInterval) {
  const TensorStats stats = stats_of({7, 7, 7}, {3});
  EXPECT_EQ(stats.histogram[0], 3U);
  EXPECT_EQ(stats.deviation, 0);
}

TEST(Stats, AnEmptyTensorHasNone) {
  const TensorStats stats = stats_of({}, {0, 4});
  EXPECT_EQ(stats.count, 0U);
  EXPECT_EQ(stats.finite, 0U);
}

TEST(Stats, MoreRowsThanFitABandAreAllCounted) {
  constexpr std::int64_t kRows = 3000;
  constexpr std::int64_t kColumns = 1024;  // 12 MB: three bands
  std::vector<float> values(kRows * kColumns, 1.0F);
  values.back() = 5.0F;
  const TensorStats stats = stats_of(values, {kRows, kColumns});
  EXPECT_EQ(stats.count, static_cast<std::uint64_t>(kRows * kColumns));
  EXPECT_EQ(stats.max, 5);
}

TEST(Stats, GroupedCodesAreCountedOneByOne) {
  CheckpointBuilder builder;
  CheckpointBuilder::Gptq module;
  module.group = 32;
  for (int i = 0; i < 2 * 32; ++i) module.codes.push_back(static_cast<std::uint8_t>(i % 16));
  module.codes[1] = 0;
  builder.gptq("m", 2, 32, module);
  const TensorStats stats = measure(builder.checkpoint(), 0);
  ASSERT_EQ(stats.codes.size(), 16U);
  EXPECT_EQ(stats.codes[0], 5U);
  EXPECT_EQ(stats.codes[1], 3U);
  EXPECT_EQ(stats.codes[15], 4U);
  EXPECT_EQ(stats.min, -8);  // scale 1, zero point 8
  EXPECT_EQ(stats.max, 7);
}

std::vector<std::uint64_t> codes_of(BlockType type, std::vector<std::byte> block) {
  CheckpointBuilder builder;
  builder.blocks("b", type, {1, 32}, std::move(block));
  return measure(builder.checkpoint(), 0).codes;
}

TEST(Stats, CodesOfLegacyBlocksAreFoundBehindTheirScales) {
  // Every byte of the nibbles is 0xA3: 16 codes of 3 and 16 of 10.
  for (const auto& [type, head] : {std::pair{BlockType::q4_0, 2}, std::pair{BlockType::q4_1, 4}}) {
    std::vector<std::byte> block(static_cast<std::size_t>(head), std::byte{0});
    block.resize(static_cast<std::size_t>(head) + 16, std::byte{0xA3});
    const auto codes = codes_of(type, block);
    ASSERT_EQ(codes.size(), 16U);
    EXPECT_EQ(codes[3], 16U);
    EXPECT_EQ(codes[10], 16U);
  }
}

TEST(Stats, FifthBitsBelongToTheElementOfTheirNumber) {
  for (const auto& [type, head] : {std::pair{BlockType::q5_0, 2}, std::pair{BlockType::q5_1, 4}}) {
    std::vector<std::byte> block(static_cast<std::size_t>(head), std::byte{0});
    // Elements 0 to 7 (low nibbles of the first 8 bytes) and 31 (high nibble of the last) get 16 more.
    for (const int byte : {0xFF, 0x00, 0x00, 0x80}) block.push_back(static_cast<std::byte>(byte));
    block.resize(block.size() + 16, std::byte{0x21});
    const auto codes = codes_of(type, block);
    ASSERT_EQ(codes.size(), 32U);
    EXPECT_EQ(codes[1], 8U);
    EXPECT_EQ(codes[17], 8U);
    EXPECT_EQ(codes[2], 15U);
    EXPECT_EQ(codes[18], 1U);
  }
}

TEST(Stats, EightBitCodesAreCountedUnsigned) {
  std::vector<std::byte> block(2, std::byte{0});
  block.resize(34, std::byte{0x80});  // -128
  const auto codes = codes_of(BlockType::q8_0, block);
  ASSERT_EQ(codes.size(), 256U);
  EXPECT_EQ(codes[0], 32U);
}

TEST(Stats, CodesOfKQuantsAreLeftOutWithAReason) {
  CheckpointBuilder builder;
  builder.blocks("b", BlockType::q4_K, {1, 256}, std::vector<std::byte>(144));
  const TensorStats stats = measure(builder.checkpoint(), 0);
  EXPECT_TRUE(stats.codes.empty());
  EXPECT_NE(stats.codes_missing, "");
  EXPECT_EQ(stats.count, 256U);
}

TEST(FindTensor, PrefersTheWholeNameAndTakesAUniquePart) {
  CheckpointBuilder builder;
  builder.dense("norm", DType::f32, {1}).dense("norm.weight", DType::f32, {1}).dense("head.weight", DType::f32, {1});
  EXPECT_EQ(find_tensor(builder.checkpoint(), "norm"), 0U);
  EXPECT_EQ(find_tensor(builder.checkpoint(), "head"), 2U);
}

TEST(FindTensor, RefusesWhatIsNoneOrSeveral) {
  CheckpointBuilder builder;
  builder.dense("a.weight", DType::f32, {1}).dense("b.weight", DType::f32, {1});
  for (const char* name : {"c", "weight"}) {
    try {
      find_tensor(builder.checkpoint(), name);
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::not_found);
    }
  }
}

}  // namespace
}  // namespace regauge::inspect
