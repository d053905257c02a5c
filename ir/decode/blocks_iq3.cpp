#include "ir/decode/block_decoders.h"
#include "ir/decode/iq_signs.h"
#include "ir/decode/iq_tables.h"

namespace regauge::ggml_blocks {

/// d: f16, qs: 64 (an index per 4 elements), scales_and_signs: u32[8] (per 32 elements four times 7 sign bits and the
/// 4-bit scale on top).
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_iq3_xxs.
void decode_iq3_xxs(Block<98> block, Values<256> out) noexcept {
  const float d = f16_field(block, 0);
  const auto qs = block.subspan<2, 64>();
  for (std::size_t sub = 0; sub < 8; ++sub) {
    const auto packed = field<std::uint32_t>(block, 66 + 4 * sub);
    const float scale = d * (0.5F + static_cast<float>(packed >> 28)) * 0.5F;
    for (std::size_t l = 0; l < 4; ++l) {
      const unsigned signs = even_signs((packed >> (7 * l)) & 127U);
      const std::size_t at = 8 * sub + 2 * l;
      write_signed(kIq3XxsGrid[qs[at]], signs & 15U, scale, Values<4>(&out[4 * at], 4));
      write_signed(kIq3XxsGrid[qs[at + 1]], signs >> 4, scale, Values<4>(&out[4 * at + 4], 4));
    }
  }
}

/// d: f16, qs: 64 (low 8 bits of an index per 4 elements), qh: 8 (the ninth bit of eight indices each), signs: 32 (a
/// bit per element), scales: 4 (a nibble per 32 elements, low first).
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_iq3_s.
void decode_iq3_s(Block<110> block, Values<256> out) noexcept {
  const float d = f16_field(block, 0);
  const auto qs = block.subspan<2, 64>();
  const auto qh = block.subspan<66, 8>();
  const auto signs = block.subspan<74, 32>();
  const auto scales = block.subspan<106, 4>();
  for (std::size_t sub = 0; sub < 8; ++sub) {
    const int bits = (scales[sub / 2] >> (4 * (sub % 2))) & 15;
    const float scale = d * static_cast<float>(1 + 2 * bits);
    for (std::size_t at = 8 * sub; at < 8 * sub + 8; ++at) {
      const unsigned index = qs[at] | ((qh[sub] >> (at % 8)) & 1U) << 8;
      write_signed(kIq3SGrid[index], (signs[at / 2] >> (4 * (at % 2))) & 15U, scale, Values<4>(&out[4 * at], 4));
    }
  }
}

}  // namespace regauge::ggml_blocks
