#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "ir/ggml_type.h"

namespace regauge::layouts {

// Legacy ggml blocks taken apart into codes and scales, and put together again. Bits only: nothing here computes with a
// scale. Spans cover whole blocks, one row or several that follow one another. Sources: ggml-org/ggml
// src/ggml-common.h (the structs) and src/ggml-quants.c (the dequantize_row_ functions).

/// Width of the codes of q4_0 q4_1 q5_0 q5_1 q8_0 q2_0 mxfp4 nvfp4. q8_0 codes are signed bytes (two's complement), those
/// of mxfp4 and nvfp4 are e2m1 bits, all others unsigned. Throws Error{invalid} for any other type.
int block_code_bits(BlockType type);

/// Whether a block of this type has a minimum (q4_1, q5_1) beside its scale. Throws as block_code_bits.
bool block_has_minimum(BlockType type);

/// Assembles q4_0 q4_1 q5_0 q5_1 q8_0 q2_0 blocks: `codes` one byte each, `d_bits` (and `m_bits` where the type has a
/// minimum, else empty) one f16 pattern per block, `out` all bytes of the blocks. Throws Error{invalid} for another type
/// or a code that does not fit (`out` then holds nothing of use), Error{internal} when a span has another size.
void pack_blocks_row(BlockType type, std::span<const std::uint8_t> codes, std::span<const std::uint16_t> d_bits,
                     std::span<const std::uint16_t> m_bits, std::span<std::byte> out);

/// The inverse of pack_blocks_row: every bit of `blocks` comes out in one of the pieces.
void unpack_blocks_row(BlockType type, std::span<const std::byte> blocks, std::span<std::uint8_t> codes,
                       std::span<std::uint16_t> d_bits, std::span<std::uint16_t> m_bits);

/// Whether codes of this type go as a whole from a bit stream of their width into a block and back: q4_0 and q4_1.
bool block_takes_stream(BlockType type) noexcept;

/// pack_blocks_row with the codes as one LSB-first bit stream (base/bits.h) of 4 bits. Throws as that, and Error{invalid}
/// unless block_takes_stream().
void pack_block_stream(BlockType type, std::span<const std::byte> stream, std::span<const std::uint16_t> d_bits,
                       std::span<const std::uint16_t> m_bits, std::span<std::byte> out);

/// Only the codes of what pack_block_stream makes, as the stream that they were.
void unpack_block_stream(BlockType type, std::span<const std::byte> blocks, std::span<std::byte> stream);

/// Only the scales (and minima) of what unpack_blocks_row takes apart.
void unpack_block_scales(BlockType type, std::span<const std::byte> blocks, std::span<std::uint16_t> d_bits,
                         std::span<std::uint16_t> m_bits);

/// Elements that share a scale byte: 32 for mxfp4, 16 for nvfp4. Throws Error{invalid} for any other type.
std::int64_t fp4_scale_run(BlockType type);

/// Assembles mxfp4 (`scales`: one e8m0 byte per block of 32) or nvfp4 blocks (one e4m3 byte per 16 of the 64 elements)
/// from e2m1 codes, one byte each. Throws as pack_blocks_row.
void pack_fp4_blocks_row(BlockType type, std::span<const std::uint8_t> codes, std::span<const std::uint8_t> scales,
                         std::span<std::byte> out);

/// The inverse of pack_fp4_blocks_row.
void unpack_fp4_blocks_row(BlockType type, std::span<const std::byte> blocks, std::span<std::uint8_t> codes,
                           std::span<std::uint8_t> scales);

}  // namespace regauge::layouts
