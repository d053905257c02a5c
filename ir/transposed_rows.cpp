#include "ir/transposed_rows.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/error.h"

namespace regauge {
namespace {

// Bytes of a stored row that one read should at least give: a page, so that no page is fetched for a fraction of it.
constexpr std::int64_t kPreferredRun = 4096;

// Tiles keep the lines of both sides in the first-level cache.
constexpr std::size_t kTile = 32;

template <std::size_t kBytes>
void transpose_elements(std::size_t rows, std::size_t columns, const std::byte* from, std::byte* to) noexcept {
  for (std::size_t row = 0; row < rows; row += kTile) {
    for (std::size_t column = 0; column < columns; column += kTile) {
      for (std::size_t r = row; r < std::min(rows, row + kTile); ++r) {
        for (std::size_t c = column; c < std::min(columns, column + kTile); ++c) {
          std::memcpy(to + (c * rows + r) * kBytes, from + (r * columns + c) * kBytes, kBytes);
        }
      }
    }
  }
}

}  // namespace

void transpose(std::int64_t rows, std::int64_t columns, std::size_t element_bytes, std::span<const std::byte> from,
               std::span<std::byte> to) {
  const auto r = static_cast<std::size_t>(rows);
  const auto c = static_cast<std::size_t>(columns);
  if (rows < 0 || columns < 0 || from.size() != r * c * element_bytes || to.size() != from.size()) {
    throw Error(ErrorCode::internal, "{} bytes transposed into {} as {} x {} of {}", from.size(), to.size(), rows,
                columns, element_bytes);
  }
  switch (element_bytes) {
    case 1: return transpose_elements<1>(r, c, from.data(), to.data());
    case 2: return transpose_elements<2>(r, c, from.data(), to.data());
    case 4: return transpose_elements<4>(r, c, from.data(), to.data());
    case 8: return transpose_elements<8>(r, c, from.data(), to.data());
    default: throw Error(ErrorCode::internal, "elements of {} bytes cannot be transposed", element_bytes);
  }
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
  const std::size_t run = static_cast<std::size_t>(range.size()) * element_bytes_;
  const auto stored = thread_scratch(out.size());
  read_strided(*file_, offset_ + static_cast<std::uint64_t>(range.begin) * element_bytes_, stored_rows_, stride, run,
               stored);
  transpose(stored_rows_, range.size(), element_bytes_, stored, out);
}

}  // namespace regauge
