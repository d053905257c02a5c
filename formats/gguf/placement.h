#pragma once

#include <cstdint>
#include <vector>

#include "base/file.h"
#include "base/finding.h"
#include "formats/gguf/header.h"
#include "ir/tensor.h"

namespace regauge::gguf {

/// Turns the tensors of a header into stored arrays (`file` index left 0), in file order. Holds them against the rules
/// of ggml's reader: each begins where the one before it ends, padded to the alignment, and all lie within the file. A
/// type that nobody here knows becomes Opaque, its size taken from where the next one begins. Throws Error{malformed}.
std::vector<StoredArray> place_tensors(const Header& header, const File& file, FindingTally& tally);

}  // namespace regauge::gguf
