#include <array>
#include <limits>

#include "convert/encode/block_encoders.h"
#include "convert/encode/ggml_arithmetic.h"
#include "convert/encode/k_block.h"

namespace regauge::ggml_encode {
namespace {

/// Rounds to -1, 0 or 1 in steps of `scale` and adds 1. A scale so small that it has no inverse makes all codes `otherwise`.
template <std::size_t Elements>
std::array<std::uint8_t, Elements> rounded(const Kernels& kernels, Values<Elements> x, float scale,
                                           std::uint8_t otherwise) noexcept {
  std::array<std::uint8_t, Elements> codes{};
  const float inverse = reciprocal(scale);
  if (inverse > std::numeric_limits<float>::max()) {
    codes.fill(otherwise);
    return codes;
  }
  kernels.round_scaled(x, inverse, codes.data());
  for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(code + 1U);
  return codes;
}

/// Up to five digits to base 3 in a byte, the first one the most significant, as the smallest fraction of 256 above them.
std::uint8_t packed_digits(const std::uint8_t* codes, std::size_t stride, std::size_t digits) noexcept {
  unsigned number = 0;
  for (std::size_t n = 0; n < digits; ++n) number = 3 * number + codes[n * stride];
  for (std::size_t n = digits; n < 5; ++n) number *= 3;
  return static_cast<std::uint8_t>((number * 256 + 242) / 243);
}

void encode_tq1_0_block(const Kernels& kernels, Values<256> x, Weights /*ignored*/, Block<54> out) noexcept {
  const float scale = magnitude(signed_extreme(x));
  const auto codes = rounded(kernels, x, scale, 1);
  for (std::size_t m = 0; m < 32; ++m) out[m] = packed_digits(&codes[m], 32, 5);
  for (std::size_t m = 0; m < 16; ++m) out[32 + m] = packed_digits(&codes[160 + m], 16, 5);
  for (std::size_t m = 0; m < 4; ++m) out[48 + m] = packed_digits(&codes[240 + m], 4, 4);
  put_f16(&out[52], scale);
}

void encode_tq2_0_block(const Kernels& kernels, Values<256> x, Weights /*ignored*/, Block<66> out) noexcept {
  const float scale = magnitude(signed_extreme(x));
  put_two_bit_codes(rounded(kernels, x, scale, 1), out.data());
  put_f16(&out[64], scale);
}

void encode_q1_0_block(const Kernels& /*unused*/, Values<128> x, Weights /*ignored*/, Block<18> out) noexcept {
  float sum = 0;
  for (const float value : x) sum += magnitude(value);
  put_f16(out.data(), sum / 128.0F);
  for (std::size_t i = 0; i < 16; ++i) {
    unsigned bits = 0;
    for (unsigned j = 0; j < 8; ++j) bits |= (x[8 * i + j] >= 0 ? 1U : 0U) << j;
    out[2 + i] = static_cast<std::uint8_t>(bits);
  }
}

void encode_q2_0_block(const Kernels& kernels, Values<64> x, Weights /*ignored*/, Block<18> out) noexcept {
  const float scale = magnitude(signed_extreme(x));
  // No value exceeds the scale, so code 3 is never used.
  const auto codes = rounded(kernels, x, scale, 0);
  put_f16(out.data(), scale);
  for (std::size_t i = 0; i < 16; ++i) {
    const std::uint8_t* four = &codes[4 * i];
    out[2 + i] = static_cast<std::uint8_t>(four[0] | four[1] << 2U | four[2] << 4U | four[3] << 6U);
  }
}

}  // namespace

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_tq1_0_ref.
void encode_tq1_0(const Kernels& kernels, Row row, Weights /*ignored*/, Blocks blocks) noexcept {
  for_each_block<256, 54>(kernels, row, {}, blocks, encode_tq1_0_block);
}

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_tq2_0_ref.
void encode_tq2_0(const Kernels& kernels, Row row, Weights /*ignored*/, Blocks blocks) noexcept {
  for_each_block<256, 66>(kernels, row, {}, blocks, encode_tq2_0_block);
}

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_q1_0_ref.
void encode_q1_0(const Kernels& kernels, Row row, Weights /*ignored*/, Blocks blocks) noexcept {
  for_each_block<128, 18>(kernels, row, {}, blocks, encode_q1_0_block);
}

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_q2_0_ref.
void encode_q2_0(const Kernels& kernels, Row row, Weights /*ignored*/, Blocks blocks) noexcept {
  for_each_block<64, 18>(kernels, row, {}, blocks, encode_q2_0_block);
}

}  // namespace regauge::ggml_encode
