#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <utility>

#include "base/file.h"

namespace regauge {

/// A regular file that is open for reading and writing by position. Movable; closed when it goes.
class WritableFile {
 public:
  WritableFile() = default;
  /// Takes over the descriptor of a regular file; `path` is for messages.
  WritableFile(FileDescriptor fd, std::filesystem::path path) : fd_(std::move(fd)), path_(std::move(path)) {}

  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }
  int fd() const noexcept { return fd_.get(); }
  const std::filesystem::path& path() const noexcept { return path_; }
  void close() noexcept { fd_.reset(); }

  /// Makes the file exactly `bytes` long and reserves the space, so that a full disk is an error now and not later. Where
  /// the file system cannot reserve, only the free space is checked. Throws Error{io} with the bytes needed and free.
  void preallocate(std::uint64_t bytes);

  /// Writes all of `bytes` at `offset`, growing the file if need be. What has come begins its way to the disk while
  /// more is made, so that flush() finds little left to wait for. Safe from any thread as long as ranges do not overlap.
  /// Throws Error{io}, for a full disk with the bytes needed and free.
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes);

  /// Fills `out` with what was written at `offset`. Safe from any thread. Throws Error{io} beyond the file's end.
  void read_at(std::uint64_t offset, std::span<std::byte> out) const;

  /// Everything written is on the disk when it returns. Throws Error{io}.
  void flush();

 private:
  void begin_flush(std::uint64_t offset, std::uint64_t count) noexcept;

  FileDescriptor fd_;
  std::filesystem::path path_;
  /// Bytes of strips since some began their way to the disk.
  std::unique_ptr<std::atomic<std::uint64_t>> waiting_ = std::make_unique<std::atomic<std::uint64_t>>(0);
};

}  // namespace regauge
