#include "verify/measure.h"

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

TEST(Measure, OfNothingIsEqual) {
  const Tensor none = dense_tensor("w", Shape{3, 0}, {});
  EXPECT_TRUE(measured(none, none).equal());
}

}  // namespace
}  // namespace regauge
