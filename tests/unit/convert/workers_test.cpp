#include "convert/workers.h"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>

#include "convert/turnstile.h"

namespace regauge {
namespace {

TEST(Workers, DoEverythingOnceWithBuffersOfTheirOwn) {
  for (const int threads : {1, 2, 7}) {
    Workers workers(threads);
    std::vector<int> times(1000);
    std::vector<std::atomic<int>> inside(static_cast<std::size_t>(threads));
    std::atomic<bool> shared = false;
    workers.for_each(times.size(), [&](std::size_t i, std::size_t worker) {
      shared = shared || inside[worker]++ != 0;
      ++times[i];
      --inside[worker];
    });
    EXPECT_EQ(std::ranges::count(times, 1), 1000);
    EXPECT_FALSE(shared);
  }
}

TEST(Workers, OneAloneGoesInOrder) {
  std::vector<std::size_t> order;
  Workers(1).for_each(50, [&](std::size_t i, std::size_t) { order.push_back(i); });
  EXPECT_EQ(order.size(), 50U);
  EXPECT_TRUE(std::ranges::is_sorted(order));
}

TEST(Workers, StopAtTheFirstException) {
  std::atomic<std::size_t> begun = 0;
  const auto fail_early = [&](std::size_t i, std::size_t) {
    ++begun;
    if (i == 10) throw std::runtime_error("ten");
  };
  EXPECT_THROW(Workers(2).for_each(1'000'000, fail_early), std::runtime_error);
  EXPECT_LT(begun, 1'000'000U);
}

TEST(Turnstile, LetsEverybodyThroughInOrder) {
  Turnstile turnstile;
  std::vector<std::size_t> order;
  Workers(7).for_each(500, [&](std::size_t i, std::size_t) {
    ASSERT_TRUE(turnstile.wait(i));
    order.push_back(i);
    turnstile.pass();
  });
  EXPECT_EQ(order.size(), 500U);
  EXPECT_TRUE(std::ranges::is_sorted(order));
}

TEST(Turnstile, HoldsNobodyOnceItIsGivenUp) {
  Turnstile turnstile;
  std::atomic<int> turned_away = 0;
  Workers(4).for_each(4, [&](std::size_t i, std::size_t) {
    if (i == 0) {
      turnstile.give_up();
    } else if (!turnstile.wait(i)) {
      ++turned_away;
    }
  });
  EXPECT_EQ(turned_away, 3);
}

}  // namespace
}  // namespace regauge
