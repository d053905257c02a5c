#include "ir/rows.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace regauge {

void RowSource::read(RowRange range, std::span<std::byte> out) const {
  const std::int64_t quantum = row_quantum();
  const bool whole = range.begin >= 0 && range.begin <= range.end && range.end <= rows_;
  const bool aligned = range.begin % quantum == 0 && (range.end % quantum == 0 || range.end == rows_);
  if (!whole || !aligned || out.size() != static_cast<std::size_t>(range.size()) * row_bytes_) {
    throw Error(ErrorCode::internal, "rows [{}, {}) of {} with quantum {} asked into {} bytes", range.begin, range.end,
                rows_, quantum, out.size());
  }
  if (!out.empty()) read_rows(range, out);
}

void FileRows::read_rows(RowRange range, std::span<std::byte> out) const {
  file_->read_at(offset_ + static_cast<std::uint64_t>(range.begin) * row_bytes(), out);
}

MemoryRows::MemoryRows(std::vector<std::byte> bytes, std::int64_t rows, std::size_t row_bytes)
    : RowSource(rows, row_bytes), bytes_(std::move(bytes)) {
  if (bytes_.size() != static_cast<std::size_t>(rows) * row_bytes) {
    throw Error(ErrorCode::internal, "{} bytes given for {} rows of {}", bytes_.size(), rows, row_bytes);
  }
}

void MemoryRows::read_rows(RowRange range, std::span<std::byte> out) const {
  std::memcpy(out.data(), bytes_.data() + static_cast<std::size_t>(range.begin) * row_bytes(), out.size());
}

SliceRows::SliceRows(RowSourcePtr source, RowRange range)
    : RowSource(range.size(), source->row_bytes()), source_(std::move(source)), first_(range.begin) {
  if (range.begin < 0 || range.size() < 0 || range.end > source_->rows() || range.begin % source_->row_quantum() != 0) {
    throw Error(ErrorCode::internal, "slice [{}, {}) of {} rows", range.begin, range.end, source_->rows());
  }
}

RowSourcePtr SliceRows::packed() const {
  auto packed = source_->packed();
  return packed ? std::make_shared<SliceRows>(std::move(packed), RowRange{first_, first_ + rows()}) : nullptr;
}

void SliceRows::read_rows(RowRange range, std::span<std::byte> out) const {
  source_->read({first_ + range.begin, first_ + range.end}, out);
}

}  // namespace regauge
