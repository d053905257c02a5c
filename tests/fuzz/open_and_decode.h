#pragma once

#include <filesystem>

namespace regauge::fuzz {

/// Opens what lies at `path` as any checkpoint and decodes the first and last band of every tensor. Hostile bytes may be
/// refused with an Error; one that calls itself a bug of ours (ErrorCode::internal) ends the process, as does any other
/// exception.
void open_and_decode(const std::filesystem::path& path);

/// A file to overwrite with one input after another, in a folder that goes when the process ends in good order.
std::filesystem::path scratch_path(const char* name);

}  // namespace regauge::fuzz
