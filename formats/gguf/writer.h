#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "formats/format.h"
#include "formats/gguf/split.h"

namespace regauge::gguf {

/// Nothing when a GGUF file can hold the array, else the reason: types that ggml reads, names up to 63 bytes, up to 4
/// dimensions, rows of whole blocks.
std::optional<std::string> can_hold(const ArrayPlan& array);

/// A writer of one version 3 file, little endian, aligned to 32, as gguf-py lays it out: keys in the order given,
/// tensors in the order given with exactly their rank, each padded with zeros, the last one too. Any order of put(),
/// from any thread. What describes the container and not the model is the writer's own: a `general.alignment` other
/// than 32 and the `split.*` keys are not copied. begin() throws Error{unsupported} for keys and strings that ggml
/// would refuse.
std::unique_ptr<Writer> create_writer(const std::filesystem::path& target, const WriteOptions& options);

/// The same for one shard of a split model: the keys of `split` follow those of begin().
std::unique_ptr<Writer> create_shard_writer(const std::filesystem::path& target, const WriteOptions& options,
                                            const SplitKeys& split);

}  // namespace regauge::gguf
