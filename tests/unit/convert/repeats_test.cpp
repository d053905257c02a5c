#include "convert/route/repeats.h"

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace regauge {
namespace {

/// Whether every value of a row is the first one of its run, looked at one by one.
template <typename T>
bool repeats(const std::vector<T>& values, std::size_t per_row, std::size_t run) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t in_row = i % per_row;
    if (detail::pattern_of(values[i]) != detail::pattern_of(values[i - in_row % run])) return false;
  }
  return true;
}

template <typename T>
class RepeatsOf : public ::testing::Test {};
using Types = ::testing::Types<std::uint16_t, float>;
TYPED_TEST_SUITE(RepeatsOf, Types);

TYPED_TEST(RepeatsOf, RunsAreTheLongestThatEveryRowRepeats) {
  std::mt19937 random(11);
  for (const std::size_t per_row : {1U, 2U, 3U, 15U, 16U, 17U, 40U, 64U, 100U}) {
    for (std::size_t made = 1; made <= 128; made *= 2) {
      for (int broken = 0; broken < 4; ++broken) {
        std::vector<TypeParam> values(3 * per_row);
        for (std::size_t i = 0; i < values.size(); ++i) {
          const std::size_t in_row = i % per_row;
          values[i] = in_row % made == 0 ? static_cast<TypeParam>(random() % 3) : values[i - 1];
        }
        // Now and then one more that differs from its neighbours.
        if (broken != 0) values[random() % values.size()] = static_cast<TypeParam>(9);
        const std::size_t run = equal_run<TypeParam>(values, per_row, 128);
        EXPECT_TRUE(repeats(values, per_row, run)) << per_row << ", " << made;
        EXPECT_TRUE(run == 128 || !repeats(values, per_row, 2 * run)) << per_row << ", " << made;
        EXPECT_LE(equal_run<TypeParam>(values, per_row, 4), 4U);

        std::vector<TypeParam> kept = values;
        kept.resize(keep_first_of_runs<TypeParam>(kept, per_row, run));
        std::vector<TypeParam> expected;
        for (std::size_t i = 0; i < values.size(); ++i) {
          if (i % per_row % run == 0) expected.push_back(values[i]);
        }
        EXPECT_EQ(kept, expected);
      }
    }
  }
}

TEST(Repeats, ZerosOfEitherSignDifferAndNanIsItself) {
  const std::vector<float> zeros{0.0F, -0.0F};
  EXPECT_EQ(equal_run<float>(zeros, 2, 2), 1U);
  const std::vector<float> nans{NAN, NAN};
  EXPECT_EQ(equal_run<float>(nans, 2, 2), 2U);
}

}  // namespace
}  // namespace regauge
