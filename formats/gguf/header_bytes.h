#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "formats/gguf/header.h"
#include "ir/metadata.h"

namespace regauge::gguf {

/// The header of a version 3 file, little endian: preamble, keys and tensors in the order given, then zeros up to the
/// alignment of 32 where there are tensors (without any, a file ends with its last key, as gguf-py leaves it). `at` of the
/// tensors is not used. Throws Error{unsupported} naming the key for a value that ggml would refuse.
std::vector<std::byte> header_bytes(std::span<const Metadata::Entry* const> keys, std::span<const TensorInfo> tensors);

}  // namespace regauge::gguf
