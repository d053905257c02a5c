#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace regauge {

// Blocks say the scale of a larger group of their source again and again. A run here is a power of two of neighbours, from
// its multiples on; the last one of a row may be shorter.

namespace detail {

inline std::uint16_t pattern_of(std::uint16_t value) noexcept { return value; }
inline std::uint32_t pattern_of(float value) noexcept { return std::bit_cast<std::uint32_t>(value); }

template <typename T>
bool runs_are_equal(std::span<const T> row, std::size_t run) {
  using Bits = decltype(pattern_of(T{}));
  // All ones where the next one belongs to the same run. Differences are added up without branches, sixteen at a time.
  constexpr std::size_t kStep = 16;
  const auto same_run = [run](std::size_t at) { return (at + 1) % run != 0 ? static_cast<Bits>(~Bits{0}) : Bits{0}; };
  std::array<Bits, kStep> inside{};
  Bits differs = 0;
  std::size_t at = 0;
  for (std::size_t i = 0; i < kStep; ++i) inside[i] = same_run(i);
  for (; run <= kStep && at + kStep < row.size(); at += kStep) {
    for (std::size_t i = 0; i < kStep; ++i)
      differs = static_cast<Bits>(differs | ((pattern_of(row[at + i]) ^ pattern_of(row[at + i + 1])) & inside[i]));
  }
  for (; at + 1 < row.size(); ++at)
    differs = static_cast<Bits>(differs | ((pattern_of(row[at]) ^ pattern_of(row[at + 1])) & same_run(at)));
  return differs == 0;
}

}  // namespace detail

/// The longest run up to `run` that is equal to the bit everywhere in rows of `per_row` floats or 16-bit patterns.
template <typename T>
std::size_t equal_run(std::span<const T> values, std::size_t per_row, std::size_t run) {
  for (std::size_t row = 0; run > 1 && row + per_row <= values.size(); row += per_row) {
    while (run > 1 && !detail::runs_are_equal(values.subspan(row, per_row), run)) run /= 2;
  }
  return run;
}

/// Moves the first one of every run to the front and says how many those are.
template <typename T>
std::size_t keep_first_of_runs(std::span<T> values, std::size_t per_row, std::size_t run) {
  if (run == 1) return values.size();
  std::size_t kept = 0;
  for (std::size_t row = 0; row + per_row <= values.size(); row += per_row) {
    for (std::size_t at = 0; at < per_row; at += run) values[kept++] = values[row + at];
  }
  return kept;
}

}  // namespace regauge
