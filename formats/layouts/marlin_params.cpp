#include <algorithm>
#include <array>
#include <limits>
#include <numeric>

#include "base/bits.h"
#include "formats/layouts/extent.h"
#include "formats/layouts/marlin.h"

namespace regauge::layouts {
namespace {

constexpr std::size_t kGroupedRun = 64;
constexpr std::size_t kSingleRun = 32;

constexpr std::size_t grouped_source(std::size_t position) { return position % 8 * 8 + position / 8; }

constexpr std::size_t single_source(std::size_t position) {
  constexpr std::array<std::size_t, 8> kOffsets = {0, 1, 8, 9, 16, 17, 24, 25};
  return 2 * (position / 8) + kOffsets[position % 8];
}

// Within every word's worth of zero points: even entries first, then odd ones, as the kernel widens them pairwise.
constexpr std::array<std::uint8_t, 8> kInterleave4 = {0, 2, 4, 6, 1, 3, 5, 7};
constexpr std::array<std::uint8_t, 4> kInterleave8 = {0, 2, 1, 3};

// Where in its run of 64 the zero point at `position` of the stored row comes from.
constexpr std::size_t zero_source(int bits, std::size_t position) {
  const std::size_t interleaved =
      bits == 4 ? position / 8 * 8 + kInterleave4[position % 8] : position / 4 * 4 + kInterleave8[position % 4];
  return grouped_source(interleaved);
}

enum class Direction : std::uint8_t { permute, restore };

void reorder_scales(MarlinScaleOrder order, Direction direction, std::span<const std::uint16_t> from,
                    std::span<std::uint16_t> to) {
  const bool grouped = order == MarlinScaleOrder::grouped;
  const std::size_t run = grouped ? kGroupedRun : kSingleRun;
  require_multiple("run of Marlin scales", static_cast<std::int64_t>(from.size()), static_cast<std::int64_t>(run));
  require_extent("Marlin scales", to.size(), {static_cast<std::int64_t>(from.size())});
  for (std::size_t first = 0; first < from.size(); first += run) {
    for (std::size_t p = 0; p < run; ++p) {
      const std::size_t source = grouped ? grouped_source(p) : single_source(p);
      if (direction == Direction::permute) {
        to[first + p] = from[first + source];
      } else {
        to[first + source] = from[first + p];
      }
    }
  }
}

void require_zeros(int bits, std::size_t words, std::size_t zeros) {
  if (bits != 4 && bits != 8) throw Error(ErrorCode::invalid, "Marlin zero points have 4 or 8 bits, not {}", bits);
  require_multiple("run of Marlin zero points", static_cast<std::int64_t>(zeros), kGroupedRun);
  require_extent("Marlin zero point words", words, {static_cast<std::int64_t>(packed_bytes(zeros, bits))});
}

template <typename T>
void gather(std::span<const std::int32_t> sort, std::span<const T> natural, std::span<T> sorted) {
  const auto columns = static_cast<std::int64_t>(sort.size());
  require_extent("columns in natural order", natural.size(), {columns});
  require_extent("columns in sorted order", sorted.size(), {columns});
  for (std::size_t i = 0; i < sort.size(); ++i) sorted[i] = natural[static_cast<std::size_t>(sort[i])];
}

template <typename T>
void scatter(std::span<const std::int32_t> sort, std::span<const T> sorted, std::span<T> natural) {
  const auto columns = static_cast<std::int64_t>(sort.size());
  require_extent("columns in natural order", natural.size(), {columns});
  require_extent("columns in sorted order", sorted.size(), {columns});
  for (std::size_t i = 0; i < sort.size(); ++i) natural[static_cast<std::size_t>(sort[i])] = sorted[i];
}

}  // namespace

MarlinScaleOrder marlin_scale_order(std::int64_t group_size, std::int64_t k) {
  return group_size > 0 && group_size < k ? MarlinScaleOrder::grouped : MarlinScaleOrder::single;
}

void permute_marlin_scales(MarlinScaleOrder order, std::span<const std::uint16_t> from, std::span<std::uint16_t> to) {
  reorder_scales(order, Direction::permute, from, to);
}

void restore_marlin_scales(MarlinScaleOrder order, std::span<const std::uint16_t> from, std::span<std::uint16_t> to) {
  reorder_scales(order, Direction::restore, from, to);
}

void unpack_marlin_zeros(int bits, std::span<const std::byte> words, std::span<std::uint8_t> zeros) {
  require_zeros(bits, words.size(), zeros.size());
  std::array<std::uint8_t, kGroupedRun> stored{};
  const std::size_t run_bytes = packed_bytes(kGroupedRun, bits);
  for (std::size_t run = 0; run < zeros.size() / kGroupedRun; ++run) {
    unpack_bits(words.subspan(run * run_bytes, run_bytes), bits, stored);
    for (std::size_t p = 0; p < kGroupedRun; ++p) zeros[run * kGroupedRun + zero_source(bits, p)] = stored[p];
  }
}

void pack_marlin_zeros(int bits, std::span<const std::uint8_t> zeros, std::span<std::byte> words) {
  require_zeros(bits, words.size(), zeros.size());
  std::array<std::uint8_t, kGroupedRun> stored{};
  const std::size_t run_bytes = packed_bytes(kGroupedRun, bits);
  for (std::size_t run = 0; run < zeros.size() / kGroupedRun; ++run) {
    for (std::size_t p = 0; p < kGroupedRun; ++p) stored[p] = zeros[run * kGroupedRun + zero_source(bits, p)];
    pack_bits(stored, bits, words.subspan(run * run_bytes, run_bytes));
  }
}

std::vector<std::int32_t> act_order_sort(std::span<const std::int32_t> group_index) {
  if (group_index.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
    throw Error(ErrorCode::invalid, "{} columns are more than sort indices can name", group_index.size());
  }
  std::vector<std::int32_t> sort(group_index.size());
  std::iota(sort.begin(), sort.end(), 0);
  std::ranges::stable_sort(sort, {},
                           [&](std::int32_t column) { return group_index[static_cast<std::size_t>(column)]; });
  return sort;
}

void require_permutation(std::span<const std::int32_t> sort) {
  std::vector<bool> seen(sort.size());
  for (std::size_t i = 0; i < sort.size(); ++i) {
    // A negative index turns into one far too large.
    const auto column = static_cast<std::size_t>(sort[i]);
    if (column >= sort.size() || seen[column]) {
      throw Error(ErrorCode::malformed, "sort indices are no permutation: entry {} is {}", i, sort[i]);
    }
    seen[column] = true;
  }
}

void sort_columns(std::span<const std::int32_t> sort, std::span<const std::int32_t> natural,
                  std::span<std::int32_t> sorted) {
  gather(sort, natural, sorted);
}

void sort_columns(std::span<const std::int32_t> sort, std::span<const std::uint8_t> natural,
                  std::span<std::uint8_t> sorted) {
  gather(sort, natural, sorted);
}

void unsort_columns(std::span<const std::int32_t> sort, std::span<const std::int32_t> sorted,
                    std::span<std::int32_t> natural) {
  scatter(sort, sorted, natural);
}

void unsort_columns(std::span<const std::int32_t> sort, std::span<const std::uint8_t> sorted,
                    std::span<std::uint8_t> natural) {
  scatter(sort, sorted, natural);
}

}  // namespace regauge::layouts
