#pragma once

#include <cfloat>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/bytes.h"
#include "base/half.h"

// One decoder per block type, each for one block; decode_blocks (ir/decode/blocks.h) runs them over many. The comment
// at each definition gives the block's fields in order with their sizes in bytes (or their type) and the function of
// ggml that is the owner. Products and sums are written in the owner's order, because each of them rounds.

namespace regauge::ggml_blocks {

static_assert(FLT_EVAL_METHOD == 0, "wider intermediate results would change the bits of decoded values");

template <std::size_t Bytes>
using Block = std::span<const std::uint8_t, Bytes>;
template <std::size_t Elements>
using Values = std::span<float, Elements>;

/// A little-endian field at byte `offset` of a block.
template <typename T>
T field(std::span<const std::uint8_t> block, std::size_t offset) noexcept {
  return load_le<T>(std::as_bytes(block).data() + offset);
}

inline float f16_field(std::span<const std::uint8_t> block, std::size_t offset) noexcept {
  return f16_to_f32(field<std::uint16_t>(block, offset));
}

// blocks_legacy.cpp: one scale per block of equal codes.
void decode_q1_0(Block<18> block, Values<128> out) noexcept;
void decode_q2_0(Block<18> block, Values<64> out) noexcept;
void decode_q4_0(Block<18> block, Values<32> out) noexcept;
void decode_q4_1(Block<20> block, Values<32> out) noexcept;
void decode_q5_0(Block<22> block, Values<32> out) noexcept;
void decode_q5_1(Block<24> block, Values<32> out) noexcept;
void decode_q8_0(Block<34> block, Values<32> out) noexcept;

// blocks_k.cpp: super-blocks of 256 whose sub-blocks have small scales of their own.
void decode_q2_k(Block<84> block, Values<256> out) noexcept;
void decode_q3_k(Block<110> block, Values<256> out) noexcept;
void decode_q4_k(Block<144> block, Values<256> out) noexcept;
void decode_q5_k(Block<176> block, Values<256> out) noexcept;
void decode_q6_k(Block<210> block, Values<256> out) noexcept;
void decode_q8_k(Block<292> block, Values<256> out) noexcept;

// blocks_iq1.cpp, blocks_iq2.cpp, blocks_iq3.cpp: entries of a codebook. blocks_iq4.cpp: codes of an uneven scale.
void decode_iq1_s(Block<50> block, Values<256> out) noexcept;
void decode_iq1_m(Block<56> block, Values<256> out) noexcept;
void decode_iq2_xxs(Block<66> block, Values<256> out) noexcept;
void decode_iq2_xs(Block<74> block, Values<256> out) noexcept;
void decode_iq2_s(Block<82> block, Values<256> out) noexcept;
void decode_iq3_xxs(Block<98> block, Values<256> out) noexcept;
void decode_iq3_s(Block<110> block, Values<256> out) noexcept;
void decode_iq4_nl(Block<18> block, Values<32> out) noexcept;
void decode_iq4_xs(Block<136> block, Values<256> out) noexcept;

// blocks_ternary.cpp: -1, 0, 1.
void decode_tq1_0(Block<54> block, Values<256> out) noexcept;
void decode_tq2_0(Block<66> block, Values<256> out) noexcept;

// blocks_fp4.cpp: e2m1 codes.
void decode_mxfp4(Block<17> block, Values<32> out) noexcept;
void decode_nvfp4(Block<36> block, Values<64> out) noexcept;

}  // namespace regauge::ggml_blocks
