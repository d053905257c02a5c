#include "formats/layouts/mlx_stream.h"

#include "base/bits.h"
#include "formats/layouts/extent.h"

namespace regauge::layouts {

std::int64_t mlx_row_bytes(int bits, std::int64_t columns) {
  return with_bits(bits, [&](auto width) {
    // columns * width is a multiple of 32 exactly when columns is one of 32 without the powers of two in width.
    constexpr std::int64_t kQuantum = 32 / (width & -width);
    require_multiple("row length of an MLX tensor", columns, kQuantum);
    return static_cast<std::int64_t>(packed_bytes(static_cast<std::uint64_t>(columns), width));
  });
}

void unpack_mlx_rows(int bits, std::int64_t rows, std::int64_t columns, std::span<const std::byte> words,
                     std::span<std::uint8_t> codes) {
  require_extent("packed MLX rows", words.size(), {rows, mlx_row_bytes(bits, columns)});
  require_extent("MLX codes", codes.size(), {rows, columns});
  unpack_bits(words, bits, codes);
}

void pack_mlx_rows(int bits, std::int64_t rows, std::int64_t columns, std::span<const std::uint8_t> codes,
                   std::span<std::byte> words) {
  require_extent("packed MLX rows", words.size(), {rows, mlx_row_bytes(bits, columns)});
  require_extent("MLX codes", codes.size(), {rows, columns});
  pack_bits(codes, bits, words);
}

}  // namespace regauge::layouts
