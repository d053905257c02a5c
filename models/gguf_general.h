#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/finding.h"
#include "base/json.h"
#include "ir/checkpoint.h"
#include "ir/metadata.h"

namespace regauge {

/// general.sampling.* out of generation_config.json, in the converter's order; nothing when there is no such file. A
/// file that cannot be read costs those keys only, and a finding. Source: ggml-org/llama.cpp gguf-py/gguf/metadata.py.
void append_sampling_keys(const Checkpoint& source, Metadata& keys, Findings& findings);

/// The inverse: entries of generation_config.json for the general.sampling.* keys of `gguf`, under the names that
/// append_sampling_keys() finds again. A value of a wrong type, or one that JSON cannot say, costs that entry only, and a
/// finding.
Json sampling_entries(const Metadata& gguf, Findings& findings);

/// A sidecar parsed as JSON, or nothing when it is not there. Throws Error{malformed} at that file.
std::optional<Json> json_sidecar(const Checkpoint& source, std::string_view name, std::uint64_t max_bytes,
                                 JsonDuplicates duplicates = JsonDuplicates::keep_last);

/// `value` as the 32-bit number that a GGUF key holds. Throws Error{malformed} naming `key` when it does not fit.
std::uint32_t to_u32(std::int64_t value, std::string_view key);
std::int32_t to_i32(std::int64_t value, std::string_view key);
float to_f32(double value, std::string_view key);

}  // namespace regauge
