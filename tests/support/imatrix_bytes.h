#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/support/builders.h"

namespace regauge::testing {

/// One weight of an importance matrix as a test writes it down.
struct ImatrixEntry {
  std::vector<float> sums;    ///< [matrices, columns]
  std::vector<float> counts;  ///< [matrices]
};

/// A GGUF imatrix file as llama-imatrix lays it out: names ascending, sums {columns, matrices} and counts {1, matrices}.
inline GgufBytes imatrix_gguf(const std::map<std::string, ImatrixEntry>& entries,
                              const std::vector<std::string>& datasets, std::uint32_t chunks) {
  GgufBytes file;
  file.preamble(2 * entries.size(), 4).text_key("general.type", "imatrix");
  file.key("imatrix.datasets", 9).array(8, datasets.size());
  for (const std::string& dataset : datasets) file.string(dataset);
  file.key("imatrix.chunk_count", 4).u32(chunks).key("imatrix.chunk_size", 4).u32(512);
  std::uint64_t offset = 0;
  const auto describe = [&](const std::string& name, std::uint64_t columns, std::uint64_t matrices) {
    file.tensor(name, {columns, matrices}, 0, offset);
    offset += (4 * columns * matrices + 31) / 32 * 32;
  };
  for (const auto& [name, entry] : entries) {
    describe(name + ".in_sum2", entry.sums.size() / entry.counts.size(), entry.counts.size());
    describe(name + ".counts", 1, entry.counts.size());
  }
  file.pad();
  for (const auto& item : entries) {
    for (const float value : item.second.sums) file.f32(value);
    file.pad();
    for (const float value : item.second.counts) file.f32(value);
    file.pad();
  }
  return file;
}

/// One entry of the older form.
inline GgufBytes& imatrix_legacy_entry(GgufBytes& file, const std::string& name, std::int32_t calls,
                                       const std::vector<float>& values) {
  file.i32(static_cast<std::int32_t>(name.size())).raw(name);
  file.i32(calls).i32(static_cast<std::int32_t>(values.size()));
  for (const float value : values) file.f32(value);
  return file;
}

}  // namespace regauge::testing
