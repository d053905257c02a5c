#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace regauge {

/// An owned POSIX file descriptor, or none.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) noexcept : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() { reset(); }

  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  int release() noexcept;
  void reset() noexcept;

 private:
  int fd_ = -1;
};

/// A regular file opened for positional reads; movable; any number of threads may read at once. Its size and time are
/// those at opening: a file that shrinks later fails the read that needs the missing bytes.
class File {
 public:
  /// Fills `out` with the bytes from `offset` on, all of them within the file's size; called from any thread.
  using Reader = std::function<void(std::uint64_t offset, std::span<std::byte> out)>;

  /// Follows symbolic links. Throws Error{not_found} when nothing is there, Error{invalid} for a directory, a FIFO, a
  /// socket or a device, and Error{io} for anything else that the system refuses.
  static File open(const std::filesystem::path& path);

  /// A file whose bytes come from somewhere else than a file of their own, such as a part of another one.
  static File virtual_file(std::string path, std::uint64_t size, std::int64_t modified_ns, Reader reader);

  std::uint64_t size() const noexcept { return size_; }
  /// The path as it was given, byte for byte: not necessarily UTF-8.
  const std::string& path() const noexcept { return path_; }
  /// Time of the last change of the content, in nanoseconds since 1970.
  std::int64_t modified_ns() const noexcept { return modified_ns_; }

  /// Fills `out` with the bytes from `offset` on. Throws Error{io} when the file ends before that or cannot be read.
  void read_at(std::uint64_t offset, std::span<std::byte> out) const;

  /// `count` bytes from `offset` on. The range is checked against size() before anything is allocated: Error{io}.
  std::vector<std::byte> read_range(std::uint64_t offset, std::uint64_t count) const;

 private:
  File() = default;

  FileDescriptor fd_;
  Reader reader_;  ///< in place of fd_
  std::string path_;
  std::uint64_t size_ = 0;
  std::int64_t modified_ns_ = 0;
};

/// The whole of a text file, unvalidated. Throws what File throws, and Error{malformed} without allocating when the file
/// has more than `max_bytes`.
std::string read_text(const File& file, std::uint64_t max_bytes);
std::string read_text_file(const std::filesystem::path& path, std::uint64_t max_bytes);

}  // namespace regauge
