#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "ir/ggml_type.h"

namespace regauge {

/// Whether encode_ggml takes this type. It does not take Q8_1 and Q8_K, which live inside ggml's matrix products and which
/// ggml_quantize_chunk refuses too, nor the IQ1, IQ2 and IQ3 types.
bool can_encode(BlockType type) noexcept;

/// Whether the encoder of this type minds an importance matrix; where it does not, the bytes are the same with and without.
bool uses_importance(BlockType type) noexcept;

/// Encodes whole rows of `columns` values into blocks with the very bytes that ggml's reference quantizer
/// (ggml_quantize_chunk on x86-64) gives, whatever the CPU. `columns` is a multiple of the elements of a block, `values`
/// holds whole rows, `importance` is empty or has one weight per column, `blocks` holds exactly the blocks of the rows at
/// any alignment; else Error{invalid}. Error{unsupported} unless can_encode(type). Values and weights must be finite: an
/// infinity or a NaN, for which no block has a meaning, is Error{invalid} that names its place, and what `blocks` holds is
/// not specified then. Finite values so large that a scale overflows give the infinite scale that ggml stores. Safe from
/// any number of threads; allocates nothing.
void encode_ggml(BlockType type, std::int64_t columns, std::span<const float> values, std::span<const float> importance,
                 std::span<std::byte> blocks);

}  // namespace regauge
