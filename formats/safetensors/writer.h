#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "formats/format.h"
#include "formats/safetensors/layout.h"

namespace regauge::safetensors {

/// Nothing when one safetensors file can hold the array, else the reason: block types have no dtype there.
std::optional<std::string> can_hold(const ArrayPlan& array);

/// A writer of one file, laid out in the style that is asked for; by default byte for byte as the reference serialiser does.
/// Any order of put(), from any thread.
std::unique_ptr<Writer> create_writer(const std::filesystem::path& target, const WriteOptions& options,
                                      const FileStyle& style = {});

}  // namespace regauge::safetensors
