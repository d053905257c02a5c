#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "base/output_file.h"
#include "formats/format.h"

namespace regauge {

/// What the writers of one file share whose header fixes every place before any data comes: puts in any order from any
/// thread, the header last, so that a file cut short by a crash is taken for nothing else. A format adds begin().
class PositionalWriter : public Writer {
 public:
  /// Creates the partial file beside `target`; throws as OutputFile::create does.
  PositionalWriter(const std::filesystem::path& target, const WriteOptions& options);
  Order order() const noexcept override { return Order::any; }
  void put(std::size_t index, std::uint64_t offset, std::span<const std::byte> bytes) override;
  void read_back(std::size_t index, std::uint64_t offset, std::span<std::byte> out) const override;
  /// Throws Error{internal} unless put() has brought as many bytes as the arrays have; a run that resumes another brings
  /// fewer.
  void seal() override;
  void commit() override { output_.commit(); }
  std::filesystem::path sealed_path() const override { return output_.partial(); }
  std::uint64_t file_bytes() const override { return header_.size() + data_bytes_; }

 protected:
  /// Where an array lies in the data section, which follows the header.
  struct Extent {
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
  };

  /// Reserves the file: the finished header, the place of each array by its index, and the length of the data section.
  /// What no extent covers stays zero.
  void start(std::vector<std::byte> header, std::vector<Extent> extents, std::uint64_t data_bytes);

 private:
  /// Where in the file; throws Error{internal} for bytes beyond the array.
  std::uint64_t place(std::size_t index, std::uint64_t offset, std::uint64_t bytes) const;

  OutputFile output_;
  std::vector<std::byte> header_;
  std::vector<Extent> extents_;
  std::uint64_t data_bytes_ = 0;
  std::uint64_t expected_ = 0;  // by all put() together
  std::atomic<std::uint64_t> written_ = 0;
  bool resumes_ = false;
};

}  // namespace regauge
