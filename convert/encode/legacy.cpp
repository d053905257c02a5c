#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "convert/encode/block_encoders.h"
#include "convert/encode/rounding.h"
#include "convert/encode/scale_search.h"

namespace regauge::ggml_encode {
namespace {

using Codes = std::array<std::uint8_t, 32>;

/// Low nibbles hold the first half of the block, high ones the second.
void put_nibbles(const Codes& codes, std::uint8_t* out) noexcept {
  for (std::size_t j = 0; j < 16; ++j) {
    out[j] = static_cast<std::uint8_t>((codes[j] & 15U) | static_cast<unsigned>(codes[j + 16]) << 4);
  }
}

/// The fifth bits of 32 codes: that of code i is bit i.
void put_fifth_bits(const Codes& codes, std::uint8_t* out) noexcept {
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < codes.size(); ++i) bits |= static_cast<std::uint32_t>((codes[i] >> 4U) & 1U) << i;
  std::memcpy(out, &bits, sizeof bits);
}

/// Symmetric codes around `half`: the extreme value becomes -half exactly, which is why its sign is turned.
float symmetric_codes(Values<32> x, int half, Codes& codes) noexcept {
  const float scale = signed_extreme(x) / static_cast<float>(-half);
  const float inverse = reciprocal(scale);
  for (std::size_t i = 0; i < x.size(); ++i) {
    // The reference goes through a signed byte, which a scale with an infinite inverse makes 0.
    const auto code = static_cast<std::int8_t>(truncated(x[i] * inverse + (static_cast<float>(half) + 0.5F)));
    codes[i] = static_cast<std::uint8_t>(std::min<int>(2 * half - 1, code));
  }
  return scale;
}

/// Codes 0..largest from the smallest value on.
ScaleMin affine_codes(Values<32> x, int largest, Codes& codes) noexcept {
  float min = std::numeric_limits<float>::max();
  float max = -std::numeric_limits<float>::max();
  for (const float value : x) {
    if (value < min) min = value;
    if (value > max) max = value;
  }
  const float scale = (max - min) / static_cast<float>(largest);
  const float inverse = reciprocal(scale);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto code = static_cast<std::int8_t>(truncated((x[i] - min) * inverse + 0.5F));
    codes[i] = static_cast<std::uint8_t>(std::min<int>(largest, code));
  }
  return {scale, min};
}

/// Weights of a block within a row whose mean square is `mean`.
std::array<float, 32> weights_of(Values<32> x, Weights importance, float mean) noexcept {
  std::array<float, 32> weights{};
  for (std::size_t i = 0; i < x.size(); ++i) weights[i] = importance[i] * std::sqrt(mean + x[i] * x[i]);
  return weights;
}

float mean_square(Row row) noexcept { return sum_of_squares(row) / static_cast<float>(row.size()); }

/// Runs encode_block(values, codes) -> scale without weights, or the search for a scale with them.
float symmetric(Values<32> x, Weights importance, float mean, int half, Codes& codes) noexcept {
  if (importance.empty()) return symmetric_codes(x, half, codes);
  return search_scale(x, weights_of(x, importance, mean), half, codes);
}

ScaleMin affine(Values<32> x, Weights importance, float mean, int largest, Codes& codes) noexcept {
  if (importance.empty()) return affine_codes(x, largest, codes);
  constexpr ScaleSteps kSteps{.first = -0.9F, .step = 0.05F, .steps = 36};
  const ScaleMin found =
      search_scale_min(x, weights_of(x, importance, mean), largest, kSteps, ErrorNorm::square, codes);
  return {found.scale, -found.min};
}

}  // namespace

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_q4_0_ref and quantize_q4_0.
void encode_q4_0(Row row, Weights weights, Blocks blocks) noexcept {
  const float mean = weights.empty() ? 0 : mean_square(row);
  for_each_block<32, 18>(row, weights, blocks, [&](Values<32> x, Weights w, Block<18> out) {
    Codes codes;
    put_f16(out.data(), symmetric(x, w, mean, 8, codes));
    put_nibbles(codes, &out[2]);
  });
}

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_q4_1_ref and quantize_q4_1.
void encode_q4_1(Row row, Weights weights, Blocks blocks) noexcept {
  const float mean = weights.empty() ? 0 : mean_square(row);
  for_each_block<32, 20>(row, weights, blocks, [&](Values<32> x, Weights w, Block<20> out) {
    Codes codes;
    const ScaleMin found = affine(x, w, mean, 15, codes);
    put_f16(out.data(), found.scale);
    put_f16(&out[2], found.min);
    put_nibbles(codes, &out[4]);
  });
}

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_q5_0_ref and quantize_q5_0.
void encode_q5_0(Row row, Weights weights, Blocks blocks) noexcept {
  const float mean = weights.empty() ? 0 : mean_square(row);
  for_each_block<32, 22>(row, weights, blocks, [&](Values<32> x, Weights w, Block<22> out) {
    Codes codes;
    put_f16(out.data(), symmetric(x, w, mean, 16, codes));
    put_fifth_bits(codes, &out[2]);
    put_nibbles(codes, &out[6]);
  });
}

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_q5_1_ref and quantize_q5_1.
void encode_q5_1(Row row, Weights weights, Blocks blocks) noexcept {
  const float mean = weights.empty() ? 0 : mean_square(row);
  for_each_block<32, 24>(row, weights, blocks, [&](Values<32> x, Weights w, Block<24> out) {
    Codes codes;
    const ScaleMin found = affine(x, w, mean, 31, codes);
    put_f16(out.data(), found.scale);
    put_f16(&out[2], found.min);
    put_fifth_bits(codes, &out[4]);
    put_nibbles(codes, &out[8]);
  });
}

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_q8_0_ref.
void encode_q8_0(Row row, Weights /*ignored*/, Blocks blocks) noexcept {
  for_each_block<32, 34>(row, {}, blocks, [](Values<32> x, Weights, Block<34> out) {
    const float scale = magnitude(signed_extreme(x)) / 127.0F;
    const float inverse = reciprocal(scale);
    put_f16(out.data(), scale);
    for (std::size_t i = 0; i < x.size(); ++i) out[2 + i] = static_cast<std::uint8_t>(round_half_away(x[i] * inverse));
  });
}

}  // namespace regauge::ggml_encode
