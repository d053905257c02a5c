#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>

namespace regauge {

/// Unsigned arithmetic that says so instead of wrapping. Every size that comes from a file goes through these.
inline std::optional<std::uint64_t> checked_add(std::uint64_t a, std::uint64_t b) {
  std::uint64_t r = 0;
  if (__builtin_add_overflow(a, b, &r)) return std::nullopt;
  return r;
}

inline std::optional<std::uint64_t> checked_mul(std::uint64_t a, std::uint64_t b) {
  std::uint64_t r = 0;
  if (__builtin_mul_overflow(a, b, &r)) return std::nullopt;
  return r;
}

/// Product of dimensions, or nothing when it leaves int64. A zero dimension does not hide an overflow of the others:
/// {2^62, 4, 0} is refused, because parsers that multiply left to right disagree about it.
inline std::optional<std::int64_t> checked_product(std::span<const std::int64_t> dims) {
  std::uint64_t nonzero = 1;
  bool zero = false;
  for (const std::int64_t d : dims) {
    if (d < 0) return std::nullopt;
    if (d == 0) {
      zero = true;
      continue;
    }
    const auto next = checked_mul(nonzero, static_cast<std::uint64_t>(d));
    if (!next || *next > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return std::nullopt;
    nonzero = *next;
  }
  return zero ? 0 : static_cast<std::int64_t>(nonzero);
}

inline constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace regauge
