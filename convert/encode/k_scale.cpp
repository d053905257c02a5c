#include <algorithm>
#include <array>
#include <cmath>

#include "convert/encode/block_encoders.h"
#include "convert/encode/ggml_arithmetic.h"
#include "convert/encode/k_block.h"
#include "convert/encode/scale_search.h"

namespace regauge::ggml_encode {
namespace {

using Scales = std::array<float, 16>;

/// The first of several scales of the largest magnitude.
float extreme_scale(const Scales& scales) noexcept { return signed_extreme(scales); }

/// Best scale of each sub-block of 16, and its codes. Without weights the squares are the weights.
Scales search_q6(const Kernels& kernels, Values<256> x, Weights importance, Codes& codes) noexcept {
  Scales scales{};
  std::array<float, 256> squares{};
  if (importance.empty()) {
    for (std::size_t i = 0; i < x.size(); ++i) squares[i] = x[i] * x[i];
    importance = squares;
  }
  kernels.search_scale({x.data(), importance.data(), 16, 16}, 32, scales.data(), codes.data());
  return scales;
}

/// The inverse of the layout of decode_q6_k.
void put_q6_codes(const Codes& codes, Block<210> out) noexcept {
  for (std::size_t half = 0; half < 2; ++half) {
    const std::uint8_t* run = codes.data() + 128 * half;
    std::uint8_t* low = out.data() + 64 * half;
    std::uint8_t* high = out.data() + 128 + 32 * half;
    for (std::size_t l = 0; l < 32; ++l) {
      low[l] = static_cast<std::uint8_t>((run[l] & 15U) | static_cast<unsigned>(run[l + 64]) << 4);
      low[l + 32] = static_cast<std::uint8_t>((run[l + 32] & 15U) | static_cast<unsigned>(run[l + 96]) << 4);
      high[l] = static_cast<std::uint8_t>(run[l] >> 4U | (run[l + 32] >> 4U) << 2U | (run[l + 64] >> 4U) << 4U |
                                          (run[l + 96] >> 4U) << 6U);
    }
  }
}

void encode_q6_block(const Kernels& kernels, Values<256> x, Weights importance, Block<210> out) noexcept {
  Codes codes;
  const Scales scales = search_q6(kernels, x, importance, codes);
  const float extreme = extreme_scale(scales);
  if (magnitude(extreme) < kNoMagnitude) {
    std::ranges::fill(out, std::uint8_t{0});
    return;
  }
  const float inverse = -128.0F / extreme;
  put_f16(&out[208], 1 / inverse);
  const float d = stored_f16(&out[208]);
  Scales steps;
  for (std::size_t sub = 0; sub < scales.size(); ++sub) {
    const auto scale = static_cast<std::int8_t>(std::min(127, nearest_int(inverse * scales[sub])));
    out[192 + sub] = static_cast<std::uint8_t>(scale);
    steps[sub] = d * static_cast<float>(scale);
  }
  kernels.code_by_steps({x.data(), nullptr, 16, 16}, {steps.data(), nullptr, -32, 31}, codes.data());
  put_q6_codes(codes, out);
}

/// Q3_K's 6-bit scales: low four bits in nibbles, sub-blocks 0..7 low and 8..15 high; upper two bits from byte 8 on.
void put_q3_scales(const std::array<std::uint8_t, 16>& scales, std::uint8_t* out) noexcept {
  std::fill_n(out, 12, std::uint8_t{0});
  for (std::size_t j = 0; j < scales.size(); ++j) {
    out[j % 8] |= static_cast<std::uint8_t>((scales[j] & 15U) << (j < 8 ? 0U : 4U));
    out[8 + j % 4] |= static_cast<std::uint8_t>((scales[j] >> 4U) << (2 * (j / 4)));
  }
}

struct Q3Scales {
  std::array<std::uint8_t, 16> codes;  ///< 32 added
  float scale = 0;
};

Q3Scales search_q3(Values<256> x, Codes& codes) noexcept {
  Scales scales{};
  for (std::size_t sub = 0; sub < scales.size(); ++sub) {
    scales[sub] = refine_scale(x.subspan(16 * sub, 16), 4, std::span(codes).subspan(16 * sub, 16));
  }
  const float extreme = extreme_scale(scales);
  Q3Scales found{};
  if (extreme == 0) return found;
  const float inverse = -32.0F / extreme;
  for (std::size_t sub = 0; sub < scales.size(); ++sub) {
    const auto code = static_cast<std::int8_t>(nearest_int(inverse * scales[sub]));
    found.codes[sub] = static_cast<std::uint8_t>(clamped(code, -32, 31) + 32);
  }
  found.scale = 1 / inverse;
  return found;
}

Q3Scales search_q3_weighted(const Kernels& kernels, Values<256> x, Weights importance, Codes& codes) noexcept {
  const float mean = 2 * sum_of_squares(x) / 256.0F;
  std::array<float, 256> weights{};
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = importance[i] * std::sqrt(mean + x[i] * x[i]);
  Scales scales{};
  kernels.search_scale({x.data(), weights.data(), 16, 16}, 4, scales.data(), codes.data());
  Scales sums{};
  for (std::size_t i = 0; i < weights.size(); ++i) sums[i / 16] += weights[i];
  Q3Scales found{};
  found.scale = search_scale(scales, sums, 32, found.codes);
  return found;
}

void encode_q3_block(const Kernels& kernels, Values<256> x, Weights importance, Block<110> out) noexcept {
  Codes codes;
  const Q3Scales scales = importance.empty() ? search_q3(x, codes) : search_q3_weighted(kernels, x, importance, codes);
  put_q3_scales(scales.codes, &out[96]);
  put_f16(&out[108], scales.scale);
  const float d = stored_f16(&out[108]);
  Scales steps;
  for (std::size_t sub = 0; sub < steps.size(); ++sub) steps[sub] = d * static_cast<float>(scales.codes[sub] - 32);
  kernels.code_by_steps({x.data(), nullptr, 16, 16}, {steps.data(), nullptr, -4, 3}, codes.data());
  std::fill_n(out.data(), 32, std::uint8_t{0});
  for (std::size_t i = 0; i < codes.size(); ++i) {
    out[i % 32] |= static_cast<std::uint8_t>((codes[i] > 3 ? 1U : 0U) << (i / 32));
    codes[i] &= 3U;
  }
  put_two_bit_codes(codes, &out[32]);
}

}  // namespace

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_q3_K_ref and quantize_row_q3_K_impl.
void encode_q3_k(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept {
  for_each_block<256, 110>(kernels, row, weights, blocks, encode_q3_block);
}

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_q6_K_ref and quantize_row_q6_K_impl.
void encode_q6_k(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept {
  for_each_block<256, 210>(kernels, row, weights, blocks, encode_q6_block);
}

}  // namespace regauge::ggml_encode
