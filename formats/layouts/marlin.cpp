#include "formats/layouts/marlin.h"

#include <array>
#include <cstring>

#include "base/bits.h"
#include "formats/layouts/extent.h"

namespace regauge::layouts {
namespace {

constexpr std::size_t kTileCodes = kMarlinTileRows * kMarlinTileColumns;

// For each code of a tile in stream order (word by word, slots from the low end), where it belongs in [64 n, 16 k].
// The closed form of the element map: the warp's lane owns a column pair of rows, `i` counts its four rows of a 16-row
// fragment and `half` the two 8-column halves of a 16-column one; the slot order interleaves even and odd entries so
// that the kernel can widen them pairwise.
template <int kBits>
constexpr std::array<std::uint16_t, kTileCodes> tile_order() {
  std::array<std::uint16_t, kTileCodes> order{};
  for (std::size_t n = 0; n < kMarlinTileColumns; ++n) {
    for (std::size_t k = 0; k < kMarlinTileRows; ++k) {
      const std::size_t warp = n / 16;
      const std::size_t half = n / 8 % 2;
      const std::size_t lane = n % 8 * 4 + k % 8 / 2;
      const std::size_t i = k % 2 + 2 * (k / 8);
      const std::size_t position = kBits == 4 ? (lane * 4 + warp) * 8 + (i / 2 + 2 * half + 4 * (i % 2))
                                              : (lane * 8 + warp * 2 + half) * 4 + (i / 2 + 2 * (i % 2));
      order[position] = static_cast<std::uint16_t>(n * kMarlinTileRows + k);
    }
  }
  return order;
}

template <int kBits>
constexpr std::array<std::uint16_t, kTileCodes> kTileOrder = tile_order<kBits>();

template <int kBits>
constexpr std::int64_t kTileBytes = kTileCodes * kBits / 8;

using Tile = std::array<std::uint8_t, kTileCodes>;

template <int kBits>
void unpack_columns(std::int64_t n, std::int64_t k, const std::byte* words, std::uint8_t* codes) noexcept {
  Tile stored;
  Tile tile;
  const std::int64_t tiles = n / kMarlinTileColumns;
  for (std::int64_t j = 0; j < tiles; ++j) {
    for (std::int64_t row = 0; row < k; row += kMarlinTileRows) {
      const std::byte* in = words + (row / kMarlinTileRows * tiles + j) * kTileBytes<kBits>;
      for (std::size_t i = 0; i < kTileCodes; i += 8, in += kBits) {
        const std::uint64_t eight = spread_8<kBits>(load_bytes<kBits>(in));
        std::memcpy(stored.data() + i, &eight, 8);
      }
      for (std::size_t i = 0; i < kTileCodes; ++i) tile[kTileOrder<kBits>[i]] = stored[i];
      std::uint8_t* out = codes + j * kMarlinTileColumns * k + row;
      for (std::int64_t c = 0; c < kMarlinTileColumns; ++c) {
        std::memcpy(out + c * k, tile.data() + c * kMarlinTileRows, kMarlinTileRows);
      }
    }
  }
}

template <int kBits>
void pack_columns(std::int64_t n, std::int64_t k, const std::uint8_t* codes, std::byte* words) {
  Tile stored;
  Tile tile;
  std::uint64_t seen = 0;
  const std::int64_t tiles = n / kMarlinTileColumns;
  for (std::int64_t j = 0; j < tiles; ++j) {
    for (std::int64_t row = 0; row < k; row += kMarlinTileRows) {
      const std::uint8_t* in = codes + j * kMarlinTileColumns * k + row;
      for (std::int64_t c = 0; c < kMarlinTileColumns; ++c) {
        std::memcpy(tile.data() + c * kMarlinTileRows, in + c * k, kMarlinTileRows);
      }
      for (std::size_t i = 0; i < kTileCodes; ++i) stored[i] = tile[kTileOrder<kBits>[i]];
      std::byte* out = words + (row / kMarlinTileRows * tiles + j) * kTileBytes<kBits>;
      for (std::size_t i = 0; i < kTileCodes; i += 8, out += kBits) {
        std::uint64_t eight = 0;
        std::memcpy(&eight, stored.data() + i, 8);
        seen |= eight;
        store_bytes<kBits>(out, gather_8<kBits>(eight));
      }
    }
  }
  if ((seen & excess_bits_of_8(kBits)) != 0) throw_code_too_wide(kBits);
}

void require_columns(int bits, std::int64_t n, std::int64_t k, std::size_t words, std::size_t codes) {
  if (bits != 4 && bits != 8) throw Error(ErrorCode::invalid, "Marlin weights have 4 or 8 bits, not {}", bits);
  require_multiple("columns of a Marlin tensor", n, kMarlinTileColumns);
  require_multiple("rows of a Marlin tensor", k, kMarlinTileRows);
  require_extent("Marlin words", words, {k / kMarlinTileRows, n, kMarlinTileRows * bits / 8});
  require_extent("Marlin codes", codes, {n, k});
}

}  // namespace

void unpack_marlin_columns(int bits, std::int64_t n, std::int64_t k, std::span<const std::byte> words,
                           std::span<std::uint8_t> codes) {
  require_columns(bits, n, k, words.size(), codes.size());
  bits == 4 ? unpack_columns<4>(n, k, words.data(), codes.data()) : unpack_columns<8>(n, k, words.data(), codes.data());
}

void pack_marlin_columns(int bits, std::int64_t n, std::int64_t k, std::span<const std::uint8_t> codes,
                         std::span<std::byte> words) {
  require_columns(bits, n, k, words.size(), codes.size());
  bits == 4 ? pack_columns<4>(n, k, codes.data(), words.data()) : pack_columns<8>(n, k, codes.data(), words.data());
}

}  // namespace regauge::layouts
