#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "ir/ggml_type.h"

namespace regauge::inspect {

/// Where the codes of a ggml block type lie whose value is d * (code - offset) or d * code + m: 32 to a block.
/// Source: ggml-org/ggml src/ggml-common.h, block_q4_0 to block_q8_0.
struct CodeLayout {
  int bits = 4;                 ///< 4, 5 or 8
  std::size_t low_offset = 0;   ///< byte of the block at which the low nibbles (or the bytes) begin
  std::size_t high_offset = 0;  ///< 5 bits: byte at which the 32 fifth bits begin
};

/// Nothing for the types whose codes do not stand for themselves: K-quants, codebooks, ternary and 4-bit floats.
std::optional<CodeLayout> find_code_layout(BlockType type);

/// Adds the codes of whole blocks to `counts`, which has 2^bits entries. 8-bit codes are counted as unsigned: code + 128.
void count_block_codes(BlockType type, const CodeLayout& layout, std::span<const std::byte> blocks,
                       std::span<std::uint64_t> counts);

}  // namespace regauge::inspect
