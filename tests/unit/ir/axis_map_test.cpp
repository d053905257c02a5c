#include "ir/axis_map.h"

#include <algorithm>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

#include "base/error.h"

namespace regauge {
namespace {

AxisMap random_permutation(std::mt19937& random, std::int64_t units, std::int64_t unit) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(units));
  std::iota(order.begin(), order.end(), 0);
  std::ranges::shuffle(order, random);
  std::vector<AxisMap::Run> runs;
  for (const std::int64_t i : order) runs.push_back({i * unit, unit});
  return AxisMap(runs);
}

TEST(AxisMap, JoinsNeighboursAndForgetsEmptyRuns) {
  const AxisMap map({{0, 4}, {9, 0}, {4, 4}, {2, 1}});
  EXPECT_EQ(map.runs(), (std::vector<AxisMap::Run>{{0, 8}, {2, 1}}));
  EXPECT_EQ(map.size(), 9);
  EXPECT_EQ(map[8], 2);
}

TEST(AxisMap, APermutationAndItsInverseCancelBothWays) {
  std::mt19937 random(7);
  for (int round = 0; round < 50; ++round) {
    const AxisMap map = random_permutation(random, 1 + round, 1 + round % 5);
    const auto back = map.inverse();
    ASSERT_TRUE(back);
    EXPECT_TRUE(map.then(*back).is_identity(map.size()));
    EXPECT_TRUE(back->then(map).is_identity(map.size()));
  }
}

TEST(AxisMap, CompositionIsIndexingTwice) {
  std::mt19937 random(8);
  for (int round = 0; round < 50; ++round) {
    const AxisMap first = random_permutation(random, 20, 3);
    const AxisMap second = random_permutation(random, 15, 4).slice(static_cast<std::int64_t>(random() % 10), 40);
    const AxisMap both = first.then(second);
    const auto indices = both.indices();
    for (std::int64_t i = 0; i < both.size(); ++i) {
      EXPECT_EQ(both[i], first[second[i]]);
      EXPECT_EQ(indices[static_cast<std::size_t>(i)], both[i]);
    }
  }
}

TEST(AxisMap, OnlyAPermutationOfTheWholeAxisHasAnInverse) {
  EXPECT_FALSE(AxisMap({{1, 3}}).inverse());
  EXPECT_FALSE(AxisMap({{0, 2}, {1, 2}}).inverse());
  EXPECT_FALSE(AxisMap({{0, 2}, {3, 2}}).inverse());
  EXPECT_TRUE(AxisMap({{2, 2}, {0, 2}}).inverse());
}

TEST(AxisMap, GroupsStayWholeOnlyWhenEveryRunIsAMultipleOfThem) {
  const AxisMap heads({{64, 64}, {0, 64}, {128, 64}});
  EXPECT_TRUE(heads.keeps_units(32));
  EXPECT_TRUE(heads.keeps_units(64));
  EXPECT_FALSE(heads.keeps_units(128));
  EXPECT_FALSE(AxisMap({{16, 16}, {0, 16}}).keeps_units(32));
}

TEST(AxisMap, IndicesOutsideAreErrors) {
  const AxisMap map = AxisMap::identity(4);
  EXPECT_THROW(map[4], Error);
  EXPECT_THROW(map[-1], Error);
  EXPECT_THROW(map.slice(2, 3), Error);
  EXPECT_THROW(AxisMap({{-1, 2}}), Error);
}

}  // namespace
}  // namespace regauge
