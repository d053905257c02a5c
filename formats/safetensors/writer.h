#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "formats/format.h"

namespace regauge::safetensors {

/// Nothing when one safetensors file can hold the array, else the reason: block types have no dtype there.
std::optional<std::string> can_hold(const ArrayPlan& array);

/// A writer of one file, byte for byte as the reference serialiser lays it out: `__metadata__` first ({"format":"pt"}
/// unless begin() gets metadata, which must be strings), then entries and data by falling dtype rank and rising name,
/// the header padded with spaces to a multiple of 8. Any order of put(), from any thread.
std::unique_ptr<Writer> create_writer(const std::filesystem::path& target, const WriteOptions& options);

}  // namespace regauge::safetensors
