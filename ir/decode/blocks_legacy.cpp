#include "ir/decode/block_decoders.h"

namespace regauge::ggml_blocks {
namespace {

/// d: f16, qs: 16. Bit i counted from the lowest of byte 0 says +d or -d.
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_q1_0.
REGAUGE_BLOCK_DECODER decode_q1_0(Block<18> block, Values<128> out) noexcept {
  const float d = f16_field(block, 0);
  const auto qs = block.subspan<2, 16>();
  for (std::size_t i = 0; i < 128; ++i) out[i] = ((qs[i / 8] >> (i % 8)) & 1) != 0 ? d : -d;
}

/// d: f16, qs: 16. Two bits each, lowest first, for -1, 0, 1 and 2.
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_q2_0.
REGAUGE_BLOCK_DECODER decode_q2_0(Block<18> block, Values<64> out) noexcept {
  const float d = f16_field(block, 0);
  const auto qs = block.subspan<2, 16>();
  for (std::size_t i = 0; i < 64; ++i) out[i] = static_cast<float>(((qs[i / 4] >> (2 * (i % 4))) & 3) - 1) * d;
}

/// d: f16, qs: 16. The low nibbles are elements 0 to 15, the high ones 16 to 31; the codes are offset by 8.
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_q4_0.
REGAUGE_BLOCK_DECODER decode_q4_0(Block<18> block, Values<32> out) noexcept {
  const float d = f16_field(block, 0);
  const auto qs = block.subspan<2, 16>();
  REGAUGE_KEEP_LOOP
  for (std::size_t j = 0; j < 16; ++j) {
    out[j] = static_cast<float>((qs[j] & 15) - 8) * d;
    out[j + 16] = static_cast<float>((qs[j] >> 4) - 8) * d;
  }
}

/// d: f16, m: f16, qs: 16. Nibbles as in q4_0, without offset; m is added.
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_q4_1.
REGAUGE_BLOCK_DECODER decode_q4_1(Block<20> block, Values<32> out) noexcept {
  const float d = f16_field(block, 0);
  const float m = f16_field(block, 2);
  const auto qs = block.subspan<4, 16>();
  REGAUGE_KEEP_LOOP
  for (std::size_t j = 0; j < 16; ++j) {
    out[j] = static_cast<float>(qs[j] & 15) * d + m;
    out[j + 16] = static_cast<float>(qs[j] >> 4) * d + m;
  }
}

/// d: f16, qh: u32, qs: 16. Nibbles as in q4_0; bit i of qh is bit 4 of code i; the codes are offset by 16.
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_q5_0.
REGAUGE_BLOCK_DECODER decode_q5_0(Block<22> block, Values<32> out) noexcept {
  const float d = f16_field(block, 0);
  const auto qh = field<std::uint32_t>(block, 2);
  const auto qs = block.subspan<6, 16>();
  for (std::size_t j = 0; j < 16; ++j) {
    const auto low = static_cast<int>((qs[j] & 15U) | ((qh >> j) & 1U) << 4);
    const auto high = static_cast<int>((qs[j] >> 4U) | ((qh >> (j + 16)) & 1U) << 4);
    out[j] = static_cast<float>(low - 16) * d;
    out[j + 16] = static_cast<float>(high - 16) * d;
  }
}

/// d: f16, m: f16, qh: u32, qs: 16. Codes as in q5_0, without offset; m is added.
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_q5_1.
REGAUGE_BLOCK_DECODER decode_q5_1(Block<24> block, Values<32> out) noexcept {
  const float d = f16_field(block, 0);
  const float m = f16_field(block, 2);
  const auto qh = field<std::uint32_t>(block, 4);
  const auto qs = block.subspan<8, 16>();
  for (std::size_t j = 0; j < 16; ++j) {
    const auto low = static_cast<int>((qs[j] & 15U) | ((qh >> j) & 1U) << 4);
    const auto high = static_cast<int>((qs[j] >> 4U) | ((qh >> (j + 16)) & 1U) << 4);
    out[j] = static_cast<float>(low) * d + m;
    out[j + 16] = static_cast<float>(high) * d + m;
  }
}

/// d: f16, qs: 32 signed.
/// Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_q8_0.
REGAUGE_BLOCK_DECODER decode_q8_0(Block<34> block, Values<32> out) noexcept {
  const float d = f16_field(block, 0);
  const auto qs = block.subspan<2, 32>();
  for (std::size_t i = 0; i < 32; ++i) out[i] = static_cast<float>(static_cast<std::int8_t>(qs[i])) * d;
}

}  // namespace

Runs q1_0_runs() noexcept { return runs_of<18, 128, decode_q1_0>(); }
Runs q2_0_runs() noexcept { return runs_of<18, 64, decode_q2_0>(); }
Runs q4_0_runs() noexcept { return runs_of<18, 32, decode_q4_0>(); }
Runs q4_1_runs() noexcept { return runs_of<20, 32, decode_q4_1>(); }
Runs q5_0_runs() noexcept { return runs_of<22, 32, decode_q5_0>(); }
Runs q5_1_runs() noexcept { return runs_of<24, 32, decode_q5_1>(); }
Runs q8_0_runs() noexcept { return runs_of<34, 32, decode_q8_0>(); }

}  // namespace regauge::ggml_blocks
