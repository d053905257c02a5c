#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "formats/container/package.h"
#include "tests/support/array_file.h"
#include "tests/support/golden.h"
#include "tests/support/pack.h"

namespace regauge::testing {

inline std::shared_ptr<const container::Package> open_package(const std::filesystem::path& path) {
  return container::Package::open(std::make_shared<const File>(File::open(path)));
}

/// The tensor of that name in `plain`, a container opened as GGUF.
inline const StoredArray& plain_array(const Checkpoint& plain, const std::string& name) {
  const StoredArray* array = plain.find_array(name);
  if (array == nullptr) throw std::runtime_error("no tensor " + name);
  return *array;
}

/// A directory of one file with F16 "h" [n] whose high bytes are all 0x3c, U32 "u" [2], F8_E4M3 "f" [4] and BOOL "t" [3].
inline std::filesystem::path make_directory(const ScratchDir& scratch, std::int64_t halves = 3000) {
  const std::filesystem::path folder = scratch / "model";
  std::filesystem::create_directories(folder / "notes");
  std::vector<std::uint16_t> h(static_cast<std::size_t>(halves));
  std::uint32_t state = 1;
  for (auto& value : h) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<std::uint16_t>(0x3C00U | (state >> 24));
  }
  ArrayFile()
      .add("h", "F16", {halves}, h)
      .add("u", "U32", {2}, std::vector<std::uint32_t>{1, 2})
      .fill("f", "F8_E4M3", {4}, 4, 7)
      .fill("t", "BOOL", {3}, 3, 1)
      .fill("deep", "F32", {1, 1, 1, 2, 1, 2}, 16, 9)
      .fill("none", "I64", {0, 5}, 0)
      .write(folder / "model.safetensors");
  write_text(folder / "notes/readme.txt", "hello");
  write_text(folder / "empty.txt", "");
  return folder;
}

}  // namespace regauge::testing
