#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "ir/ggml_type.h"

namespace regauge::layouts {

// Q4_K and Q5_K as plain codes: 8 sub-blocks of 32 elements, each value scale * code + bias with f32 scale = d * sc and
// bias = -(dmin * m), both exact (11 + 6 bits). Source: ggml-org/ggml src/ggml-quants.c, dequantize_row_q4_K and _q5_K.

/// Elements of a sub-block.
inline constexpr std::int64_t kSubBlock = 32;

/// Takes q4_K or q5_K blocks apart: one code a byte, one scale and one bias for each run of 32 elements. Throws
/// Error{invalid} for another type, Error{internal} when a span has another size.
void unpack_k_blocks_row(BlockType type, std::span<const std::byte> blocks, std::span<std::uint8_t> codes,
                         std::span<float> scales, std::span<float> biases);

}  // namespace regauge::layouts
