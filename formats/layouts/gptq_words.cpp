#include "formats/layouts/gptq_words.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

#include "base/vector16.h"
#include "formats/layouts/extent.h"
#include "formats/layouts/gptq_block.h"

namespace regauge::layouts {
namespace {

// The transpose goes tile by tile: kTileColumns columns of two blocks, so that a column's 64 codes leave as one cache
// line and the words of a row are used up before the row's line leaves the first-level cache.
constexpr std::int64_t kTileColumns = 64;
constexpr std::int64_t kTileCodes = 2 * kGptqBlock;

/// From column `begin` on.
template <typename Visitor>
void for_each_tile(std::int64_t begin, std::int64_t n, std::int64_t k, Visitor&& visit) {
  for (std::int64_t column = begin; column < n; column += kTileColumns) {
    const std::int64_t last_column = std::min(n, column + kTileColumns);
    for (std::int64_t first = 0; first < k; first += kTileCodes) {
      const std::int64_t last = std::min(k, first + kTileCodes);
      for (std::int64_t c = column; c < last_column; ++c) {
        for (std::int64_t code = first; code < last; code += kGptqBlock) visit(c, code);
      }
    }
  }
}

// 4 bits are what nearly all files have, and their words are whole bytes' worth of codes: there four columns at a time go
// through vectors.
constexpr std::int64_t kQuad = 4;

/// One block of four columns; `words` is the first column's in the block's first row, `codes` the block in the first column.
void unpack_quad(std::int64_t n, std::int64_t k, const std::byte* words, std::uint8_t* codes) noexcept {
  std::array<Words4, 4> rows{};
  for (std::int64_t row = 0; row < kQuad; ++row)
    rows[static_cast<std::size_t>(row)] = load16<Words4>(words + row * n * 4);
  transpose_words(rows);
  for (std::int64_t column = 0; column < kQuad; ++column) {
    const Nibbles32 block = spread_nibbles(load16<Bytes16>(&rows[static_cast<std::size_t>(column)]));
    store16(codes + column * k, block.first);
    store16(codes + column * k + 16, block.second);
  }
}

/// The inverse; returns the bits that were seen in the codes.
Bytes16 pack_quad(std::int64_t n, std::int64_t k, const std::uint8_t* codes, std::byte* words) noexcept {
  std::array<Words4, 4> columns{};
  Bytes16 seen{};
  for (std::int64_t column = 0; column < kQuad; ++column) {
    const Nibbles32 block{load16<Bytes16>(codes + column * k), load16<Bytes16>(codes + column * k + 16)};
    seen |= block.first | block.second;
    const Bytes16 packed = gather_nibbles(block);
    columns[static_cast<std::size_t>(column)] = load16<Words4>(&packed);
  }
  transpose_words(columns);
  for (std::int64_t row = 0; row < kQuad; ++row) store16(words + row * n * 4, columns[static_cast<std::size_t>(row)]);
  return seen;
}

/// Calls visit(column, code) for every block of four columns, tile by tile; returns the first column that is left.
template <typename Visitor>
std::int64_t for_each_quad(std::int64_t n, std::int64_t k, Visitor&& visit) {
  const std::int64_t whole = n / kQuad * kQuad;
  for (std::int64_t column = 0; column < whole; column += kTileColumns) {
    const std::int64_t last_column = std::min(whole, column + kTileColumns);
    for (std::int64_t first = 0; first < k; first += kTileCodes) {
      const std::int64_t last = std::min(k, first + kTileCodes);
      for (std::int64_t c = column; c < last_column; c += kQuad) {
        for (std::int64_t code = first; code < last; code += kGptqBlock) visit(c, code);
      }
    }
  }
  return whole;
}

template <typename Planes>
void unpack_columns(std::int64_t n, std::int64_t k, const std::byte* words, std::uint8_t* codes) noexcept {
  std::int64_t begin = 0;
  if constexpr (std::is_same_v<Planes, GptqPlanes<4>>) {
    begin = for_each_quad(n, k, [&](std::int64_t column, std::int64_t code) {
      unpack_quad(n, k, words + (code / kGptqBlock * 4 * n + column) * 4, codes + column * k + code);
    });
  }
  for_each_tile(begin, n, k, [&](std::int64_t column, std::int64_t code) {
    std::array<std::byte, Planes::kBlockBytes> block{};
    const std::byte* from = words + (code / kGptqBlock * Planes::kBits * n + column) * 4;
    for (int word = 0; word < Planes::kBits; ++word, from += n * 4) std::memcpy(block.data() + word * 4, from, 4);
    const auto unpacked = Planes::unpack(block.data());
    std::memcpy(codes + column * k + code, unpacked.data(), sizeof unpacked);
  });
}

template <typename Planes>
void pack_columns(std::int64_t n, std::int64_t k, const std::uint8_t* codes, std::byte* words) {
  std::uint64_t seen = 0;
  std::int64_t begin = 0;
  if constexpr (std::is_same_v<Planes, GptqPlanes<4>>) {
    Bytes16 bits{};
    begin = for_each_quad(n, k, [&](std::int64_t column, std::int64_t code) {
      bits |= pack_quad(n, k, codes + column * k + code, words + (code / kGptqBlock * 4 * n + column) * 4);
    });
    for (int i = 0; i < 16; ++i) seen |= bits[i];
  }
  for_each_tile(begin, n, k, [&](std::int64_t column, std::int64_t code) {
    typename Planes::Codes unpacked;
    std::memcpy(unpacked.data(), codes + column * k + code, sizeof unpacked);
    for (const auto eight : unpacked) seen |= eight;
    std::array<std::byte, Planes::kBlockBytes> block{};
    Planes::pack(unpacked, block.data());
    std::byte* to = words + (code / kGptqBlock * Planes::kBits * n + column) * 4;
    for (int word = 0; word < Planes::kBits; ++word, to += n * 4) std::memcpy(to, block.data() + word * 4, 4);
  });
  if ((seen & excess_bits_of_8(Planes::kBits)) != 0) throw_code_too_wide(Planes::kBits);
}

void require_columns(GptqLayout layout, std::int64_t n, std::int64_t k, std::size_t words, std::size_t codes) {
  require_multiple("row length of a GPTQ tensor", k, kGptqBlock);
  require_extent("qweight words", words, {k / kGptqBlock, layout.bits, n, 4});
  require_extent("GPTQ codes", codes, {n, k});
}

}  // namespace

void unpack_gptq_columns(GptqLayout layout, std::int64_t n, std::int64_t k, std::span<const std::byte> words,
                         std::span<std::uint8_t> codes) {
  with_planes(layout, [&](auto planes) {
    require_columns(layout, n, k, words.size(), codes.size());
    unpack_columns<decltype(planes)>(n, k, words.data(), codes.data());
  });
}

void pack_gptq_columns(GptqLayout layout, std::int64_t n, std::int64_t k, std::span<const std::uint8_t> codes,
                       std::span<std::byte> words) {
  with_planes(layout, [&](auto planes) {
    require_columns(layout, n, k, words.size(), codes.size());
    pack_columns<decltype(planes)>(n, k, codes.data(), words.data());
  });
}

}  // namespace regauge::layouts
