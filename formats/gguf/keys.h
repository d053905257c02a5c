#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/finding.h"
#include "ir/metadata.h"

namespace regauge::gguf {

/// What tensors are padded to when no key says otherwise. Source: ggml-org/ggml include/gguf.h, GGUF_DEFAULT_ALIGNMENT.
inline constexpr std::uint32_t kDefaultAlignment = 32;
inline constexpr std::string_view kAlignmentKey = "general.alignment";

/// Checks the keys that every GGUF file may have, whatever its architecture, for type and mutual length: who casts a
/// token array without looking reads memory that is not there. `offsets` are the places of the entries in the file.
/// Returns the alignment. Throws Error{malformed} with file, key and offset.
std::uint32_t check_known_keys(const Metadata& metadata, std::span<const std::uint64_t> offsets,
                               const std::string& path, FindingTally& tally);

}  // namespace regauge::gguf
