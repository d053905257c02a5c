#include "base/checked.h"

#include <array>
#include <cstdint>
#include <limits>
#include <optional>

#include <gtest/gtest.h>

namespace regauge {
namespace {

constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();

TEST(CheckedArithmetic, GivesNothingExactlyWhenTheSumLeaves64Bits) {
  EXPECT_EQ(checked_add(kMax - 1, 1), kMax);
  EXPECT_EQ(checked_add(kMax, 1), std::nullopt);
  EXPECT_EQ(checked_add(kMax, kMax), std::nullopt);
}

TEST(CheckedArithmetic, GivesNothingExactlyWhenTheProductLeaves64Bits) {
  EXPECT_EQ(checked_mul(1ULL << 32, (1ULL << 32) - 1), 0xFFFFFFFF00000000ULL);
  EXPECT_EQ(checked_mul(1ULL << 32, 1ULL << 32), std::nullopt);
  EXPECT_EQ(checked_mul(kMax, 0), 0U);
}

TEST(CheckedProduct, MultipliesDimensions) {
  EXPECT_EQ(checked_product({}), 1);
  EXPECT_EQ(checked_product(std::array<std::int64_t, 3>{2, 3, 5}), 30);
  EXPECT_EQ(checked_product(std::array<std::int64_t, 2>{7, 0}), 0);
}

TEST(CheckedProduct, RefusesNegativeDimensionsAndOverflow) {
  EXPECT_EQ(checked_product(std::array<std::int64_t, 2>{4, -1}), std::nullopt);
  EXPECT_EQ(checked_product(std::array<std::int64_t, 2>{1LL << 62, 2}), std::nullopt);
  EXPECT_EQ(checked_product(std::array<std::int64_t, 2>{1LL << 32, 1LL << 32}), std::nullopt) << "wraps to exactly 0";
  EXPECT_EQ(checked_product(std::array<std::int64_t, 2>{(1LL << 62) - 1, 2}), 9223372036854775806);
}

TEST(CheckedProduct, AZeroDoesNotHideAnOverflowOfTheOthers) {
  EXPECT_EQ(checked_product(std::array<std::int64_t, 3>{1LL << 62, 4, 0}), std::nullopt);
  EXPECT_EQ(checked_product(std::array<std::int64_t, 3>{0, 1LL << 62, 4}), std::nullopt);
}

TEST(RoundUp, GoesToTheNextMultiple) {
  EXPECT_EQ(round_up(0, 32), 0U);
  EXPECT_EQ(round_up(1, 32), 32U);
  EXPECT_EQ(round_up(32, 32), 32U);
  EXPECT_EQ(round_up(33, 48), 48U);
}

}  // namespace
}  // namespace regauge
