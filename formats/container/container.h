#pragma once

#include <filesystem>

#include "formats/format.h"

namespace regauge {

/// Containers (`.rg.gguf`): a whole checkpoint of another format in one GGUF file. What is opened is the checkpoint inside,
/// through the reader of its own format.
extern const Format kContainerFormat;

namespace container {

/// Reads everything and holds it against the digests. Throws what opening throws; what is damaged in the data is a finding
/// for each part.
Findings check(const std::filesystem::path& path);

}  // namespace container
}  // namespace regauge
