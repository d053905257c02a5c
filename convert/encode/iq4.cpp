#include <algorithm>
#include <array>
#include <cmath>

#include "convert/encode/block_encoders.h"
#include "convert/encode/ggml_arithmetic.h"
#include "convert/encode/k_block.h"
#include "convert/encode/scale_search.h"

namespace regauge::ggml_encode {
namespace {

/// The values that codes stand for. Source: ggml-org/ggml src/ggml-common.h, kvalues_iq4nl.
constexpr std::array<float, 16> kLevels{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/// The code of the level nearest to `value`, the upper one of two that are as near; NaN gives the last. The reference
/// compares the two distances after rounding. Both are exact near the middle, which is a multiple of 0.5, and far from it
/// rounding cannot turn them, so that comparing with the middle is the same.
std::uint8_t nearest_level(float value) noexcept {
  unsigned code = 0;
  for (std::size_t i = 0; i + 1 < kLevels.size(); ++i) {
    const float middle = (kLevels[i] + kLevels[i + 1]) / 2;
    code += value < middle ? 0U : 1U;
  }
  return static_cast<std::uint8_t>(code);
}

struct Fit {
  float levels_x = 0;
  float levels_squared = 0;
};

Fit fit_levels(std::span<const float> x, std::span<const float> w, float inverse) noexcept {
  Fit fit;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float level = kLevels[nearest_level(inverse * x[i])];
    fit.levels_x += w[i] * level * x[i];
    fit.levels_squared += w[i] * level * level;
  }
  return fit;
}

/// The best of fifteen scales around the one that makes the extreme value the first level, and that one's own.
float search_level_scale(std::span<const float> x, std::span<const float> w) noexcept {
  const float extreme = signed_extreme(x);
  if (magnitude(extreme) < kNoMagnitude) return 0;
  constexpr int kTries = 7;
  float scale = -extreme / kLevels[0];
  const Fit first = fit_levels(x, w, 1 / scale);
  scale = first.levels_squared > 0 ? first.levels_x / first.levels_squared : 0;
  float best = scale * first.levels_x;
  for (int step = -kTries; step <= kTries; ++step) {
    const float inverse = (static_cast<float>(step) + kLevels[0]) / extreme;
    const Fit fit = fit_levels(x, w, inverse);
    if (fit.levels_squared > 0 && fit.levels_x * fit.levels_x > best * fit.levels_squared) {
      scale = fit.levels_x / fit.levels_squared;
      best = scale * fit.levels_x;
    }
  }
  return scale;
}

/// The scale of each block of 32. Without importance the squares are the weights.
template <std::size_t Elements>
std::array<float, Elements / 32> search_scales(Values<Elements> x, Weights importance) noexcept {
  const float mean = sum_of_squares(x) * (2.0F / static_cast<float>(Elements));
  std::array<float, Elements / 32> scales{};
  for (std::size_t block = 0; block < scales.size(); ++block) {
    std::array<float, 32> weights{};
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const float square = x[32 * block + i] * x[32 * block + i];
      weights[i] = importance.empty() ? square : importance[32 * block + i] * std::sqrt(mean + square);
    }
    scales[block] = search_level_scale(x.subspan(32 * block, 32), weights);
  }
  return scales;
}

void put_codes(std::span<const float> x, float inverse, std::uint8_t* out) noexcept {
  for (std::size_t j = 0; j < 16; ++j) {
    const unsigned high = nearest_level(inverse * x[j + 16]);
    out[j] = static_cast<std::uint8_t>(nearest_level(inverse * x[j]) | high << 4U);
  }
}

void encode_iq4_nl_block(const Kernels& /*unused*/, Values<32> x, Weights importance, Block<18> out) noexcept {
  const float scale = search_scales(x, importance)[0];
  put_f16(out.data(), scale);
  put_codes(x, reciprocal(scale), &out[2]);
}

void encode_iq4_xs_block(const Kernels& /*unused*/, Values<256> x, Weights importance, Block<136> out) noexcept {
  const auto scales = search_scales(x, importance);
  // The stored scale is rounded to a half, what follows is worked out with the one that is not.
  const float d = -signed_extreme(scales) / 32.0F;
  const float inverse = reciprocal(d);
  put_f16(out.data(), d);
  std::fill_n(&out[2], 6, std::uint8_t{0});
  unsigned high_bits = 0;
  for (std::size_t block = 0; block < scales.size(); ++block) {
    const int code = clamped(nearest_int(inverse * scales[block]), -32, 31);
    put_codes(x.subspan(32 * block, 32), reciprocal(d * static_cast<float>(code)), &out[8 + 16 * block]);
    const auto stored = static_cast<unsigned>(code + 32);
    out[4 + block / 2] |= static_cast<std::uint8_t>((stored & 15U) << (block % 2 * 4));
    high_bits |= stored >> 4U << (2 * block);
  }
  put_u16(&out[2], static_cast<std::uint16_t>(high_bits));
}

}  // namespace

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_iq4_nl.
void encode_iq4_nl(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept {
  for_each_block<32, 18>(kernels, row, weights, blocks, encode_iq4_nl_block);
}

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_iq4_xs.
void encode_iq4_xs(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept {
  for_each_block<256, 136>(kernels, row, weights, blocks, encode_iq4_xs_block);
}

}  // namespace regauge::ggml_encode
