#pragma once

#include <filesystem>
#include <memory>

#include "formats/format.h"

namespace regauge::gguf {

/// A writer of one model in files of at most `options.shard_bytes` tensor bytes each, in the order of begin(), a larger
/// tensor in a file of its own: NAME-00001-of-00003.gguf for the target NAME.gguf. The first file has all keys, the others
/// their split keys only, as llama.cpp's converter and gguf-split leave them. What fits one file is written to the target
/// itself and unsplit, as that converter does. The first file appears last and, where it replaces one, is gone before the
/// others appear: whoever finds it finds the rest. Any order of put(), from any thread.
std::unique_ptr<Writer> create_split_writer(const std::filesystem::path& target, const WriteOptions& options);

}  // namespace regauge::gguf
