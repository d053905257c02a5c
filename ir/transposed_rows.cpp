#include "ir/transposed_rows.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "base/vector16.h"

namespace regauge {
namespace {

// Bytes of a stored row that one read should at least give: a page, so that no page is fetched for a fraction of it.
constexpr std::int64_t kPreferredRun = 4096;

// Tiles keep the lines of both sides in the first-level cache.
constexpr std::size_t kTile = 32;
// Stored rows that are read before they are turned: what a second-level cache keeps of them, or as many as give the columns
// whole lines.
constexpr std::size_t kBlockBytes = 256 << 10;
constexpr std::size_t kLeastBlockRows = 64;

// Elements of 4 bytes in a cache line.
constexpr std::size_t kLineWords = 16;

/// How what is written is stored.
enum class Store : std::uint8_t {
  cached,
  streamed,  ///< past the caches, where addresses allow it
};

/// 16 x 16 elements of 4 bytes. Every line of either side is touched once: rows that are a multiple of 4 KB apart share one
/// set of the first-level cache, which would lose some of them until they come up again.
template <Store kStore>
void transpose_lines(const std::byte* from, std::size_t from_stride, std::byte* to, std::size_t to_stride) noexcept {
  constexpr std::size_t kLine = kLineWords * sizeof(std::uint32_t);
  alignas(kLine) std::array<std::byte, kLineWords * kLine> turned;  // NOLINT(*-member-init): filled below
  for (std::size_t row = 0; row < kLineWords; row += 4) {
    for (std::size_t column = 0; column < kLineWords; column += 4) {
      std::array<Words4, 4> words{};
      for (std::size_t r = 0; r < 4; ++r) words[r] = load16<Words4>(from + (row + r) * from_stride + column * 4);
      transpose_words(words);
      for (std::size_t c = 0; c < 4; ++c) store16(turned.data() + (column + c) * kLine + row * 4, words[c]);
    }
  }
  for (std::size_t c = 0; c < kLineWords; ++c) {
    const std::byte* line = turned.data() + c * kLine;
    if constexpr (kStore == Store::streamed) {
      for (std::size_t i = 0; i < kLine; i += sizeof(Words4))
        stream16(to + c * to_stride + i, load16<Words4>(line + i));
    } else {
      std::memcpy(to + c * to_stride, line, kLine);
    }
  }
}

template <std::size_t kBytes, Store kStore>
void transpose_tile(std::size_t rows, std::size_t columns, const std::byte* from, std::size_t from_stride,
                    std::byte* to, std::size_t to_stride) noexcept {
  const auto from_column = [&](std::size_t row, std::size_t first) {
    for (std::size_t column = first; column < columns; ++column)
      std::memcpy(to + column * to_stride + row * kBytes, from + row * from_stride + column * kBytes, kBytes);
  };
  std::size_t row = 0;
  if constexpr (kBytes == sizeof(std::uint32_t)) {
    const std::size_t whole = columns / kLineWords * kLineWords;
    for (; row + kLineWords <= rows; row += kLineWords) {
      for (std::size_t column = 0; column < whole; column += kLineWords)
        transpose_lines<kStore>(from + row * from_stride + column * kBytes, from_stride,
                                to + column * to_stride + row * kBytes, to_stride);
      for (std::size_t r = row; r < row + kLineWords; ++r) from_column(r, whole);
    }
  }
  for (; row < rows; ++row) from_column(row, 0);
}

/// The columns of `from`, which lie together, become rows that are `to_stride` bytes apart.
template <std::size_t kBytes, Store kStore = Store::cached>
void transpose_elements(std::size_t rows, std::size_t columns, const std::byte* from, std::byte* to,
                        std::size_t to_stride) noexcept {
  const std::size_t from_stride = columns * kBytes;
  const auto turn = [&](std::size_t row, std::size_t column) {
    transpose_tile<kBytes, kStore>(std::min(rows - row, kTile), std::min(columns - column, kTile),
                                   from + row * from_stride + column * kBytes, from_stride,
                                   to + column * to_stride + row * kBytes, to_stride);
  };
  // Across the short side first: that touches the fewest pages before it comes back to one.
  if (rows > columns) {
    for (std::size_t row = 0; row < rows; row += kTile)
      for (std::size_t column = 0; column < columns; column += kTile) turn(row, column);
  } else {
    for (std::size_t column = 0; column < columns; column += kTile)
      for (std::size_t row = 0; row < rows; row += kTile) turn(row, column);
  }
}

void transpose_rows(std::size_t rows, std::size_t columns, std::size_t element_bytes, const std::byte* from,
                    std::byte* to, std::size_t to_stride) {
  switch (element_bytes) {
    case 1: return transpose_elements<1>(rows, columns, from, to, to_stride);
    case 2: return transpose_elements<2>(rows, columns, from, to, to_stride);
    case 4: return transpose_elements<4>(rows, columns, from, to, to_stride);
    case 8: return transpose_elements<8>(rows, columns, from, to, to_stride);
    default: throw Error(ErrorCode::internal, "elements of {} bytes cannot be transposed", element_bytes);
  }
}

}  // namespace

void transpose(std::int64_t rows, std::int64_t columns, std::size_t element_bytes, std::span<const std::byte> from,
               std::span<std::byte> to) {
  if (to.size() != from.size()) throw Error(ErrorCode::internal, "{} bytes transposed into {}", from.size(), to.size());
  transpose(rows, columns, element_bytes, from, to, static_cast<std::size_t>(rows) * element_bytes);
}

void transpose(std::int64_t rows, std::int64_t columns, std::size_t element_bytes, std::span<const std::byte> from,
               std::span<std::byte> to, std::size_t to_stride) {
  const auto r = static_cast<std::size_t>(rows);
  const auto c = static_cast<std::size_t>(columns);
  const std::size_t run = r * element_bytes;
  if (rows < 0 || columns < 0 || from.size() != c * run || to_stride < run ||
      (c > 0 && to.size() < (c - 1) * to_stride + run)) {
    throw Error(ErrorCode::internal, "{} bytes transposed into {} as {} x {} of {}, rows {} apart", from.size(),
                to.size(), rows, columns, element_bytes, to_stride);
  }
  // Of a band that is wider than this the caches would keep nothing.
  const bool aligned =
      reinterpret_cast<std::uintptr_t>(to.data()) % sizeof(Words4) == 0 && to_stride % sizeof(Words4) == 0;
  if (element_bytes == sizeof(std::uint32_t) && to_stride > run && aligned) {
    transpose_elements<sizeof(std::uint32_t), Store::streamed>(r, c, from.data(), to.data(), to_stride);
    return stream_fence();
  }
  transpose_rows(r, c, element_bytes, from.data(), to.data(), to_stride);
}

void read_strided(const File& file, std::uint64_t offset, std::int64_t rows, std::uint64_t stride,
                  std::size_t run_bytes, std::span<std::byte> out) {
  const auto count = static_cast<std::size_t>(rows);
  if (rows < 0 || out.size() != count * run_bytes) {
    throw Error(ErrorCode::internal, "{} runs of {} bytes read into {}", rows, run_bytes, out.size());
  }
  if (stride == run_bytes) return file.read_at(offset, out);
  for (std::size_t row = 0; row < count; ++row) {
    file.read_at(offset + row * stride, out.subspan(row * run_bytes, run_bytes));
  }
}

std::span<std::byte> thread_scratch(std::size_t bytes) {
  thread_local std::vector<std::byte> buffer;
  if (buffer.size() < bytes) {
    // Not resize alone: that would copy what nobody needs any more.
    buffer.clear();
    buffer.resize(bytes);
  }
  return std::span(buffer).first(bytes);
}

TransposedRows::TransposedRows(std::shared_ptr<const File> file, std::uint64_t offset, std::int64_t stored_rows,
                               std::int64_t stored_columns, std::size_t element_bytes)
    : RowSource(stored_columns, static_cast<std::size_t>(stored_rows) * element_bytes),
      file_(std::move(file)),
      offset_(offset),
      stored_rows_(stored_rows),
      element_bytes_(element_bytes) {
  if (element_bytes != 1 && element_bytes != 2 && element_bytes != 4 && element_bytes != 8) {
    throw Error(ErrorCode::internal, "elements of {} bytes cannot be transposed", element_bytes);
  }
}

std::int64_t TransposedRows::preferred_rows() const noexcept {
  return kPreferredRun / static_cast<std::int64_t>(element_bytes_);
}

void TransposedRows::read_rows(RowRange range, std::span<std::byte> out) const {
  const std::uint64_t stride = static_cast<std::uint64_t>(rows()) * element_bytes_;
  const auto columns = static_cast<std::size_t>(range.size());
  const std::size_t run = columns * element_bytes_;
  const auto stored_rows = static_cast<std::size_t>(stored_rows_);
  const std::size_t block = std::min(stored_rows, std::max(kBlockBytes / run, kLeastBlockRows));
  const auto stored = thread_scratch(block * run);
  for (std::size_t row = 0; row < stored_rows; row += block) {
    const std::size_t count = std::min(block, stored_rows - row);
    read_strided(*file_, offset_ + row * stride + static_cast<std::uint64_t>(range.begin) * element_bytes_,
                 static_cast<std::int64_t>(count), stride, run, stored.first(count * run));
    transpose_rows(count, columns, element_bytes_, stored.data(), out.data() + row * element_bytes_, row_bytes());
  }
}

}  // namespace regauge
