#include "formats/layouts/gptq_words.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "formats/layouts/extent.h"
#include "formats/layouts/gptq_block.h"

namespace regauge::layouts {
namespace {

// The transpose goes tile by tile: kTileColumns columns of two blocks, so that a column's 64 codes leave as one cache
// line and the words of a row are used up before the row's line leaves the first-level cache.
constexpr std::int64_t kTileColumns = 64;
constexpr std::int64_t kTileCodes = 2 * kGptqBlock;

template <typename Visitor>
void for_each_tile(std::int64_t n, std::int64_t k, Visitor&& visit) {
  for (std::int64_t column = 0; column < n; column += kTileColumns) {
    const std::int64_t last_column = std::min(n, column + kTileColumns);
    for (std::int64_t first = 0; first < k; first += kTileCodes) {
      const std::int64_t last = std::min(k, first + kTileCodes);
      for (std::int64_t c = column; c < last_column; ++c) {
        for (std::int64_t code = first; code < last; code += kGptqBlock) visit(c, code);
      }
    }
  }
}

template <typename Planes>
void unpack_columns(std::int64_t n, std::int64_t k, const std::byte* words, std::uint8_t* codes) noexcept {
  for_each_tile(n, k, [&](std::int64_t column, std::int64_t code) {
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
  for_each_tile(n, k, [&](std::int64_t column, std::int64_t code) {
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
