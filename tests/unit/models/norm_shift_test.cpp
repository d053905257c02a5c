#include "models/norm_shift.h"

#include <limits>
#include <vector>

#include <gtest/gtest.h>

namespace regauge {
namespace {

using Means = std::vector<double>;

TEST(NormShift, IsNoneWhereNormsLieAsStored) {
  EXPECT_EQ(norm_shift(Means{0.1, -0.2, 0.3, 0.05}, false), 0);
  EXPECT_EQ(norm_shift(Means{1.1, 0.8, 1.3, 1.05}, true), 0);
  EXPECT_EQ(norm_shift(Means{}, false), 0);
}

TEST(NormShift, CountsTheOnesTooManyOrTooFew) {
  EXPECT_EQ(norm_shift(Means{1.1, 0.8, 1.3, 1.05}, false), 1);
  EXPECT_EQ(norm_shift(Means{2.1, 1.8, 2.3, 2.05}, true), 1);
  EXPECT_EQ(norm_shift(Means{2.1, 1.8, 2.3, 2.05}, false), 2);
  EXPECT_EQ(norm_shift(Means{0.1, -0.2, 0.3, 0.05}, true), -1);
}

TEST(NormShift, NeedsThreeOfFourToAgree) {
  EXPECT_EQ(norm_shift(Means{1.1, 0.9, 1.0, 0.1}, false), 1);
  EXPECT_EQ(norm_shift(Means{1.1, 0.9, 1.0, 0.1, 0.2}, false), 0);
  // Means that are large, and not as 1 + w would make them.
  EXPECT_EQ(norm_shift(Means{0.7, 1.6, 2.4, 3.9, 0.2}, false), 0);
  EXPECT_EQ(norm_shift(Means{5, 6, 7}, false), 0);
}

TEST(NormShift, NumbersThatAreNoneVoteForNothing) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(norm_shift(Means{nan, nan, nan}, false), 0);
  EXPECT_EQ(norm_shift(Means{1.0, nan, nan, nan}, false), 0);
  EXPECT_EQ(norm_shift(Means{1.0, 1.1, 0.9, nan}, false), 1);
}

}  // namespace
}  // namespace regauge
