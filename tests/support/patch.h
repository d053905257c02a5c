#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "ir/metadata.h"
#include "tests/support/builders.h"

namespace regauge::testing {

// Files taken apart, changed and written again, by code that shares nothing with the library under test: how tests break
// checkpoints.

struct SafetensorsPatch {
  struct Array {
    std::string name;
    std::string dtype;
    std::vector<std::int64_t> shape;
    Bytes bytes;
  };

  nlohmann::ordered_json metadata;
  std::vector<Array> arrays;

  explicit SafetensorsPatch(const std::filesystem::path& path);
  void save(const std::filesystem::path& path) const;
  /// Throws when there is none of that name.
  Array& array(const std::string& name);
  /// The arrays whose names end so.
  std::vector<Array*> ending(const std::string& suffix);
  void erase(const std::function<bool(const std::string&)>& predicate);
};

/// A safetensors file of these arrays, in that order.
void write_safetensors(const std::filesystem::path& path, const std::vector<SafetensorsPatch::Array>& arrays);

struct GgufPatch {
  struct Tensor {
    std::string name;
    std::vector<std::int64_t> shape;  ///< row-major
    std::uint32_t type = 0;           ///< ggml type id
    Bytes bytes;
  };

  std::vector<Metadata::Entry> keys;
  std::vector<Tensor> tensors;
  std::uint32_t alignment = 32;
  std::uint32_t version = 3;
  bool is_big_endian = false;  ///< for tensors of F32, F16 and BF16

  explicit GgufPatch(const std::filesystem::path& path);
  void save(const std::filesystem::path& path) const;
  Tensor& tensor(const std::string& name);
  void erase(const std::function<bool(const std::string&)>& predicate);
  void set(const std::string& key, MetaValue value);
  void erase_key(const std::string& key);
};

/// Changes one JSON file in place.
void patch_json(const std::filesystem::path& path, const std::function<void(nlohmann::ordered_json&)>& change);
std::string read_text(const std::filesystem::path& path);
void write_text(const std::filesystem::path& path, const std::string& text);

/// BF16 numbers as f32, and back, what does not fit cut off.
std::vector<float> from_bf16(const Bytes& bytes);
Bytes to_bf16(const std::vector<float>& values);
std::vector<float> from_f32(const Bytes& bytes);
Bytes to_f32(const std::vector<float>& values);

}  // namespace regauge::testing
