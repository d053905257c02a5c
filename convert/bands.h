#pragma once

#include <cstddef>
#include <cstdint>

#include "convert/plan.h"

namespace regauge {

/// A range of target rows of one step: what a worker does at a time.
struct Band {
  std::size_t output = 0;
  std::size_t step = 0;
  RowRange rows;
};

/// The extents of an array that a band fills: `count` runs of `bytes`, `stride` bytes apart.
struct Strip {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint64_t stride = 0;
  std::uint64_t count = 1;

  std::uint64_t total() const noexcept { return bytes * count; }
};

/// Where rows `rows` of a target of `target_rows` go in one of its arrays. Bands end where the array has a byte border.
Strip strip_of(const StepArray& array, RowRange rows, std::int64_t target_rows);

/// Writes what a band makes of an array, strip by strip.
void put_strips(Writer& writer, std::size_t index, const Strip& strip, std::span<const std::byte> bytes);

/// Reads `bytes`.size() bytes of a strip back, from byte `from` of its runs laid end to end.
void read_strips(const Writer& writer, std::size_t index, const Strip& strip, std::uint64_t from,
                 std::span<std::byte> bytes);

}  // namespace regauge
