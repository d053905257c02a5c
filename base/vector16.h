#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace regauge {

// Vectors of 16 bytes, which every 64-bit CPU has, as GCC and clang spell them on any of them.
using Bytes16 = std::uint8_t __attribute__((vector_size(16)));
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

/// To an address that is a multiple of 16, past the caches where the CPU can: for what is not read again before it is much.
/// Other threads may look once stream_fence() has been called.
template <typename Vector>
void stream16(void* to, Vector vector) noexcept {
#if defined(__SSE2__)
  _mm_stream_si128(static_cast<__m128i*>(to), load16<__m128i>(&vector));
#else
  store16(to, vector);
#endif
}

inline void stream_fence() noexcept {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

/// 32 codes of 4 bits, one a byte.
struct Nibbles32 {
  Bytes16 first;   ///< codes 0 to 15
  Bytes16 second;  ///< codes 16 to 31
};

/// Takes the codes out of the bit stream that base/bits.h defines, two neighbours in a byte.
inline Nibbles32 spread_nibbles(Bytes16 stream) noexcept {
  const Bytes16 even = stream & 0x0F;
  const Bytes16 odd = stream >> 4;
  return {__builtin_shufflevector(even, odd, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23),
          __builtin_shufflevector(even, odd, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)};
}

/// The inverse, of codes that have no bits above the fourth.
inline Bytes16 gather_nibbles(const Nibbles32& codes) noexcept {
  using Pairs8 = std::uint16_t __attribute__((vector_size(16)));
  const auto joined = [](Bytes16 sixteen) {
    const auto pairs = load16<Pairs8>(&sixteen);
    const Pairs8 both = pairs | pairs >> 4;
    return load16<Bytes16>(&both);
  };
  return __builtin_shufflevector(joined(codes.first), joined(codes.second), 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22,
                                 24, 26, 28, 30);
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
