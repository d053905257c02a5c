#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "ir/metadata.h"

namespace regauge::testing {

/// Keys and tensor table of a little-endian GGUF file, read by code that shares nothing with the library under test:
/// what other people's converters wrote, to compare with.
struct GgufKeys {
  struct Info {
    std::string name;
    std::vector<std::int64_t> shape;  ///< row-major: the file's order turned round
    std::uint32_t type = 0;           ///< ggml type id
    std::uint64_t offset = 0;         ///< of the data, from data_offset on
  };

  std::vector<Metadata::Entry> keys;
  std::vector<Info> tensors;
  std::uint64_t data_offset = 0;  ///< where the data section begins in the file

  const MetaValue* find(const std::string& key) const;
};

GgufKeys read_gguf_keys(const std::filesystem::path& path);

}  // namespace regauge::testing
