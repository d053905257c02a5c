#include "convert/route/affine_facts.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <variant>
#include <vector>

#include <gtest/gtest.h>

#include "base/half.h"
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

/// One row of groups of 32 four-bit codes with scales and biases in F32.
Tensor biased(const std::vector<float>& scales, const std::vector<float>& biases) {
  const auto groups = static_cast<std::int64_t>(scales.size());
  const std::vector<std::uint8_t> codes(scales.size() * 32, 1);
  Tensor tensor{.name = "t",
                .shape = {1, groups * 32},
                .encoding = Grouped{.bits = 4,
                                    .group = {1, 32},
                                    .scale = DType::f32,
                                    .offset = Offset::bias,
                                    .offset_dtype = DType::f32,
                                    .flavour = Flavour::mlx},
                .parts = {},
                .arrays = {}};
  tensor.parts.push_back(testing::memory_part<std::uint8_t>(PartId::codes, DType::u8, 1, groups * 32, codes));
  tensor.parts.push_back(testing::memory_part<float>(PartId::scales, DType::f32, 1, groups, scales));
  tensor.parts.push_back(testing::memory_part<float>(PartId::biases, DType::f32, 1, groups, biases));
  return tensor;
}

AffineFacts facts_of(const Tensor& tensor) {
  const Target target = whole(tensor);
  auto source = AffineSource::of(target);
  return std::get<AffineSource>(source).facts();
}

bool survives_f16(float value) {
  return std::isnan(value) ||
         std::bit_cast<std::uint32_t>(f16_to_f32(f32_to_f16(value))) == std::bit_cast<std::uint32_t>(value);
}

/// The same, one number at a time and by the conversions themselves.
void expect_facts(float scale, float bias) {
  const AffineFacts facts = facts_of(biased({scale}, {bias}));
  const WholeZero zero = whole_zero(scale, bias, 8);
  const bool finite = std::isfinite(scale * 15.0F) && std::isfinite(bias);
  const auto bf16 = [](float value) { return (std::bit_cast<std::uint32_t>(value) & 0xFFFFU) == 0; };
  const auto rounds = [](float value) { return std::isfinite(f16_to_f32(f32_to_f16(value))); };
  SCOPED_TRACE(::testing::Message() << std::hexfloat << scale << " " << bias);
  ASSERT_EQ(facts.finite, finite);
  ASSERT_EQ(facts.scales_fit_f16, survives_f16(scale));
  ASSERT_EQ(facts.scales_fit_bf16, bf16(scale));
  ASSERT_EQ(facts.biases_fit_f16, bias == 0.0F || survives_f16(bias));
  ASSERT_EQ(facts.biases_fit_bf16, bias == 0.0F || bf16(bias));
  ASSERT_EQ(facts.rounded_biases_fit_f16, rounds(scale) && rounds(bias));
  ASSERT_EQ(facts.zeros_exist, zero.exact);
  ASSERT_EQ(facts.zeros.low, zero.value);
  ASSERT_EQ(facts.zeros.high, zero.value);
}

TEST(AffineFacts, EveryKindOfNumberIsJudgedAsItsConversionsSay) {
  std::vector<float> numbers;
  for (std::uint32_t bits = 0; bits < 0x10000; bits += 7)
    numbers.push_back(f16_to_f32(static_cast<std::uint16_t>(bits)));
  // Around every border: of F16's subnormals, its largest numbers, of F32 itself.
  for (const float border : {0x1p-25F, 0x1p-24F, 0x1.8p-24F, 0x1p-14F, 0x1p-15F, 65504.0F, 65519.0F, 65520.0F, 65536.0F,
                             0x1p-126F, 0x1p-149F, 0x1.fffffep127F, 1.0F, 1e6F}) {
    for (const float sign : {1.0F, -1.0F}) {
      numbers.push_back(sign * border);
      numbers.push_back(std::nextafter(sign * border, 0.0F));
      numbers.push_back(std::nextafter(sign * border, sign * 0x1.fffffep127F));
    }
  }
  for (const float special : {0.0F, -0.0F, std::numeric_limits<float>::infinity(),
                              -std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
    numbers.push_back(special);
  std::mt19937 random(21);
  for (int i = 0; i < 5000; ++i) numbers.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(random())));
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const float scale = numbers[i];
    ASSERT_NO_FATAL_FAILURE(expect_facts(scale, numbers[(i * 7919 + 13) % numbers.size()]));
    // Biases that are whole multiples of the scale, and a little beside them.
    const float bias = -scale * static_cast<float>(random() % 40);
    ASSERT_NO_FATAL_FAILURE(expect_facts(scale, bias));
    ASSERT_NO_FATAL_FAILURE(expect_facts(scale, std::nextafter(bias, 1.0F)));
    ASSERT_NO_FATAL_FAILURE(expect_facts(scale, -scale * 2.5F));
  }
}

TEST(AffineFacts, AGroupIsSeenWhereverItStands) {
  for (const std::size_t count : {std::size_t{1}, std::size_t{15}, std::size_t{16}, std::size_t{17}, std::size_t{40}}) {
    for (std::size_t odd = 0; odd < count; ++odd) {
      std::vector<float> scales(count, 1.0F);
      std::vector<float> biases(count, -8.0F);
      EXPECT_TRUE(facts_of(biased(scales, biases)).scales_fit_f16);
      scales[odd] = 0x1.001p-9F;
      biases[odd] = 3.0F;
      const AffineFacts facts = facts_of(biased(scales, biases));
      EXPECT_FALSE(facts.scales_fit_f16) << odd << " of " << count;
      EXPECT_FALSE(facts.zeros_exist) << odd << " of " << count;
      EXPECT_EQ(facts.zeros.low, whole_zero(scales[odd], 3.0F, 8).value);
      EXPECT_EQ(facts.zeros.high, count == 1 ? facts.zeros.low : 8);
    }
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
