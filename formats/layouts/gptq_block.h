#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/bits.h"
#include "base/bytes.h"
#include "formats/layouts/gptq_words.h"

namespace regauge::layouts {

/// Codes in one block of GPTQ words: the fewest that fill whole words at every width, and the reach of the bit planes.
inline constexpr std::int64_t kGptqBlock = 32;

/// How a block's words hold its codes: one LSB-first stream of 32 pieces per plane, the plane of the low bits first.
/// The continuous packing is the case of a single plane.
template <int... kWidths>
struct GptqPlanes {
  static constexpr int kBits = (kWidths + ...);
  static constexpr std::int64_t kBlockBytes = std::int64_t{4} * kBits;
  /// The 32 codes of a block, 8 to a u64.
  using Codes = std::array<std::uint64_t, 4>;

  /// Reads the kBlockBytes bytes at `words`.
  static Codes unpack(const std::byte* words) noexcept {
    Codes codes{};
    int shift = 0;
    (unpack_plane<kWidths>(words, shift, codes), ...);
    return codes;
  }

  /// Writes kBlockBytes bytes at `words`; bits of a code above kBits are dropped.
  static void pack(const Codes& codes, std::byte* words) noexcept {
    int shift = 0;
    (pack_plane<kWidths>(codes, shift, words), ...);
  }

 private:
  template <int kWidth>
  static void unpack_plane(const std::byte*& words, int& shift, Codes& codes) noexcept {
    codes[0] |= spread_8<kWidth>(packed_eight<kWidth, 0>(words)) << shift;
    codes[1] |= spread_8<kWidth>(packed_eight<kWidth, 1>(words)) << shift;
    codes[2] |= spread_8<kWidth>(packed_eight<kWidth, 2>(words)) << shift;
    codes[3] |= spread_8<kWidth>(packed_eight<kWidth, 3>(words)) << shift;
    words += std::ptrdiff_t{4} * kWidth;
    shift += kWidth;
  }

  // The kEight-th 8 codes of a plane, in the low bits. Taken from whole words because callers have just gathered the
  // block word by word: at 3 bits, loads that straddle those stores cost three quarters of the speed.
  template <int kWidth, int kEight>
  static std::uint64_t packed_eight(const std::byte* words) noexcept {
    constexpr std::ptrdiff_t kWord = std::ptrdiff_t{8} * kWidth * kEight / 32 * 4;
    constexpr int kShift = 8 * kWidth * kEight % 32;
    std::uint64_t packed = load_le<std::uint32_t>(words + kWord) >> kShift;
    if constexpr (kShift + 8 * kWidth > 32) {
      packed |= static_cast<std::uint64_t>(load_le<std::uint32_t>(words + kWord + 4)) << (32 - kShift);
    }
    if constexpr (kShift + 8 * kWidth > 64) {
      packed |= static_cast<std::uint64_t>(load_le<std::uint32_t>(words + kWord + 8)) << (64 - kShift);
    }
    return packed;
  }

  template <int kWidth>
  static void pack_plane(const Codes& codes, int& shift, std::byte*& words) noexcept {
    for (const auto eight : codes) {
      store_bytes<kWidth>(words, gather_8<kWidth>(eight >> shift));
      words += kWidth;
    }
    shift += kWidth;
  }
};

/// Calls `visit` with the GptqPlanes of `layout`. Throws Error{invalid} for a width outside 1 to 8.
template <typename Visitor>
decltype(auto) with_planes(GptqLayout layout, Visitor&& visit) {
  if (layout.packing == GptqPacking::planar) {
    // Widths per plane, low bits first. Source: ModelCloud/GPTQModel docs/gptq_planar.md.
    switch (layout.bits) {
      case 3: return visit(GptqPlanes<2, 1>());
      case 5: return visit(GptqPlanes<4, 1>());
      case 6: return visit(GptqPlanes<4, 2>());
      case 7: return visit(GptqPlanes<4, 2, 1>());
      default: break;  // one plane of 1, 2, 4 or 8 bits: the same words as the continuous packing
    }
  }
  return with_bits(layout.bits, [&](auto width) -> decltype(auto) { return visit(GptqPlanes<width>()); });
}

}  // namespace regauge::layouts
