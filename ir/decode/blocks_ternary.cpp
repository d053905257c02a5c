#include <array>

#include "ir/decode/block_decoders.h"

namespace regauge::ggml_blocks {
namespace {

/// Ternary digit `n` of a byte that holds five of them as a fraction b / 256: multiplying by 3^n modulo 256 moves the
/// digit to the front, and the next multiplication by 3 carries it out above bit 7.
int ternary_digit(std::uint8_t byte, std::size_t n) noexcept {
  constexpr std::array<unsigned, 5> kPowersOfThree{1, 3, 9, 27, 81};
  const unsigned front = (byte * kPowersOfThree[n]) & 0xFFU;
  return static_cast<int>((front * 3) >> 8);
}

}  // namespace

/// qs: 48, qh: 4, d: f16. Digits 0, 1, 2 stand for -1, 0, 1. First the five digits of qs[0..31], digit by digit across
/// the 32 bytes; then those of qs[32..47] across 16 bytes; then the first four digits of qh across 4 bytes.
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_tq1_0.
void decode_tq1_0(Block<54> block, Values<256> out) noexcept {
  const float d = f16_field(block, 52);
  std::size_t i = 0;
  const auto decode_run = [&](std::size_t begin, std::size_t bytes, std::size_t digits) {
    for (std::size_t n = 0; n < digits; ++n) {
      for (std::size_t m = 0; m < bytes; ++m) {
        out[i++] = static_cast<float>(ternary_digit(block[begin + m], n) - 1) * d;
      }
    }
  };
  decode_run(0, 32, 5);
  decode_run(32, 16, 5);
  decode_run(48, 4, 4);
}

/// qs: 64, d: f16. Two-bit codes for -1, 0, 1 and (never written) 2; each 32 bytes hold 128 elements, the k-th run of
/// 32 in bits 2k and 2k + 1.
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_tq2_0.
void decode_tq2_0(Block<66> block, Values<256> out) noexcept {
  const float d = f16_field(block, 64);
  for (std::size_t i = 0; i < 256; ++i) {
    const std::uint8_t byte = block[i / 128 * 32 + i % 32];
    out[i] = static_cast<float>(((byte >> (i % 128 / 32 * 2)) & 3) - 1) * d;
  }
}

}  // namespace regauge::ggml_blocks
