#include "inspect/scan.h"

#include <limits>

#include <gtest/gtest.h>

#include "tests/unit/inspect/checkpoint_builder.h"

namespace regauge::inspect {
namespace {

using testing::CheckpointBuilder;

ScanReport scan_all(CheckpointBuilder& builder) {
  return scan(builder.checkpoint(), nullptr, make_catalog(builder.checkpoint(), nullptr));
}

TEST(Scan, TellsRealActOrderFromAnIndexThatSaysNothing) {
  CheckpointBuilder builder;
  CheckpointBuilder::Gptq shuffled;
  shuffled.group = 32;
  for (int k = 0; k < 64; ++k) shuffled.group_of_column.push_back(k % 2);
  builder.gptq("trivial", 32, 64, {.group = 32}).gptq("shuffled", 32, 64, shuffled);
  const ScanReport report = scan_all(builder);
  EXPECT_EQ(report.indexed, 2U);
  EXPECT_EQ(report.act_order, std::vector<std::size_t>{1});
}

TEST(Scan, FindsZeroPointsAwayFromTheMiddle) {
  CheckpointBuilder builder;
  CheckpointBuilder::Gptq off;
  off.group = 32;
  off.zeros.assign(32, 8);
  off.zeros.back() = 7;
  builder.gptq("middle", 32, 32, {.group = 32}).gptq("off", 32, 32, off);
  const ScanReport report = scan_all(builder);
  EXPECT_EQ(report.with_zeros, 2U);
  EXPECT_EQ(report.asymmetric, std::vector<std::size_t>{1});
}

TEST(Scan, CountsNaNAndInfinityWhereTheyAre) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CheckpointBuilder builder;
  CheckpointBuilder::Gptq module;
  module.group = 32;
  module.scales.assign(32, 1.0F);
  module.scales[3] = kInf;
  builder.dense("w", DType::f32, {4}, CheckpointBuilder::bytes_of(std::vector<float>{nan, 1, nan, -kInf}))
      .dense("fine", DType::f32, {2}, CheckpointBuilder::bytes_of(std::vector<float>{1, 2}))
      .gptq("m", 32, 32, module);
  const ScanReport report = scan_all(builder);
  ASSERT_EQ(report.non_finite.size(), 2U);
  EXPECT_EQ(report.non_finite[0].tensor, 0U);
  EXPECT_EQ(report.non_finite[0].part, "values");
  EXPECT_EQ(report.non_finite[0].nan, 2U);
  EXPECT_EQ(report.non_finite[0].infinite, 1U);
  EXPECT_EQ(report.non_finite[1].part, "scales");
  EXPECT_EQ(report.non_finite[1].infinite, 1U);
}

TEST(Scan, ATensorThatCannotBeReadIsListedAndTheRestGoesOn) {
  CheckpointBuilder builder;
  CheckpointBuilder::Gptq broken;
  broken.group = 32;
  broken.group_of_column.assign(32, 9);  // there is one group
  builder.gptq("broken", 32, 32, broken).dense("fine", DType::f32, {2});
  builder.checkpoint().tensors.push_back({"odd", Shape{4}, Opaque{"I2_S"}, {}, {}});
  const ScanReport report = scan_all(builder);
  EXPECT_EQ(report.unread.size(), 1U);
  EXPECT_EQ(report.opaque, std::vector<std::size_t>{2});
  EXPECT_EQ(report.tensors_read, 1U);
}

TEST(Scan, ReportsProgressUpToTheWhole) {
  CheckpointBuilder builder;
  builder.dense("a", DType::f32, {100}).dense("b", DType::f32, {300});
  std::vector<std::pair<std::uint64_t, std::uint64_t>> steps;
  scan(builder.checkpoint(), nullptr, make_catalog(builder.checkpoint(), nullptr),
       [&](std::uint64_t done, std::uint64_t total) { steps.emplace_back(done, total); });
  const std::vector<std::pair<std::uint64_t, std::uint64_t>> expected{{400, 1600}, {1600, 1600}};
  EXPECT_EQ(steps, expected);
}

TEST(Scan, RowsOfNothingTakeNoTime) {
  CheckpointBuilder builder;
  builder.checkpoint().tensors.push_back({"hollow", Shape{std::int64_t{1} << 60, 0}, Dense{DType::f32}, {}, {}});
  EXPECT_EQ(scan_all(builder).tensors_read, 1U);
}

}  // namespace
}  // namespace regauge::inspect
