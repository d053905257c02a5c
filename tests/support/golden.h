#pragma once

#include <cstddef>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace regauge::testing {

/// Where `relative` ("mlx/raw_codes.safetensors") lies: in the full golden set that the environment variable
/// REGAUGE_GOLDEN names, else in the committed part of it under tests/golden/data, else nowhere.
std::optional<std::filesystem::path> find_golden(const std::string& relative);

/// A file below samples/ of the source tree.
std::filesystem::path sample_path(const std::string& relative);

/// Skips the test, visibly, when the golden file is not at hand.
#define REGAUGE_GOLDEN_OR_SKIP(variable, relative)                                                        \
  const auto variable##_found = ::regauge::testing::find_golden(relative);                                \
  if (!variable##_found) GTEST_SKIP() << "golden data " << (relative) << " not here: set REGAUGE_GOLDEN"; \
  const std::filesystem::path& variable = *variable##_found

/// The same in the full set only: for tests that walk through folders of which the committed part has but some files.
std::optional<std::filesystem::path> find_full_golden(const std::string& relative);

#define REGAUGE_FULL_GOLDEN_OR_SKIP(variable, relative)                                                        \
  const auto variable##_found = ::regauge::testing::find_full_golden(relative);                                \
  if (!variable##_found) GTEST_SKIP() << "full golden data " << (relative) << " not here: set REGAUGE_GOLDEN"; \
  const std::filesystem::path& variable = *variable##_found

/// A whole safetensors file in memory, read by code that shares nothing with the library under test.
class GoldenFile {
 public:
  struct Entry {
    std::string dtype;
    std::vector<std::int64_t> shape;
    std::span<const std::byte> bytes;

    template <typename T>
    std::vector<T> as() const {
      std::vector<T> out(bytes.size() / sizeof(T));
      std::memcpy(out.data(), bytes.data(), out.size() * sizeof(T));
      return out;
    }
  };

  explicit GoldenFile(const std::filesystem::path& path);

  const Entry& operator[](const std::string& name) const;
  bool contains(const std::string& name) const { return entries_.contains(name); }
  const std::map<std::string, Entry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  std::vector<std::byte> bytes_;
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::string> metadata_;
};

/// Counts and explains the first difference of two f32 runs compared by bits; any NaN equals any NaN unless
/// `strict_nan`. Returns 0 when equal.
std::size_t count_bit_differences(std::span<const float> expected, std::span<const float> actual,
                                  bool strict_nan = false);

std::vector<std::byte> read_whole_file(const std::filesystem::path& path);
void write_whole_file(const std::filesystem::path& path, std::span<const std::byte> bytes);

/// A fresh empty folder, removed when the object goes.
class ScratchDir {
 public:
  ScratchDir();
  ~ScratchDir();
  ScratchDir(const ScratchDir&) = delete;
  ScratchDir& operator=(const ScratchDir&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

}  // namespace regauge::testing
