#include <array>

#include "ir/decode/block_decoders.h"

namespace regauge::ggml_blocks {
namespace {

/// e2m1 times two, so that it is an integer; the scales are halved in turn. Code 8 is +0: unlike f4_e2m1_to_f32, ggml
/// has no negative zero here. Source: ggml-org/ggml src/ggml-common.h, kvalues_mxfp4.
constexpr std::array<float, 16> kDoubledE2m1{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

}  // namespace

/// e: e8m0, qs: 16. The low nibbles are elements 0 to 15, the high ones 16 to 31.
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_mxfp4.
void decode_mxfp4(Block<17> block, Values<32> out) noexcept {
  const float d = f8_e8m0_half_to_f32(block[0]);
  const auto qs = block.subspan<1, 16>();
  for (std::size_t j = 0; j < 16; ++j) {
    out[j] = kDoubledE2m1[qs[j] & 15] * d;
    out[j + 16] = kDoubledE2m1[qs[j] >> 4] * d;
  }
}

/// d: e4m3[4] without sign, qs: 32. Four sub-blocks of 16 with 8 bytes each: low nibbles first, then high nibbles.
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_nvfp4; src/ggml-impl.h, ggml_ue4m3_to_fp32.
void decode_nvfp4(Block<36> block, Values<64> out) noexcept {
  const auto qs = block.subspan<4, 32>();
  for (std::size_t sub = 0; sub < 4; ++sub) {
    const float d = f8_e4m3_to_f32(block[sub], F8Flavour::ggml) * 0.5F;
    for (std::size_t j = 0; j < 8; ++j) {
      const std::uint8_t byte = qs[8 * sub + j];
      out[16 * sub + j] = kDoubledE2m1[byte & 15] * d;
      out[16 * sub + 8 + j] = kDoubledE2m1[byte >> 4] * d;
    }
  }
}

}  // namespace regauge::ggml_blocks
