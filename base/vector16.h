#pragma once

#include <array>
#include <cstdint>
#include <cstring>

namespace regauge {

// Vectors of 16 bytes, which every 64-bit CPU has, as GCC and clang spell them on any of them.
using Bytes16 = std::uint8_t __attribute__((vector_size(16)));
using Pairs8 = std::uint16_t __attribute__((vector_size(16)));
using Words4 = std::uint32_t __attribute__((vector_size(16)));

/// From any address.
template <typename Vector>
Vector load16(const void* from) noexcept {
  Vector vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

template <typename Vector>
void store16(void* to, Vector vector) noexcept {
  std::memcpy(to, &vector, sizeof vector);
}

/// Four rows of four words become four columns.
inline void transpose_words(std::array<Words4, 4>& rows) noexcept {
  const Words4 low01 = __builtin_shufflevector(rows[0], rows[1], 0, 4, 1, 5);
  const Words4 low23 = __builtin_shufflevector(rows[2], rows[3], 0, 4, 1, 5);
  const Words4 high01 = __builtin_shufflevector(rows[0], rows[1], 2, 6, 3, 7);
  const Words4 high23 = __builtin_shufflevector(rows[2], rows[3], 2, 6, 3, 7);
  rows[0] = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);
  rows[1] = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);
  rows[2] = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);
  rows[3] = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);
}

}  // namespace regauge
