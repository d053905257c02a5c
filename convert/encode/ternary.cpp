#include <algorithm>
#include <array>

#include "convert/encode/block_encoders.h"
#include "convert/encode/rounding.h"

namespace regauge::ggml_encode {
namespace {

/// Rounds to -1, 0 or 1 in steps of the largest magnitude and adds 1. An infinite inverse gives what the reference's
/// integer conversions make of it: the smallest integer, whose low bits are 0, plus 1.
unsigned ternary_code(float value, float inverse) noexcept {
  const int rounded = round_half_away(value * inverse);
  return rounded == std::numeric_limits<std::int32_t>::min() ? 1U : static_cast<unsigned>(rounded + 1);
}

/// Five digits to base 3 in a byte, the first one the most significant, as the smallest fraction of 256 above them.
std::uint8_t packed_digits(const float* x, std::size_t stride, std::size_t digits, float inverse) noexcept {
  unsigned number = 0;
  for (std::size_t n = 0; n < digits; ++n) number = 3 * number + ternary_code(x[n * stride], inverse);
  for (std::size_t n = digits; n < 5; ++n) number *= 3;
  return static_cast<std::uint8_t>((number * 256 + 242) / 243);
}

void encode_tq1_0_block(Values<256> x, Weights /*ignored*/, Block<54> out) noexcept {
  const float scale = magnitude(signed_extreme(x));
  const float inverse = reciprocal(scale);
  for (std::size_t m = 0; m < 32; ++m) out[m] = packed_digits(&x[m], 32, 5, inverse);
  for (std::size_t m = 0; m < 16; ++m) out[32 + m] = packed_digits(&x[160 + m], 16, 5, inverse);
  for (std::size_t m = 0; m < 4; ++m) out[48 + m] = packed_digits(&x[240 + m], 4, 4, inverse);
  put_f16(&out[52], scale);
}

void encode_tq2_0_block(Values<256> x, Weights /*ignored*/, Block<66> out) noexcept {
  const float scale = magnitude(signed_extreme(x));
  const float inverse = reciprocal(scale);
  for (std::size_t half = 0; half < 2; ++half) {
    for (std::size_t m = 0; m < 32; ++m) {
      const float* run = &x[128 * half + m];
      unsigned bits = 0;
      for (unsigned l = 0; l < 4; ++l) bits |= (ternary_code(run[32 * l], inverse) & 3U) << (2 * l);
      out[32 * half + m] = static_cast<std::uint8_t>(bits);
    }
  }
  put_f16(&out[64], scale);
}

void encode_q1_0_block(Values<128> x, Weights /*ignored*/, Block<18> out) noexcept {
  float sum = 0;
  for (const float value : x) sum += magnitude(value);
  put_f16(out.data(), sum / 128.0F);
  for (std::size_t i = 0; i < 16; ++i) {
    unsigned bits = 0;
    for (unsigned j = 0; j < 8; ++j) bits |= (x[8 * i + j] >= 0 ? 1U : 0U) << j;
    out[2 + i] = static_cast<std::uint8_t>(bits);
  }
}

void encode_q2_0_block(Values<64> x, Weights /*ignored*/, Block<18> out) noexcept {
  const float scale = magnitude(signed_extreme(x));
  const float inverse = reciprocal(scale);
  put_f16(out.data(), scale);
  for (std::size_t i = 0; i < 16; ++i) {
    unsigned bits = 0;
    for (unsigned j = 0; j < 4; ++j) {
      const int code = clamped(round_half_away(x[4 * i + j] * inverse), -1, 2) + 1;
      bits |= static_cast<unsigned>(code) << (2 * j);
    }
    out[2 + i] = static_cast<std::uint8_t>(bits);
  }
}

}  // namespace

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_tq1_0_ref.
void encode_tq1_0(Row row, Weights /*ignored*/, Blocks blocks) noexcept {
  for_each_block<256, 54>(row, {}, blocks, encode_tq1_0_block);
}

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_tq2_0_ref.
void encode_tq2_0(Row row, Weights /*ignored*/, Blocks blocks) noexcept {
  for_each_block<256, 66>(row, {}, blocks, encode_tq2_0_block);
}

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_q1_0_ref.
void encode_q1_0(Row row, Weights /*ignored*/, Blocks blocks) noexcept {
  for_each_block<128, 18>(row, {}, blocks, encode_q1_0_block);
}

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_q2_0_ref.
void encode_q2_0(Row row, Weights /*ignored*/, Blocks blocks) noexcept {
  for_each_block<64, 18>(row, {}, blocks, encode_q2_0_block);
}

}  // namespace regauge::ggml_encode
