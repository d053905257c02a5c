#include "verify/measure.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "tests/support/tensors.h"

namespace regauge {
namespace {

using testing::dense_tensor;

Measured measured(const Tensor& a, const Tensor& b, int threads = 1) {
  const Target first = as_it_is(a);
  const Target second = as_it_is(b);
  return measure(std::vector{TargetPair{&first, &second}}, threads).front();
}

// By hand: differences 0, 1, 0, -2 against 3, 4, 0, 0.
TEST(Measure, GivesTheErrorsOfTheirDefinitions) {
  const Tensor a = dense_tensor("w", Shape{2, 2}, std::vector{3.0F, 5.0F, 0.0F, -2.0F});
  const Tensor b = dense_tensor("w", Shape{2, 2}, std::vector{3.0F, 4.0F, -0.0F, 0.0F});
  const Measured result = measured(a, b);
  EXPECT_EQ(result.elements, 4U);
  EXPECT_EQ(result.different, 2U);
  EXPECT_EQ(result.signed_zeros, 1U);
  EXPECT_EQ(result.worst, 2.0);
  EXPECT_EQ(result.worst_at, 3U);
  EXPECT_EQ(result.worst_first, -2.0F);
  EXPECT_EQ(result.worst_second, 0.0F);
  EXPECT_DOUBLE_EQ(result.rmse(), std::sqrt(5.0 / 4.0));
  EXPECT_DOUBLE_EQ(result.relative_error(), std::sqrt(5.0) / 5.0);
  EXPECT_DOUBLE_EQ(result.signal_to_noise(), 10 * std::log10(25.0 / 5.0));
  EXPECT_DOUBLE_EQ(result.cosine(), 29.0 / (std::sqrt(38.0) * 5.0));
}

TEST(Measure, TakesAnInfinityAgainstANumberAsTheWorst) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor a = dense_tensor("w", Shape{1, 4}, std::vector{infinity, nan, 1.0F, infinity});
  const Tensor b = dense_tensor("w", Shape{1, 4}, std::vector{infinity, nan, 1.5F, 2.0F});
  const Measured result = measured(a, b);
  EXPECT_EQ(result.different, 2U);
  EXPECT_EQ(result.unmatched, 1U);
  EXPECT_TRUE(std::isinf(result.worst));
  EXPECT_EQ(result.worst_at, 3U);
  EXPECT_TRUE(std::isinf(result.relative_error()));
}

TEST(Measure, DoesNotDependOnThreads) {
  std::vector<float> values(std::size_t{4000} * 600);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 977) * 0.37F;
  const Tensor a = dense_tensor("w", Shape{4000, 600}, values);
  for (std::size_t i = 0; i < values.size(); i += 13) values[i] += 0.001F * static_cast<float>(i % 7);
  values[1'999'999] = -1000;
  const Tensor b = dense_tensor("w", Shape{4000, 600}, values);
  const Measured one = measured(a, b, 1);
  const Measured three = measured(a, b, 3);
  EXPECT_EQ(one.worst_at, 1'999'999U);
  EXPECT_EQ(three.worst_at, one.worst_at);
  EXPECT_EQ(three.different, one.different);
  EXPECT_EQ(three.sum_error, one.sum_error);
  EXPECT_EQ(three.sum_product, one.sum_product);
}

// Codes 3 and zero points 8: -5 times a scale of 1 or 0.5. Steps are the first's scales.
TEST(Measure, GivesErrorsInStepsOfTheQuantizedSide) {
  testing::GroupedSpec spec{.rows = 1,
                            .columns = 64,
                            .bits = 4,
                            .group = 32,
                            .codes = std::vector<std::uint8_t>(64, 3),
                            .scales = {0x3C00, 0x3800},
                            .zeros = {},
                            .index = {}};
  const Tensor quantized = testing::grouped_tensor("w", spec);
  std::vector<float> wanted(64, -5.0F);
  std::fill(wanted.begin() + 32, wanted.end(), -2.5F);
  wanted[3] = -5.25F;    // a quarter of a step
  wanted[40] = -2.125F;  // three quarters
  const Tensor dense = dense_tensor("w", Shape{1, 64}, wanted);
  for (const Measured& result : {measured(quantized, dense), measured(dense, quantized)}) {
    EXPECT_EQ(result.stepped, 64U);
    EXPECT_DOUBLE_EQ(result.worst_steps, 0.75);
    EXPECT_DOUBLE_EQ(result.rms_steps(), std::sqrt((0.0625 + 0.5625) / 64));
    EXPECT_EQ(result.worst_at, 40U);
  }
  EXPECT_EQ(measured(dense, dense).stepped, 0U);
}

TEST(Measure, CountsErrorsByPowersOfTwo) {
  const Tensor a = dense_tensor("w", Shape{6}, std::vector{0.0F, 0.25F, 0.3F, 2.0F, 3e20F, 1e-30F});
  const Tensor b = dense_tensor("w", Shape{6}, std::vector<float>(6, 0.0F));
  const auto& counts = measured(a, b).errors.counts;
  EXPECT_EQ(counts[static_cast<std::size_t>(-2 - ErrorHistogram::kLowest)], 2U);
  EXPECT_EQ(counts[static_cast<std::size_t>(1 - ErrorHistogram::kLowest)], 1U);
  EXPECT_EQ(counts.front(), 1U);
  EXPECT_EQ(counts.back(), 1U);
}

TEST(Measure, OfNothingIsEqual) {
  const Tensor none = dense_tensor("w", Shape{3, 0}, {});
  EXPECT_TRUE(measured(none, none).equal());
}

}  // namespace
}  // namespace regauge
