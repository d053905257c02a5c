#include <array>

#include "ir/decode/block_decoders.h"

namespace regauge::ggml_blocks {
namespace {

/// What the 16 codes stand for. Source: ggml-org/ggml src/ggml-common.h, kvalues_iq4nl.
constexpr std::array<float, 16> kUnevenLevels{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

}  // namespace

/// d: f16, qs: 16. The low nibbles are elements 0 to 15, the high ones 16 to 31.
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_iq4_nl.
void decode_iq4_nl(Block<18> block, Values<32> out) noexcept {
  const float d = f16_field(block, 0);
  const auto qs = block.subspan<2, 16>();
  for (std::size_t j = 0; j < 16; ++j) {
    out[j] = d * kUnevenLevels[qs[j] & 15];
    out[j + 16] = d * kUnevenLevels[qs[j] >> 4];
  }
}

/// d: f16, scales_h: u16 (two upper scale bits per sub-block), scales_l: 4 (four lower ones, low nibble first), qs:
/// 128. Eight sub-blocks of 32, each laid out as in iq4_nl; their 6-bit scales are offset by 32.
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_iq4_xs.
void decode_iq4_xs(Block<136> block, Values<256> out) noexcept {
  const float d = f16_field(block, 0);
  const unsigned scales_h = field<std::uint16_t>(block, 2);
  const auto scales_l = block.subspan<4, 4>();
  const auto qs = block.subspan<8, 128>();
  for (std::size_t sub = 0; sub < 8; ++sub) {
    const unsigned bits = ((scales_l[sub / 2] >> (4 * (sub % 2))) & 15U) | ((scales_h >> (2 * sub)) & 3U) << 4;
    const float scale = d * static_cast<float>(static_cast<int>(bits) - 32);
    for (std::size_t j = 0; j < 16; ++j) {
      out[32 * sub + j] = scale * kUnevenLevels[qs[16 * sub + j] & 15];
      out[32 * sub + 16 + j] = scale * kUnevenLevels[qs[16 * sub + j] >> 4];
    }
  }
}

}  // namespace regauge::ggml_blocks
