#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "ir/rows.h"

namespace regauge {

/// Rows of a matrix that lies in a file the other way round: GPTQ scales [G, N] read as [N, G], low-rank factors that a
/// loader keeps as [K, r]. A band of rows is one short read per stored row, so wide bands are cheap and single rows dear.
class TransposedRows final : public RowSource {
 public:
  /// The file holds [stored_rows, stored_columns] elements of `element_bytes` (1, 2, 4 or 8) from `offset` on; the source
  /// has stored_columns rows of stored_rows elements. Throws Error{internal} for another element size.
  TransposedRows(std::shared_ptr<const File> file, std::uint64_t offset, std::int64_t stored_rows,
                 std::int64_t stored_columns, std::size_t element_bytes);

  std::int64_t preferred_rows() const noexcept override;

 private:
  void read_rows(RowRange range, std::span<std::byte> out) const override;

  std::shared_ptr<const File> file_;
  std::uint64_t offset_;
  std::int64_t stored_rows_;
  std::size_t element_bytes_;
};

/// Writes `from`, a row-major matrix of rows x columns elements of `element_bytes` (1, 2, 4 or 8), to `to` as columns x rows.
/// The spans have the same size and do not overlap, else Error{internal}.
void transpose(std::int64_t rows, std::int64_t columns, std::size_t element_bytes, std::span<const std::byte> from,
               std::span<std::byte> to);

/// The same where the rows written are `to_stride` bytes apart, which is no less than they have: a band of a wider matrix,
/// of which `to` begins with the first element and ends no earlier than with the last.
void transpose(std::int64_t rows, std::int64_t columns, std::size_t element_bytes, std::span<const std::byte> from,
               std::span<std::byte> to, std::size_t to_stride);

/// Fills `out` with a column band of a row-major matrix in a file: `run_bytes` bytes of each of `rows` rows that are
/// `stride` bytes apart, from `offset` on, one behind the other. Rows that lie together are one read. Throws what
/// File::read_at throws, Error{internal} when `out` has another size.
void read_strided(const File& file, std::uint64_t offset, std::int64_t rows, std::uint64_t stride,
                  std::size_t run_bytes, std::span<std::byte> out);

/// `bytes` of uninitialised scratch that belongs to the calling thread and is used again by the next call: for row sources
/// that have to read more than they give. What an earlier call returned is gone.
std::span<std::byte> thread_scratch(std::size_t bytes);

}  // namespace regauge
