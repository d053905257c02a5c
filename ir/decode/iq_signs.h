#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace regauge::ggml_blocks {

/// The eight sign bits that seven stored ones stand for: the eighth makes the number of minus signs even.
/// Same as table ksigns_iq2xs of ggml-org/ggml src/ggml-common.h.
constexpr unsigned even_signs(unsigned seven_bits) noexcept {
  return seven_bits | (static_cast<unsigned>(std::popcount(seven_bits)) & 1U) << 7;
}

/// Writes the sizeof(Entry) elements of a codebook entry, each times `scale` and negated where its bit in `signs` is
/// set.
template <typename Entry>
void write_signed(Entry entry, unsigned signs, float scale, std::span<float, sizeof(Entry)> out) noexcept {
  for (std::size_t j = 0; j < sizeof(Entry); ++j) {
    const float value = scale * static_cast<float>((entry >> (8 * j)) & 0xFFU);
    out[j] = ((signs >> j) & 1U) != 0 ? -value : value;
  }
}

}  // namespace regauge::ggml_blocks
