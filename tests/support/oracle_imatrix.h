#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace regauge::testing {

/// An importance matrix as llama.cpp's own loader reads it: sums not yet divided, counts rounded.
struct OracleImatrix {
  struct Entry {
    std::vector<float> sums;
    std::vector<std::int64_t> counts;
  };
  std::map<std::string, Entry> entries;
  std::vector<std::string> datasets;
  std::int32_t chunks = 0;
  bool is_legacy = false;
  bool has_metadata = false;
};

/// common_imatrix_load of libllama-common (npm package @node-llama-cpp/linux-x64); nothing when it refuses. Throws when
/// the library is not installed, so call REGAUGE_ORACLE_OR_SKIP first.
std::optional<OracleImatrix> oracle_read_imatrix(const std::filesystem::path& path);

}  // namespace regauge::testing
