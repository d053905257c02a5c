#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/output_file.h"
#include "formats/format.h"
#include "formats/positional_file.h"

namespace regauge {

/// What a writer's options ask of the file or directory underneath.
OutputOptions output_options(const WriteOptions& options);

/// What the writers of one file share whose header fixes every place before any data comes. A format adds begin().
class PositionalWriter : public Writer {
 public:
  /// Creates the partial file beside `target`; throws as OutputFile::create does.
  PositionalWriter(const std::filesystem::path& target, const WriteOptions& options);
  Order order() const noexcept override { return Order::any; }
  void put(std::size_t index, std::uint64_t offset, std::span<const std::byte> bytes) override {
    file_.value().put(index, offset, bytes);
  }
  void read_back(std::size_t index, std::uint64_t offset, std::span<std::byte> out) const override {
    file_.value().read_back(index, offset, out);
  }
  /// Throws Error{internal} unless put() has brought as many bytes as the arrays have; a run that resumes another brings
  /// fewer.
  void seal() override { file_.value().seal(resumes_); }
  void commit() override { output_.commit(); }
  std::filesystem::path sealed_path() const override { return output_.partial(); }
  std::uint64_t file_bytes() const override { return file_.value().file_bytes(); }

 protected:
  /// Reserves the file.
  void start(FileLayout layout) { file_.emplace(output_.file(), std::move(layout)); }

 private:
  OutputFile output_;
  std::optional<PositionalFile> file_;
  bool resumes_ = false;
};

}  // namespace regauge
