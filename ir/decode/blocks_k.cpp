#include <array>

#include "ir/decode/block_decoders.h"

namespace regauge::ggml_blocks {
namespace {

/// The 6-bit scales and minimums of eight sub-blocks.
struct ScaleMins {
  std::array<std::uint8_t, 8> scales;
  std::array<std::uint8_t, 8> mins;
};

/// Q4_K's and Q5_K's, out of 12 bytes: sub-blocks 0 to 3 lie in the low six bits of bytes 0..3 (scale) and 4..7 (min); 4 to
/// 7 have their low four bits in the low (scale) and high (min) nibbles of bytes 8..11 and their upper two bits on top of
/// bytes 0..3 and 4..7. Source: ggml-org/ggml src/ggml-quants.c, get_scale_min_k4.
ScaleMins scale_mins(std::span<const std::uint8_t, 12> s) noexcept {
  ScaleMins out{};
  for (std::size_t j = 0; j < 4; ++j) {
    out.scales[j] = s[j] & 63;
    out.mins[j] = s[j + 4] & 63;
    out.scales[j + 4] = static_cast<std::uint8_t>((s[j + 8] & 15) | (s[j] >> 6) << 4);
    out.mins[j + 4] = static_cast<std::uint8_t>(s[j + 8] >> 4 | (s[j + 4] >> 6) << 4);
  }
  return out;
}

/// The 6-bit scales of Q3_K's 16 sub-blocks, offset by 32, out of 12 bytes: low four bits in the nibbles of bytes 0..7
/// (sub-blocks 0..7 low, 8..15 high), upper two bits in bytes 8..11, sub-block j in byte 8 + j % 4 at bit 2 * (j / 4).
std::array<int, 16> q3_scales(std::span<const std::uint8_t, 12> s) noexcept {
  std::array<int, 16> scales{};
  for (std::size_t j = 0; j < 16; ++j) {
    const int low = j < 8 ? s[j] & 15 : s[j - 8] >> 4;
    const int high = (s[8 + j % 4] >> (2 * (j / 4))) & 3;
    scales[j] = (low | high << 4) - 32;
  }
  return scales;
}

/// scales: 16 (low nibble scale, high nibble min), qs: 64, d: f16, dmin: f16. Sub-blocks of 16. Each half of 128
/// elements has 32 bytes of qs; its k-th run of 32 elements lies in bits 2k and 2k + 1 of them.
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_q2_K.
REGAUGE_BLOCK_DECODER decode_q2_k(Block<84> block, Values<256> out) noexcept {
  const auto scales = block.subspan<0, 16>();
  const auto qs = block.subspan<16, 64>();
  const float d = f16_field(block, 80);
  const float dmin = f16_field(block, 82);
  for (std::size_t sub = 0; sub < 16; ++sub) {
    const float scale = d * static_cast<float>(scales[sub] & 15);
    const float min = dmin * static_cast<float>(scales[sub] >> 4);
    const std::size_t first = sub / 8 * 32 + sub % 2 * 16;
    const std::size_t shift = sub % 8 / 2 * 2;
    REGAUGE_KEEP_LOOP
    for (std::size_t l = 0; l < 16; ++l) {
      out[16 * sub + l] = scale * static_cast<float>((qs[first + l] >> shift) & 3) - min;
    }
  }
}

/// hmask: 32, qs: 64, scales: 12, d: f16. Sub-blocks of 16, low two bits of a code as in q2_K. Bit r of hmask[l]
/// belongs to element l of the r-th run of 32; where it is clear, 4 is taken off.
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_q3_K.
REGAUGE_BLOCK_DECODER decode_q3_k(Block<110> block, Values<256> out) noexcept {
  const auto hmask = block.subspan<0, 32>();
  const auto qs = block.subspan<32, 64>();
  const auto scales = q3_scales(block.subspan<96, 12>());
  const float d = f16_field(block, 108);
  for (std::size_t sub = 0; sub < 16; ++sub) {
    const float scale = d * static_cast<float>(scales[sub]);
    const std::size_t half = sub / 8 * 32;
    const std::size_t first = sub % 2 * 16;
    const std::size_t shift = sub % 8 / 2 * 2;
    REGAUGE_KEEP_LOOP
    for (std::size_t l = 0; l < 16; ++l) {
      const int low = (qs[half + first + l] >> shift) & 3;
      const int high = (hmask[first + l] >> (sub / 2)) & 1;
      out[16 * sub + l] = scale * static_cast<float>(low - (high != 0 ? 0 : 4));
    }
  }
}

/// d: f16, dmin: f16, scales: 12, qs: 128. Sub-blocks of 32 in pairs: of 32 bytes of qs the low nibbles are the first
/// sub-block and the high nibbles the second.
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_q4_K.
REGAUGE_BLOCK_DECODER decode_q4_k(Block<144> block, Values<256> out) noexcept {
  const float d = f16_field(block, 0);
  const float dmin = f16_field(block, 2);
  const ScaleMins packed = scale_mins(block.subspan<4, 12>());
  const std::uint8_t* qs = block.data() + 16;
  float* values = out.data();
  for (std::size_t sub = 0; sub < 8; sub += 2, qs += 32, values += 64) {
    const float scale = d * static_cast<float>(packed.scales[sub]);
    const float min = dmin * static_cast<float>(packed.mins[sub]);
    for (std::size_t l = 0; l < 32; ++l) values[l] = scale * static_cast<float>(qs[l] & 15) - min;
    const float next_scale = d * static_cast<float>(packed.scales[sub + 1]);
    const float next_min = dmin * static_cast<float>(packed.mins[sub + 1]);
    for (std::size_t l = 0; l < 32; ++l) values[l + 32] = next_scale * static_cast<float>(qs[l] >> 4) - next_min;
  }
}

/// d: f16, dmin: f16, scales: 12, qh: 32, qs: 128. As q4_K, and bit `sub-block` of qh[l] is bit 4 of the code.
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_q5_K.
REGAUGE_BLOCK_DECODER decode_q5_k(Block<176> block, Values<256> out) noexcept {
  const float d = f16_field(block, 0);
  const float dmin = f16_field(block, 2);
  const ScaleMins packed = scale_mins(block.subspan<4, 12>());
  const std::uint8_t* qh = block.data() + 16;
  const std::uint8_t* qs = block.data() + 48;
  float* values = out.data();
  for (std::size_t sub = 0; sub < 8; sub += 2, qs += 32, values += 64) {
    const float scale = d * static_cast<float>(packed.scales[sub]);
    const float min = dmin * static_cast<float>(packed.mins[sub]);
    const float next_scale = d * static_cast<float>(packed.scales[sub + 1]);
    const float next_min = dmin * static_cast<float>(packed.mins[sub + 1]);
    // Bit 4 of a code is all or nothing of a mask: what is compared needs no shift that varies.
    const auto bit = static_cast<std::uint8_t>(1U << sub);
    const auto next_bit = static_cast<std::uint8_t>(2U << sub);
    for (std::size_t l = 0; l < 32; ++l) {
      const int code = (qs[l] & 15) + ((qh[l] & bit) != 0 ? 16 : 0);
      values[l] = scale * static_cast<float>(code) - min;
    }
    for (std::size_t l = 0; l < 32; ++l) {
      const int code = (qs[l] >> 4) + ((qh[l] & next_bit) != 0 ? 16 : 0);
      values[l + 32] = next_scale * static_cast<float>(code) - next_min;
    }
  }
}

/// ql: 128, qh: 64, scales: 16 signed, d: f16. Sub-blocks of 16, codes offset by 32. Each half of 128 elements has 64
/// bytes of ql and 32 of qh. Its k-th run of 32 takes its low four bits from 32 bytes of ql (the first 32 for k = 0 and
/// 2, low nibbles for k = 0 and 1) and its upper two from bits 2k and 2k + 1 of qh.
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_q6_K.
REGAUGE_BLOCK_DECODER decode_q6_k(Block<210> block, Values<256> out) noexcept {
  const auto ql = block.subspan<0, 128>();
  const auto qh = block.subspan<128, 64>();
  const auto scales = block.subspan<192, 16>();
  const float d = f16_field(block, 208);
  for (std::size_t sub = 0; sub < 16; ++sub) {
    const float scale = d * static_cast<float>(static_cast<std::int8_t>(scales[sub]));
    const std::size_t half = sub / 8;
    const std::size_t run = sub % 8 / 2;
    const std::size_t first = sub % 2 * 16;
    const std::size_t low_at = 64 * half + 32 * (run % 2) + first;
    const std::size_t high_at = 32 * half + first;
    REGAUGE_KEEP_LOOP
    for (std::size_t l = 0; l < 16; ++l) {
      const int low = (ql[low_at + l] >> (run / 2 * 4)) & 15;
      const int high = (qh[high_at + l] >> (2 * run)) & 3;
      out[16 * sub + l] = scale * static_cast<float>((low | high << 4) - 32);
    }
  }
}

/// d: f32, qs: 256 signed, bsums: i16[16] (sums over runs of 16, for dot products only).
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_q8_K.
REGAUGE_BLOCK_DECODER decode_q8_k(Block<292> block, Values<256> out) noexcept {
  const auto d = field<float>(block, 0);
  const auto qs = block.subspan<4, 256>();
  for (std::size_t i = 0; i < 256; ++i) out[i] = d * static_cast<float>(static_cast<std::int8_t>(qs[i]));
}

}  // namespace

Runs q2_k_runs() noexcept { return runs_of<84, 256, decode_q2_k>(); }
Runs q3_k_runs() noexcept { return runs_of<110, 256, decode_q3_k>(); }
Runs q4_k_runs() noexcept { return runs_of<144, 256, decode_q4_k>(); }
Runs q5_k_runs() noexcept { return runs_of<176, 256, decode_q5_k>(); }
Runs q6_k_runs() noexcept { return runs_of<210, 256, decode_q6_k>(); }
Runs q8_k_runs() noexcept { return runs_of<292, 256, decode_q8_k>(); }

}  // namespace regauge::ggml_blocks
