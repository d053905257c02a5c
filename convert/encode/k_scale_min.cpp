#include <algorithm>
#include <array>
#include <cmath>

#include "convert/encode/block_encoders.h"
#include "convert/encode/ggml_arithmetic.h"
#include "convert/encode/k_block.h"
#include "convert/encode/scale_search.h"

namespace regauge::ggml_encode {
namespace {

/// How a type of this family searches.
struct Rules {
  std::size_t sub_blocks;
  int largest_code;
  int largest_scale;
  // Without importance; with it all try kWeightedSteps and minimise squares.
  ScaleSteps steps;
  ErrorNorm norm;
  /// Whether fitted scales, those with importance, are limited before they are packed, too.
  bool limits_fitted_scales;
};

constexpr Rules kQ2{16, 3, 15, {-0.5F, 0.1F, 15}, ErrorNorm::absolute, false};
constexpr Rules kQ4{8, 15, 63, {-1.0F, 0.1F, 20}, ErrorNorm::square, false};
constexpr Rules kQ5{8, 31, 63, {-0.5F, 0.1F, 15}, ErrorNorm::square, true};
constexpr ScaleSteps kWeightedSteps{.first = -0.9F, .step = 0.05F, .steps = 36};

/// Scales and minimums of the sub-blocks, and with weights what each sub-block weighs.
template <std::size_t SubBlocks>
struct Found {
  std::array<float, SubBlocks> scales{};
  std::array<float, SubBlocks> mins{};
  std::array<float, SubBlocks> weights{};
};

/// What each value of a super-block weighs. Without importance Q2_K takes magnitudes, the others add their root mean square.
template <const Rules& R>
void weigh(Values<256> x, Weights importance, std::array<float, 256>& weights) noexcept {
  if (!importance.empty()) {
    const float sum = sum_of_squares(x);
    const float mean = (R.sub_blocks == 16 ? sum : 2 * sum) / 256.0F;
    for (std::size_t i = 0; i < x.size(); ++i) weights[i] = importance[i] * std::sqrt(mean + x[i] * x[i]);
    return;
  }
  constexpr std::size_t kSize = 256 / R.sub_blocks;
  for (std::size_t sub = 0; sub < R.sub_blocks; ++sub) {
    const float mean =
        R.sub_blocks == 16 ? 0 : std::sqrt(sum_of_squares(x.subspan(kSize * sub, kSize)) / static_cast<float>(kSize));
    for (std::size_t i = kSize * sub; i < kSize * (sub + 1); ++i) weights[i] = mean + magnitude(x[i]);
  }
}

template <const Rules& R>
Found<R.sub_blocks> search(const Kernels& kernels, Values<256> x, Weights importance, Codes& codes) noexcept {
  std::array<float, 256> weights{};
  weigh<R>(x, importance, weights);
  constexpr std::size_t kSize = 256 / R.sub_blocks;
  std::array<ScaleMin, R.sub_blocks> best;
  kernels.search_scale_min({x.data(), weights.data(), kSize, R.sub_blocks}, R.largest_code,
                           importance.empty() ? R.steps : kWeightedSteps,
                           importance.empty() ? R.norm : ErrorNorm::square, best.data(), codes.data());
  Found<R.sub_blocks> found;
  for (std::size_t sub = 0; sub < R.sub_blocks; ++sub) {
    found.scales[sub] = best[sub].scale;
    found.mins[sub] = best[sub].min;
  }
  if (importance.empty()) return found;
  for (std::size_t i = 0; i < weights.size(); ++i) found.weights[i / kSize] += weights[i];
  return found;
}

/// Codes of values that are scales or minimums, and what one step of them is worth.
template <std::size_t SubBlocks>
struct Coded {
  std::array<std::uint8_t, SubBlocks> codes{};
  float step = 0;
};

template <std::size_t SubBlocks>
Coded<SubBlocks> code_scales(const std::array<float, SubBlocks>& values, int largest) noexcept {
  Coded<SubBlocks> coded;
  float max = 0;
  for (const float value : values) max = std::max(max, value);
  if (!(max > 0)) return coded;
  const auto top = static_cast<float>(largest);
  const float inverse = top / max;
  for (std::size_t i = 0; i < SubBlocks; ++i) {
    // The byte comes before the limit in the reference, which shows where a scale is negative; Q2_K has no limit.
    const auto code = static_cast<std::uint8_t>(nearest_int(inverse * values[i]));
    coded.codes[i] = SubBlocks == 16 ? code : static_cast<std::uint8_t>(std::min<int>(largest, code));
  }
  coded.step = max / top;
  return coded;
}

template <const Rules& R>
Coded<R.sub_blocks> fit_scales(const std::array<float, R.sub_blocks>& values,
                               const std::array<float, R.sub_blocks>& weights) noexcept {
  Coded<R.sub_blocks> coded;
  coded.step = search_positive_scale(values, weights, R.largest_scale, coded.codes);
  if constexpr (R.limits_fitted_scales) {
    for (std::uint8_t& code : coded.codes) code = static_cast<std::uint8_t>(std::min<int>(R.largest_scale, code));
  }
  return coded;
}

/// Stores codes of scales and minimums and gives back what a reader will find. Weights that leave few values can fit with a
/// negative scale, which wraps around in the reference's byte and spills into its neighbours' bits.
void exchange(std::array<std::uint8_t, 16>& scales, std::array<std::uint8_t, 16>& mins, std::uint8_t* out) noexcept {
  for (std::size_t j = 0; j < scales.size(); ++j) {
    out[j] = static_cast<std::uint8_t>(scales[j] | mins[j] << 4U);
    scales[j] = out[j] & 15U;
    mins[j] = out[j] >> 4U;
  }
}

/// The same for six bits each in 12 bytes, the inverse of scale_min of ir/decode/blocks_k.cpp.
void exchange(std::array<std::uint8_t, 8>& scales, std::array<std::uint8_t, 8>& mins, std::uint8_t* out) noexcept {
  for (std::size_t j = 0; j < 4; ++j) {
    out[j] = static_cast<std::uint8_t>(scales[j] | (scales[j + 4] >> 4U) << 6U);
    out[j + 4] = static_cast<std::uint8_t>(mins[j] | (mins[j + 4] >> 4U) << 6U);
    out[j + 8] = static_cast<std::uint8_t>((scales[j + 4] & 15U) | (mins[j + 4] & 15U) << 4U);
  }
  for (std::size_t j = 0; j < 4; ++j) {
    scales[j] = out[j] & 63U;
    mins[j] = out[j + 4] & 63U;
    scales[j + 4] = static_cast<std::uint8_t>((out[j + 8] & 15U) | (out[j] >> 6U) << 4U);
    mins[j + 4] = static_cast<std::uint8_t>(out[j + 8] >> 4U | (out[j + 4] >> 6U) << 4U);
  }
}

/// Searches, stores scales and minimums, and codes the values again with what a reader will take those for.
template <const Rules& R>
void encode_values(const Kernels& kernels, Values<256> x, Weights importance, std::uint8_t* d,
                   std::uint8_t* packed_scales, Codes& codes) noexcept {
  const Found<R.sub_blocks> found = search<R>(kernels, x, importance, codes);
  auto scales =
      importance.empty() ? code_scales(found.scales, R.largest_scale) : fit_scales<R>(found.scales, found.weights);
  auto mins = importance.empty() ? code_scales(found.mins, R.largest_scale) : fit_scales<R>(found.mins, found.weights);
  exchange(scales.codes, mins.codes, packed_scales);
  put_f16(d, scales.step);
  put_f16(d + 2, mins.step);
  const float scale_step = stored_f16(d);
  const float min_step = stored_f16(d + 2);
  std::array<float, R.sub_blocks> steps{};
  std::array<float, R.sub_blocks> offsets{};
  for (std::size_t sub = 0; sub < R.sub_blocks; ++sub) {
    steps[sub] = scale_step * static_cast<float>(scales.codes[sub]);
    offsets[sub] = min_step * static_cast<float>(mins.codes[sub]);
  }
  kernels.code_by_steps({x.data(), nullptr, 256 / R.sub_blocks, R.sub_blocks},
                        {steps.data(), offsets.data(), 0, R.largest_code}, codes.data());
}

/// Two sub-blocks to 32 bytes, the first in the low nibbles.
void put_nibble_pairs(const Codes& codes, std::uint8_t* out) noexcept {
  for (std::size_t pair = 0; pair < 4; ++pair) put_nibbles<32>(codes.data() + 64 * pair, out + 32 * pair);
}

void encode_q2_block(const Kernels& kernels, Values<256> x, Weights importance, Block<84> out) noexcept {
  Codes codes;
  encode_values<kQ2>(kernels, x, importance, &out[80], out.data(), codes);
  put_two_bit_codes(codes, &out[16]);
}

void encode_q4_block(const Kernels& kernels, Values<256> x, Weights importance, Block<144> out) noexcept {
  Codes codes;
  encode_values<kQ4>(kernels, x, importance, out.data(), &out[4], codes);
  put_nibble_pairs(codes, &out[16]);
}

void encode_q5_block(const Kernels& kernels, Values<256> x, Weights importance, Block<176> out) noexcept {
  Codes codes;
  encode_values<kQ5>(kernels, x, importance, out.data(), &out[4], codes);
  for (std::size_t l = 0; l < 32; ++l) {
    unsigned bits = 0;
    for (std::size_t sub = 0; sub < 8; ++sub) bits |= static_cast<unsigned>(codes[32 * sub + l] >> 4U) << sub;
    out[16 + l] = static_cast<std::uint8_t>(bits);
  }
  put_nibble_pairs(codes, &out[48]);
}

}  // namespace

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_q2_K_ref and quantize_row_q2_K_impl.
void encode_q2_k(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept {
  for_each_block<256, 84>(kernels, row, weights, blocks, encode_q2_block);
}

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_q4_K_ref and quantize_row_q4_K_impl.
void encode_q4_k(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept {
  for_each_block<256, 144>(kernels, row, weights, blocks, encode_q4_block);
}

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_q5_K_ref and quantize_row_q5_K_impl.
void encode_q5_k(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept {
  for_each_block<256, 176>(kernels, row, weights, blocks, encode_q5_block);
}

}  // namespace regauge::ggml_encode
