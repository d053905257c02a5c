#pragma once

#include <cstddef>
#include <span>

#include "ir/ggml_type.h"

namespace regauge {

/// Whether decode_blocks takes this type: every block type but q8_1. That one lives only inside ggml's matrix products,
/// and ggml has no dequantize_row function for it, so there is no owner whose values ours could equal.
bool can_decode(BlockType type) noexcept;

/// The dequant reference: decodes whole blocks to f32 with the very bits that ggml's scalar dequantize_row_* gives on
/// x86-64, -0 and infinities included; where it gives a NaN, so does this, but not with the same payload. `blocks`
/// holds n * block_bytes(type) bytes at any alignment and `out` n * block_elements(type) values, else Error{invalid};
/// Error{unsupported} unless can_decode(type). Safe from any number of threads. NVFP4's per-tensor scale is a tensor
/// of its own and not applied here.
void decode_blocks(BlockType type, std::span<const std::byte> blocks, std::span<float> out);

}  // namespace regauge
