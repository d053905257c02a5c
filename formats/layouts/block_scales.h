#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "ir/ggml_type.h"

namespace regauge::layouts {

/// Elements that share a scale in a block type whose values are evenly spaced, the distance of neighbours being |scale|; 0
/// for the other types (codebooks, ternary codes, small floats). Source: ggml-org/ggml src/ggml-quants.c, the
/// dequantize_row_ functions.
std::int64_t scale_width(BlockType type) noexcept;

/// The scales of whole blocks, one for each run of scale_width() elements, in order. Throws Error{internal} when a span has
/// another size, Error{invalid} for a type without.
void read_block_scales(BlockType type, std::span<const std::byte> blocks, std::span<float> scales);

}  // namespace regauge::layouts
