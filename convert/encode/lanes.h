#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

// Vectors of the compilers' own vector extension, so that one text serves every CPU. All arithmetic rounds as its scalar
// form does, lane by lane. A file that compiles it for a CPU defines three macros before including it: the width of a
// vector, a namespace for the result (the linker must not take functions of one CPU for those of another) and the attribute
// that names the CPU. Each function needs that itself: g++ takes wide vectors apart before it inlines.
#ifndef REGAUGE_LANES
#define REGAUGE_LANES 4
#define REGAUGE_LANES_NAMESPACE four_lanes
#define REGAUGE_LANES_TARGET
#endif

// It speaks of vectors passed between functions, and here none are. For the file that includes this, too.
#pragma GCC diagnostic ignored "-Wpsabi"

#define REGAUGE_INLINE REGAUGE_LANES_TARGET inline __attribute__((always_inline))
/// Stands behind the parameters of a lambda, which no attribute of its surroundings reaches.
#define REGAUGE_INLINE_LAMBDA REGAUGE_LANES_TARGET __attribute__((always_inline))

namespace regauge::ggml_encode::REGAUGE_LANES_NAMESPACE {

template <int Width>
struct Lanes;

template <>
struct Lanes<4> {
  static constexpr int kWidth = 4;
  using F = float __attribute__((vector_size(16)));
  using I = std::int32_t __attribute__((vector_size(16)));

  using Bytes = std::uint8_t __attribute__((vector_size(16)));

  REGAUGE_INLINE static float largest(const F& of) noexcept {
    F v = of;
    F other = __builtin_shufflevector(v, v, 2, 3, 0, 1);
    v = v > other ? v : other;
    other = __builtin_shufflevector(v, v, 1, 0, 3, 2);
    v = v > other ? v : other;
    return v[0];
  }

  /// Four vectors of numbers from -128 to 127 as bytes, one after the other.
  REGAUGE_INLINE static Bytes bytes_of(const I& a, const I& b, const I& c, const I& d) noexcept {
#if defined(__SSE2__)
    const auto pair = [](const I& one, const I& other) REGAUGE_INLINE_LAMBDA {
      return _mm_packs_epi32(reinterpret_cast<__m128i>(one), reinterpret_cast<__m128i>(other));
    };
    return reinterpret_cast<Bytes>(_mm_packs_epi16(pair(a, b), pair(c, d)));
#else
    const Halves ab = low_halves(a, b);
    const Halves cd = low_halves(c, d);
    return __builtin_shufflevector(reinterpret_cast<Bytes>(ab), reinterpret_cast<Bytes>(cd), 0, 2, 4, 6, 8, 10, 12, 14,
                                   16, 18, 20, 22, 24, 26, 28, 30);
#endif
  }

  /// Turns a square of values: lane l of out[i] is value i of row l, rows being `stride` values apart.
  REGAUGE_INLINE static void transposed(const float* x, std::size_t stride, F* out) noexcept {
    F a, b, c, d;
    std::memcpy(&a, x, sizeof a);
    std::memcpy(&b, x + stride, sizeof b);
    std::memcpy(&c, x + 2 * stride, sizeof c);
    std::memcpy(&d, x + 3 * stride, sizeof d);
    const F ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    const F ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const F cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    const F cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    out[0] = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
    out[1] = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
    out[2] = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
    out[3] = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
  }

#if !defined(__SSE2__)
 private:
  using Halves = std::uint16_t __attribute__((vector_size(16)));
  REGAUGE_INLINE static Halves low_halves(const I& a, const I& b) noexcept {
    return __builtin_shufflevector(reinterpret_cast<Halves>(a), reinterpret_cast<Halves>(b), 0, 2, 4, 6, 8, 10, 12, 14);
  }
#endif
};

#if REGAUGE_LANES == 8
template <>
struct Lanes<8> {
  static constexpr int kWidth = 8;
  using F = float __attribute__((vector_size(32)));
  using I = std::int32_t __attribute__((vector_size(32)));

  using Bytes = std::uint8_t __attribute__((vector_size(32)));

  REGAUGE_INLINE static float largest(const F& of) noexcept {
    const Lanes<4>::F low = __builtin_shufflevector(of, of, 0, 1, 2, 3);
    const Lanes<4>::F high = __builtin_shufflevector(of, of, 4, 5, 6, 7);
    return Lanes<4>::largest(low > high ? low : high);
  }

  /// Four vectors of numbers from -128 to 127 as bytes, one after the other.
  REGAUGE_INLINE static Bytes bytes_of(const I& a, const I& b, const I& c, const I& d) noexcept {
    const auto pair = [](const I& one, const I& other) REGAUGE_INLINE_LAMBDA {
      return _mm256_packs_epi32(reinterpret_cast<__m256i>(one), reinterpret_cast<__m256i>(other));
    };
    // Each half of the result has four numbers of every vector: a b c d, a b c d.
    const auto halves = reinterpret_cast<I>(_mm256_packs_epi16(pair(a, b), pair(c, d)));
    return reinterpret_cast<Bytes>(__builtin_shufflevector(halves, halves, 0, 4, 1, 5, 2, 6, 3, 7));
  }

  /// Turns a square of values: lane l of out[i] is value i of row l, rows being `stride` values apart.
  REGAUGE_INLINE static void transposed(const float* x, std::size_t stride, F* out) noexcept {
    Lanes<4>::F low[8], high[8];
    for (std::size_t corner = 0; corner < 8; corner += 4) {
      Lanes<4>::transposed(x + corner, stride, low + corner);
      Lanes<4>::transposed(x + 4 * stride + corner, stride, high + corner);
    }
    for (std::size_t i = 0; i < 8; ++i) out[i] = __builtin_shufflevector(low[i], high[i], 0, 1, 2, 3, 4, 5, 6, 7);
  }
};
#endif

template <typename V>
REGAUGE_INLINE V loaded(const void* from) noexcept {
  V value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <typename V>
REGAUGE_INLINE void store(void* to, const V& value) noexcept {
  std::memcpy(to, &value, sizeof value);
}

template <typename L>
REGAUGE_INLINE typename L::F all(float value) noexcept {
  return value - typename L::F{};
}

template <typename L>
REGAUGE_INLINE typename L::I all(std::int32_t value) noexcept {
  return value - typename L::I{};
}

/// nearest_int of ggml_arithmetic.h, whatever the values.
template <typename L>
REGAUGE_INLINE typename L::I nearest_ints(const typename L::F& v) noexcept {
  using I = typename L::I;
  const I bits = reinterpret_cast<I>(v + 12582912.0F);
  return (bits & 0x7FFFFF) - 0x400000;
}

template <typename L>
REGAUGE_INLINE typename L::I clamped_ints(const typename L::I& v, std::int32_t low, std::int32_t high) noexcept {
  const typename L::I raised = v < low ? all<L>(low) : v;
  return raised > high ? all<L>(high) : raised;
}

template <typename L>
REGAUGE_INLINE typename L::F magnitudes(const typename L::F& v) noexcept {
  using I = typename L::I;
  return reinterpret_cast<typename L::F>(reinterpret_cast<I>(v) & 0x7FFFFFFF);
}

/// Nearest integers, ties away from zero, of magnitudes below 2^22. What is added is the float next below 0.5: a half would
/// carry the float next below 0.5 to 1.
template <typename L>
REGAUGE_INLINE typename L::I rounded_half_away(const typename L::F& v) noexcept {
  using I = typename L::I;
  const I sign = reinterpret_cast<I>(v) & static_cast<std::int32_t>(0x80000000U);
  const I almost_half = sign | 0x3EFFFFFF;
  return __builtin_convertvector(v + reinterpret_cast<typename L::F>(almost_half), I);
}

template <typename L>
REGAUGE_INLINE bool any(const typename L::I& mask) noexcept {
  std::uint64_t parts[sizeof mask / 8];
  std::memcpy(parts, &mask, sizeof mask);
  std::uint64_t together = 0;
  for (const std::uint64_t part : parts) together |= part;
  return together != 0;
}

}  // namespace regauge::ggml_encode::REGAUGE_LANES_NAMESPACE
