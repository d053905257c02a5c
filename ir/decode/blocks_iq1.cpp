#include <array>

#include "ir/decode/block_decoders.h"
#include "ir/decode/iq_tables.h"

namespace regauge::ggml_blocks {
namespace {

/// What every element of a run is shifted by, up or down.
/// Source: ggml-org/ggml src/ggml-common.h, IQ1S_DELTA and IQ1M_DELTA.
constexpr float kDelta = 0.125F;

/// Writes scale * (element + delta) for the eight signed elements of an entry of the IQ1 codebook.
void write_shifted(unsigned index, float delta, float scale, Values<8> out) noexcept {
  const std::uint64_t entry = kIq1SGrid[index];
  for (std::size_t j = 0; j < 8; ++j) {
    const auto element = static_cast<std::int8_t>((entry >> (8 * j)) & 0xFFU);
    out[j] = scale * (static_cast<float>(element) + delta);
  }
}

}  // namespace

/// d: f16, qs: 32 (low 8 bits of an index per 8 elements), qh: u16[8] (per 32 elements, lowest first: four times 3
/// upper index bits, 3 bits of scale, sign of delta).
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_iq1_s.
void decode_iq1_s(Block<50> block, Values<256> out) noexcept {
  const float d = f16_field(block, 0);
  const auto qs = block.subspan<2, 32>();
  for (std::size_t sub = 0; sub < 8; ++sub) {
    const unsigned qh = field<std::uint16_t>(block, 34 + 2 * sub);
    const float scale = d * static_cast<float>(2 * ((qh >> 12) & 7U) + 1);
    const float delta = (qh & 0x8000U) != 0 ? -kDelta : kDelta;
    for (std::size_t l = 0; l < 4; ++l) {
      const std::size_t at = 4 * sub + l;
      write_shifted(qs[at] | ((qh >> (3 * l)) & 7U) << 8, delta, scale, Values<8>(&out[8 * at], 8));
    }
  }
}

/// qs: 32 (low 8 bits of an index per 8 elements), qh: 16 (a nibble per 8 elements, low first: 3 upper index bits and
/// the sign of delta), scales: u16[4]. The top nibbles of the four scale words are the f16 scale of the block, lowest
/// nibble first; the 12 bits below them are four 3-bit scales of 16 elements each.
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_iq1_m.
void decode_iq1_m(Block<56> block, Values<256> out) noexcept {
  const auto qs = block.subspan<0, 32>();
  const auto qh = block.subspan<32, 16>();
  std::array<unsigned, 4> words{};
  unsigned d_bits = 0;
  for (std::size_t k = 0; k < 4; ++k) {
    words[k] = field<std::uint16_t>(block, 48 + 2 * k);
    d_bits |= (words[k] >> 12) << (4 * k);
  }
  const float d = f16_to_f32(static_cast<std::uint16_t>(d_bits));
  for (std::size_t run = 0; run < 16; ++run) {
    const float scale = d * static_cast<float>(2 * ((words[run / 4] >> (3 * (run % 4))) & 7U) + 1);
    for (std::size_t at = 2 * run; at < 2 * run + 2; ++at) {
      const unsigned nibble = (qh[at / 2] >> (4 * (at % 2))) & 15U;
      const float delta = (nibble & 8U) != 0 ? -kDelta : kDelta;
      write_shifted(qs[at] | (nibble & 7U) << 8, delta, scale, Values<8>(&out[8 * at], 8));
    }
  }
}

}  // namespace regauge::ggml_blocks
