#include "verify/compare.h"

#include <cmath>
#include <limits>
#include <utility>

#include <gtest/gtest.h>

#include "tests/support/tensors.h"

namespace regauge {
namespace {

using testing::dense_tensor;

std::map<std::string, Target> model(std::initializer_list<const Tensor*> tensors) {
  std::map<std::string, Target> targets;
  for (const Tensor* tensor : tensors) targets.emplace(tensor->name, as_it_is(*tensor));
  return targets;
}

TEST(CompareValues, OneChangedElementIsFoundAndMeasured) {
  std::vector<float> values(300, 1.0F);
  const Tensor a = dense_tensor("w", Shape{100, 3}, values);
  values[217] = std::nextafterf(std::nextafterf(1.0F, 2.0F), 2.0F);
  const Tensor b = dense_tensor("w", Shape{100, 3}, values);
  const Comparison comparison = compare_values(model({&a}), model({&b}));
  ASSERT_EQ(comparison.tensors.size(), 1U);
  EXPECT_EQ(comparison.tensors.front().elements, 300U);
  EXPECT_EQ(comparison.tensors.front().different, 1U);
  EXPECT_EQ(comparison.tensors.front().worst_ulps, 2U);
  EXPECT_EQ(comparison.tensors.front().worst, std::ldexp(1.0, -22));
}

TEST(CompareValues, ZerosAreEqualWhateverTheirSignAndSoAreNans) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor a = dense_tensor("w", Shape{1, 3}, std::vector<float>{0.0F, nan, 2.0F});
  const Tensor b = dense_tensor("w", Shape{1, 3}, std::vector<float>{-0.0F, -nan, 2.0F});
  const TensorDifference difference = compare_values(model({&a}), model({&b})).tensors.front();
  EXPECT_EQ(difference.different, 0U);
  EXPECT_EQ(difference.signed_zeros, 1U);
}

TEST(CompareValues, StepsAreCountedAcrossZero) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  const Tensor a = dense_tensor("w", Shape{1, 1}, std::vector<float>{tiny});
  const Tensor b = dense_tensor("w", Shape{1, 1}, std::vector<float>{-tiny});
  EXPECT_EQ(compare_values(model({&a}), model({&b})).tensors.front().worst_ulps, 2U);
}

TEST(CompareValues, WhatOnlyOneHasOrHasInAnotherShapeIsNamed) {
  const Tensor w = dense_tensor("w", Shape{2, 3}, std::vector<float>(6));
  const Tensor turned = dense_tensor("w", Shape{3, 2}, std::vector<float>(6));
  const Tensor left = dense_tensor("left", Shape{1}, std::vector<float>(1));
  const Tensor right = dense_tensor("right", Shape{1}, std::vector<float>(1));
  const Comparison comparison = compare_values(model({&w, &left}), model({&turned, &right}));
  EXPECT_TRUE(comparison.tensors.empty());
  EXPECT_EQ(comparison.only_first, std::vector<std::string>{"left"});
  EXPECT_EQ(comparison.only_second, std::vector<std::string>{"right"});
  EXPECT_EQ(comparison.other_shape, std::vector<std::string>{"w"});
}

}  // namespace
}  // namespace regauge
