#include "convert/route/affine_facts.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <variant>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/tensors.h"
#include "tests/unit/convert/targets.h"

namespace regauge {
namespace {

using testing::grouped_tensor;
using testing::GroupedSpec;
using testing::whole;

/// Rows of four groups of 32 columns with these scales, as F16 patterns.
GroupedSpec with_scales(const std::vector<std::uint16_t>& scales, std::vector<std::uint8_t> zeros = {}) {
  const auto rows = static_cast<std::int64_t>(scales.size() / 4);
  if (zeros.empty()) zeros.assign(scales.size(), 8);
  return {.rows = rows,
          .columns = 128,
          .bits = 4,
          .group = 32,
          .codes = std::vector<std::uint8_t>(static_cast<std::size_t>(rows) * 128, 3),
          .scales = scales,
          .zeros = std::move(zeros),
          .index = {}};
}

/// Which widths of 32, 64 and 128 columns share scale and zero point in every row, asked before facts() has read the data
/// and after: both must agree.
std::vector<bool> shared_widths(const GroupedSpec& spec) {
  const Tensor tensor = grouped_tensor("t", spec);
  const Target target = whole(tensor);
  auto source = AffineSource::of(target);
  const auto& affine = std::get<AffineSource>(source);
  const auto ask = [&] {
    std::vector<bool> shared;
    for (const std::int64_t width : {32, 64, 128}) shared.push_back(affine.groups_of(width).has_value());
    return shared;
  };
  const std::vector<bool> before = ask();
  affine.facts();
  EXPECT_EQ(ask(), before);
  return before;
}

constexpr std::uint16_t kOne = 0x3C00;
constexpr std::uint16_t kTwo = 0x4000;

TEST(AffineFacts, NeighbouringGroupsAreOneWhereEveryRowSaysSo) {
  EXPECT_EQ(shared_widths(with_scales({kOne, kOne, kOne, kOne, kTwo, kTwo, kTwo, kTwo})),
            (std::vector<bool>{true, true, true}));
  EXPECT_EQ(shared_widths(with_scales({kOne, kOne, kOne, kOne, kOne, kOne, kTwo, kTwo})),
            (std::vector<bool>{true, true, false}));
  EXPECT_EQ(shared_widths(with_scales({kOne, kOne, kOne, kOne, kOne, kTwo, kTwo, kTwo})),
            (std::vector<bool>{true, false, false}));
  // The last group of one row and the first of the next are no neighbours.
  EXPECT_EQ(shared_widths(with_scales({kOne, kOne, kTwo, kTwo, kTwo, kTwo, kOne, kOne})),
            (std::vector<bool>{true, true, false}));
}

TEST(AffineFacts, ZeroPointsTellGroupsApartAsScalesDo) {
  EXPECT_EQ(shared_widths(with_scales({kOne, kOne, kOne, kOne}, {8, 8, 7, 7})), (std::vector<bool>{true, true, false}));
  EXPECT_EQ(shared_widths(with_scales({kOne, kOne, kOne, kOne}, {8, 7, 8, 7})),
            (std::vector<bool>{true, false, false}));
}

// Equal groups are looked at once, so what is different must be found wherever it stands.
TEST(AffineFacts, SeesTheOneGroupThatDiffers) {
  for (std::size_t odd = 0; odd < 12; ++odd) {
    std::vector<std::uint16_t> scales(12, kOne);
    std::vector<std::uint8_t> zeros(12, 8);
    scales[odd] = 0x7C00;  // infinity
    zeros[odd] = 3;
    const Tensor tensor = grouped_tensor("t", with_scales(scales, zeros));
    const Target target = whole(tensor);
    auto source = AffineSource::of(target);
    const AffineFacts facts = std::get<AffineSource>(source).facts();
    EXPECT_FALSE(facts.finite) << odd;
    EXPECT_EQ(facts.zeros.low, 3) << odd;
    EXPECT_EQ(facts.zeros.high, 8) << odd;
  }
}

TEST(AffineFacts, DifferencesAreThoseOfEveryCodeAndItsOwnZeroPoint) {
  std::mt19937 random(9);
  GroupedSpec spec = with_scales(std::vector<std::uint16_t>(8, kOne));
  for (auto& zero : spec.zeros) zero = static_cast<std::uint8_t>(5 + random() % 6);
  for (auto& code : spec.codes) code = static_cast<std::uint8_t>(4 + random() % 8);
  int low = 99;
  int high = -99;
  for (std::size_t i = 0; i < spec.codes.size(); ++i) {
    const int difference = spec.codes[i] - spec.zeros[i / 32];
    low = std::min(low, difference);
    high = std::max(high, difference);
  }
  const Tensor tensor = grouped_tensor("t", spec);
  const Target target = whole(tensor);
  auto source = AffineSource::of(target);
  const IntRange range = std::get<AffineSource>(source).differences();
  EXPECT_EQ(range.low, low);
  EXPECT_EQ(range.high, high);
}

}  // namespace
}  // namespace regauge
