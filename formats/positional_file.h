#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "base/writable_file.h"

namespace regauge {

/// Where an array lies in the data section of a file, which follows the header.
struct Extent {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

/// Everything that is known of a file before any data comes.
struct FileLayout {
  std::vector<std::byte> header;
  std::vector<Extent> extents;  ///< of each array by its index; what none of them covers stays zero
  std::uint64_t data_bytes = 0;

  std::uint64_t file_bytes() const { return header.size() + data_bytes; }
};

/// A file being filled whose header fixes every place: puts in any order from any thread, the header last, so that a file
/// cut short by a crash is taken for nothing else.
class PositionalFile {
 public:
  /// Reserves the file. `file` outlives this object.
  PositionalFile(WritableFile& file, FileLayout layout);

  /// Throws Error{internal} for bytes beyond the array.
  void put(std::size_t index, std::uint64_t offset, std::span<const std::byte> bytes);
  void read_back(std::size_t index, std::uint64_t offset, std::span<std::byte> out) const;

  /// Writes the header and flushes. Throws Error{internal} unless put() has brought as many bytes as the arrays have; of a
  /// run that `resumes` another that is not asked.
  void seal(bool resumes);

  std::uint64_t file_bytes() const noexcept { return layout_.file_bytes(); }

 private:
  std::uint64_t place(std::size_t index, std::uint64_t offset, std::uint64_t bytes) const;

  WritableFile* file_;
  FileLayout layout_;
  std::uint64_t expected_ = 0;  // by all put() together
  std::atomic<std::uint64_t> written_ = 0;
};

}  // namespace regauge
