#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"

namespace regauge::gguf {

/// Reads a header whose length nobody knows in advance, front to back through one small buffer. Each step is checked
/// against the size of the file before anything is allocated for it; a step too far is Error{malformed} with file and
/// offset. The file must outlive the cursor.
class FileCursor {
 public:
  explicit FileCursor(const File& file) : file_(file) {}

  std::uint64_t offset() const noexcept { return offset_; }
  std::uint64_t remaining() const noexcept { return file_.size() - offset_; }
  /// Numbers read from here on are of the other byte order.
  void swap_bytes(bool swapped) noexcept { swapped_ = swapped; }

  template <typename T>
    requires std::integral<T> || std::floating_point<T>
  T read(std::string_view what) {
    T value{};
    read_bytes(std::as_writable_bytes(std::span(&value, 1)), what);
    return swapped_ ? ByteReader::byteswap(value) : value;
  }

  /// `count` numbers of T.
  template <typename T>
  std::vector<T> read_numbers(std::uint64_t count, std::string_view what) {
    check(count, sizeof(T), what);
    std::vector<T> values(static_cast<std::size_t>(count));
    read_bytes(std::as_writable_bytes(std::span(values)), what);
    if (swapped_ && sizeof(T) > 1) {
      for (T& value : values) value = ByteReader::byteswap(value);
    }
    return values;
  }

  std::string read_text(std::uint64_t length, std::string_view what);

  /// Throws unless `count` things of at least `unit` bytes each can still follow.
  void check(std::uint64_t count, std::uint64_t unit, std::string_view what) const;

  /// An error about the file at `offset`.
  Error fail(std::uint64_t offset, std::string message) const;

 private:
  void read_bytes(std::span<std::byte> out, std::string_view what);

  const File& file_;
  std::vector<std::byte> buffer_;
  std::size_t used_ = 0;      // of buffer_
  std::uint64_t offset_ = 0;  // in the file, of the next byte
  bool swapped_ = false;
};

}  // namespace regauge::gguf
