#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace regauge::layouts {

// MLX packs every row on its own as one LSB-first bit stream of u32 words; rows end on a word border, so a band of rows
// is one stream too. The affine widths are 2, 3, 4, 5, 6 and 8; mxfp4 and nvfp4 are the same stream at 4 bits, mxfp8 at 8.
// Source: ml-explore/mlx mlx/backend/cpu/quantized.cpp and mlx/ops.cpp.

/// Bytes of one packed row. Throws Error{invalid} unless bits is 1 to 8 and columns * bits fills whole u32 words.
std::int64_t mlx_row_bytes(int bits, std::int64_t columns);

/// Reads the band `words` [rows, columns * bits / 32] of u32 into `codes` [rows, columns], one byte each. Throws as
/// mlx_row_bytes, and Error{internal} when a span has another size.
void unpack_mlx_rows(int bits, std::int64_t rows, std::int64_t columns, std::span<const std::byte> words,
                     std::span<std::uint8_t> codes);

/// The inverse. Also throws Error{invalid} when a code does not fit its width.
void pack_mlx_rows(int bits, std::int64_t rows, std::int64_t columns, std::span<const std::uint8_t> codes,
                   std::span<std::byte> words);

}  // namespace regauge::layouts
