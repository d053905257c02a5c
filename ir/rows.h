#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/file.h"

namespace regauge {

struct RowRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t size() const noexcept { return end - begin; }
  bool operator==(const RowRange&) const = default;
};

/// Rows of one part, read on demand: how everything reaches the data of a checkpoint. Positional, so any number of
/// threads may read at once. Sizes are those that the reader validated against the file.
class RowSource {
 public:
  RowSource(std::int64_t rows, std::size_t row_bytes) : rows_(rows), row_bytes_(row_bytes) {}
  virtual ~RowSource() = default;
  RowSource(const RowSource&) = delete;
  RowSource& operator=(const RowSource&) = delete;

  std::int64_t rows() const noexcept { return rows_; }
  std::size_t row_bytes() const noexcept { return row_bytes_; }

  /// Ranges must begin at a multiple of this and be a multiple long (the last one excepted). GPTQ zero points come in
  /// words of 32/bits rows, Marlin tiles in 64 rows.
  virtual std::int64_t row_quantum() const noexcept { return 1; }
  /// Rows that are cheap to read at once; 0 is "no preference". A transposed source wants many.
  virtual std::int64_t preferred_rows() const noexcept { return 0; }

  /// Of rows of codes, one a byte: the same rows as the bit streams that they were packed into, LSB first (base/bits.h), for
  /// whoever wants just that stream. Nothing where the file does not hold it so.
  virtual std::shared_ptr<const RowSource> packed() const { return nullptr; }

  /// Reads rows [range.begin, range.end) in canonical order into `out`, which holds exactly range.size() * row_bytes()
  /// bytes. Safe to call from any number of threads. Throws Error{io} when the file is shorter than its header promised.
  void read(RowRange range, std::span<std::byte> out) const;

 private:
  virtual void read_rows(RowRange range, std::span<std::byte> out) const = 0;

  std::int64_t rows_;
  std::size_t row_bytes_;
};

using RowSourcePtr = std::shared_ptr<const RowSource>;

/// Rows that lie in a file one after another.
class FileRows final : public RowSource {
 public:
  FileRows(std::shared_ptr<const File> file, std::uint64_t offset, std::int64_t rows, std::size_t row_bytes)
      : RowSource(rows, row_bytes), file_(std::move(file)), offset_(offset) {}

 private:
  void read_rows(RowRange range, std::span<std::byte> out) const override;

  std::shared_ptr<const File> file_;
  std::uint64_t offset_;
};

/// Rows held in memory: small parts that a reader had to make (a group index that the file leaves out), and tests.
class MemoryRows final : public RowSource {
 public:
  /// `bytes` holds rows * row_bytes bytes. Throws Error{internal} otherwise.
  MemoryRows(std::vector<std::byte> bytes, std::int64_t rows, std::size_t row_bytes);

 private:
  void read_rows(RowRange range, std::span<std::byte> out) const override;

  std::vector<std::byte> bytes_;
};

/// Rows [range.begin, range.end) of another source: one expert of a stack, the gate half of a fused matrix.
class SliceRows final : public RowSource {
 public:
  SliceRows(RowSourcePtr source, RowRange range);
  std::int64_t row_quantum() const noexcept override { return source_->row_quantum(); }
  std::int64_t preferred_rows() const noexcept override { return source_->preferred_rows(); }
  std::shared_ptr<const RowSource> packed() const override;

 private:
  void read_rows(RowRange range, std::span<std::byte> out) const override;

  RowSourcePtr source_;
  std::int64_t first_;
};

}  // namespace regauge
