#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/golden.h"

namespace regauge::testing {

/// A safetensors file put together array by array, to be written into a checkpoint that a test makes up.
class ArrayFile {
 public:
  ArrayFile& add(std::string name, std::string dtype, std::vector<std::int64_t> shape,
                 std::span<const std::byte> bytes);

  template <typename T>
  ArrayFile& add(std::string name, std::string dtype, std::vector<std::int64_t> shape, const std::vector<T>& values) {
    return add(std::move(name), std::move(dtype), std::move(shape), std::as_bytes(std::span(values)));
  }

  /// An array of a golden file under another name.
  ArrayFile& add(std::string name, const GoldenFile::Entry& entry) {
    return add(std::move(name), entry.dtype, entry.shape, entry.bytes);
  }

  /// An array whose bytes are all `fill`, of `bytes` bytes whatever the shape says.
  ArrayFile& fill(std::string name, std::string dtype, std::vector<std::int64_t> shape, std::size_t bytes,
                  std::uint8_t fill = 0);

  /// Takes an array out again.
  ArrayFile& drop(std::string_view name);

  void write(const std::filesystem::path& path) const;

 private:
  struct Array {
    std::string name;
    std::string dtype;
    std::vector<std::int64_t> shape;
    std::vector<std::byte> bytes;
  };
  std::vector<Array> arrays_;
};

void write_text(const std::filesystem::path& path, std::string_view text);

}  // namespace regauge::testing
