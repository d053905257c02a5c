#include "ir/decode/block_decoders.h"
#include "ir/decode/iq_signs.h"
#include "ir/decode/iq_tables.h"

namespace regauge::ggml_blocks {
namespace {

/// The scale of a sub-block from its four bits: d * (0.5 + bits) / 4, in this order.
float iq2_scale(float d, unsigned bits) noexcept { return d * (0.5F + static_cast<float>(bits)) * 0.25F; }

}  // namespace

/// d: f16, then per sub-block of 32 elements: index: 4, and u32 with four times 7 sign bits and the 4-bit scale on top.
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_iq2_xxs.
void decode_iq2_xxs(Block<66> block, Values<256> out) noexcept {
  const float d = f16_field(block, 0);
  for (std::size_t sub = 0; sub < 8; ++sub) {
    const auto packed = field<std::uint32_t>(block, 2 + 8 * sub + 4);
    const float scale = iq2_scale(d, packed >> 28);
    for (std::size_t l = 0; l < 4; ++l) {
      const std::uint64_t entry = kIq2XxsGrid[block[2 + 8 * sub + l]];
      write_signed(entry, even_signs((packed >> (7 * l)) & 127U), scale, Values<8>(&out[32 * sub + 8 * l], 8));
    }
  }
}

/// d: f16, qs: u16[32] (9 bits of index, 7 of signs), scales: 8 (a nibble per 16 elements, low first).
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_iq2_xs.
void decode_iq2_xs(Block<74> block, Values<256> out) noexcept {
  const float d = f16_field(block, 0);
  const auto scales = block.subspan<66, 8>();
  for (std::size_t run = 0; run < 16; ++run) {
    const float scale = iq2_scale(d, (scales[run / 2] >> (4 * (run % 2))) & 15U);
    for (std::size_t at = 2 * run; at < 2 * run + 2; ++at) {
      const unsigned q = field<std::uint16_t>(block, 2 + 2 * at);
      write_signed(kIq2XsGrid[q & 511U], even_signs(q >> 9), scale, Values<8>(&out[8 * at], 8));
    }
  }
}

/// d: f16, qs: 32 (low 8 bits of an index per 8 elements), signs: 32 (a bit per element), qh: 8 (two upper bits of four
/// indices each), scales: 8 as in iq2_xs.
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_iq2_s.
void decode_iq2_s(Block<82> block, Values<256> out) noexcept {
  const float d = f16_field(block, 0);
  const auto qs = block.subspan<2, 32>();
  const auto signs = block.subspan<34, 32>();
  const auto qh = block.subspan<66, 8>();
  const auto scales = block.subspan<74, 8>();
  for (std::size_t run = 0; run < 16; ++run) {
    const float scale = iq2_scale(d, (scales[run / 2] >> (4 * (run % 2))) & 15U);
    for (std::size_t at = 2 * run; at < 2 * run + 2; ++at) {
      const unsigned index = qs[at] | ((qh[at / 4] >> (2 * (at % 4))) & 3U) << 8;
      write_signed(kIq2SGrid[index], signs[at], scale, Values<8>(&out[8 * at], 8));
    }
  }
}

}  // namespace regauge::ggml_blocks
