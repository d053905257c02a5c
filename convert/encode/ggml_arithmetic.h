#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "convert/encode/rounding.h"

namespace regauge::ggml_encode {

/// Truncates as the x86-64 conversion instruction does, which the reference leans on: what no int32 can hold, NaN
/// included, becomes the smallest one.
inline std::int32_t truncated(float value) noexcept {
  if (!(value >= -0x1p31F && value < 0x1p31F)) return std::numeric_limits<std::int32_t>::min();
  return static_cast<std::int32_t>(value);
}

/// Nearest integer, ties to even, by adding 1.5 * 2^23, which leaves no bits below one. What is too large for that (or NaN)
/// gives the low 23 bits of the sum all the same; the blocks of the reference depend on it.
/// Source: ggml-org/ggml src/ggml-quants.c, nearest_int.
inline std::int32_t nearest_int(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value + 12582912.0F);
  return static_cast<std::int32_t>(bits & 0x7FFFFFU) - 0x400000;
}

/// Nearest integer, ties away from zero, as C's roundf.
inline std::int32_t nearest_away(float value) noexcept { return truncated(round_half_away(value)); }

inline std::int32_t clamped(std::int32_t value, std::int32_t low, std::int32_t high) noexcept {
  if (value < low) return low;
  return value > high ? high : value;
}

/// 1 / value, or 0 for 0.
inline float reciprocal(float value) noexcept { return value != 0 ? 1.0F / value : 0.0F; }

inline float magnitude(float value) noexcept {
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) & 0x7FFFFFFFU);
}

/// The value of the largest magnitude with its sign, the first one of several; +0 where all are 0.
inline float signed_extreme(std::span<const float> x) noexcept {
  float largest = 0;
  float extreme = 0;
  for (const float value : x) {
    if (magnitude(value) > largest) {
      largest = magnitude(value);
      extreme = value;
    }
  }
  return extreme;
}

/// The sum of squares in index order.
inline float sum_of_squares(std::span<const float> x) noexcept {
  float sum = 0;
  for (const float value : x) sum += value * value;
  return sum;
}

}  // namespace regauge::ggml_encode
