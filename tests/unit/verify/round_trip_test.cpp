#include "verify/round_trip.h"

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/tensors.h"

namespace regauge {
namespace {

using testing::dense_tensor;
using testing::grouped_tensor;
using testing::GroupedSpec;

GroupedSpec codes_of(std::uint8_t code, std::uint16_t scale) {
  return {.rows = 2,
          .columns = 64,
          .bits = 4,
          .group = 32,
          .codes = std::vector<std::uint8_t>(128, code),
          .scales = std::vector<std::uint16_t>(4, scale),
          .zeros = {},
          .index = {}};
}

RoundTrip returned(std::vector<Tensor> before, std::vector<Tensor> after, const RoundTripOptions& options = {}) {
  Checkpoint first;
  first.tensors = std::move(before);
  Checkpoint second;
  second.tensors = std::move(after);
  return compare_round_trip(std::vector{OpenedPath{&first, nullptr}}, std::vector{OpenedPath{&second, nullptr}},
                            options);
}

Returned returned(Tensor before, Tensor after) {
  return returned(std::vector{std::move(before)}, std::vector{std::move(after)}).tensors.front();
}

// Code 9 is 1 times the scale; 0x3C00 is 1 and 0x4000 is 2.
TEST(RoundTrip, TellsCodesFromValues) {
  const Tensor source = grouped_tensor("w", codes_of(9, 0x3C00));
  EXPECT_EQ(returned(source, grouped_tensor("w", codes_of(9, 0x3C00))), (Returned{false, true, true}));
  EXPECT_EQ(returned(source, grouped_tensor("w", codes_of(9, 0x4000))), (Returned{false, true, false}));
  EXPECT_EQ(returned(source, grouped_tensor("w", codes_of(10, 0x3800))), (Returned{false, false, true}));
  const std::vector<float> ones(128, 1.0F);
  EXPECT_EQ(returned(source, dense_tensor("w", Shape{2, 64}, ones)), (Returned{false, false, true}));
  EXPECT_EQ(returned(dense_tensor("w", Shape{2, 64}, ones), source), (Returned{false, {}, true}));
}

TEST(RoundTrip, LosesWhatDoesNotComeBackUnlessItWasLeftOutOnPurpose) {
  const std::vector<float> values(4, 1.0F);
  const auto both = [&] {
    return std::vector{dense_tensor("a", Shape{4}, values), dense_tensor("b", Shape{4}, values)};
  };
  const auto one = [&] { return std::vector{dense_tensor("a", Shape{4}, values)}; };
  const RoundTrip lost = returned(both(), one());
  EXPECT_FALSE(lost.survived());
  EXPECT_EQ(lost.whole.tensors, 2U);
  EXPECT_EQ(lost.whole.missing, 1U);
  EXPECT_EQ(lost.whole.lost(), 1U);
  const RoundTrip dropped = returned(both(), one(), {.left_out = {Component::other}, .threads = 1});
  EXPECT_TRUE(dropped.survived());
  EXPECT_EQ(dropped.left_out, std::vector<std::string>{"b"});
  EXPECT_FALSE(returned(one(), both()).survived());
  EXPECT_TRUE(returned(both(), both()).survived());
}

TEST(RoundTrip, OfNothingIsNoProof) { EXPECT_FALSE(returned(std::vector<Tensor>{}, {}).survived()); }

}  // namespace
}  // namespace regauge
