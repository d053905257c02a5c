#include <array>

#include "ir/decode/block_decoders.h"

namespace regauge::ggml_blocks {
namespace {

/// Ternary digit `n` of bytes that hold five of them each as a fraction b / 256: multiplying by 3^n modulo 256 moves the
/// digit to the front, and the next multiplication by 3 carries it out above bit 7.
template <std::size_t Bytes>
REGAUGE_BLOCK_DECODER decode_digits(const std::uint8_t* bytes, std::size_t n, float d, float* out) noexcept {
  constexpr std::array<unsigned, 5> kPowersOfThree{1, 3, 9, 27, 81};
  const unsigned power = kPowersOfThree[n];
  REGAUGE_KEEP_LOOP
  for (std::size_t m = 0; m < Bytes; ++m) {
    const unsigned front = (bytes[m] * power) & 0xFFU;
    out[m] = static_cast<float>(static_cast<int>((front * 3) >> 8) - 1) * d;
  }
}

/// qs: 48, qh: 4, d: f16. Digits 0, 1, 2 stand for -1, 0, 1. First the five digits of qs[0..31], digit by digit across
/// the 32 bytes; then those of qs[32..47] across 16 bytes; then the first four digits of qh across 4 bytes.
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_tq1_0.
REGAUGE_BLOCK_DECODER decode_tq1_0(Block<54> block, Values<256> out) noexcept {
  const float d = f16_field(block, 52);
  for (std::size_t n = 0; n < 5; ++n) decode_digits<32>(block.data(), n, d, out.data() + 32 * n);
  for (std::size_t n = 0; n < 5; ++n) decode_digits<16>(block.data() + 32, n, d, out.data() + 160 + 16 * n);
  for (std::size_t n = 0; n < 4; ++n) decode_digits<4>(block.data() + 48, n, d, out.data() + 240 + 4 * n);
}

/// qs: 64, d: f16. Two-bit codes for -1, 0, 1 and (never written) 2; each 32 bytes hold 128 elements, the k-th run of
/// 32 in bits 2k and 2k + 1.
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_tq2_0.
REGAUGE_BLOCK_DECODER decode_tq2_0(Block<66> block, Values<256> out) noexcept {
  const float d = f16_field(block, 64);
  for (std::size_t half = 0; half < 2; ++half) {
    const std::uint8_t* qs = block.data() + 32 * half;
    for (std::size_t k = 0; k < 4; ++k) {
      float* run = out.data() + 128 * half + 32 * k;
      REGAUGE_KEEP_LOOP
      for (std::size_t m = 0; m < 32; ++m) run[m] = static_cast<float>(((qs[m] >> (2 * k)) & 3) - 1) * d;
    }
  }
}

}  // namespace

Runs tq1_0_runs() noexcept { return runs_of<54, 256, decode_tq1_0>(); }
Runs tq2_0_runs() noexcept { return runs_of<66, 256, decode_tq2_0>(); }

}  // namespace regauge::ggml_blocks
