#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "formats/gguf/header.h"

namespace regauge::gguf {

/// What a header says about the file being one of several.
struct SplitKeys {
  std::uint64_t number = 0;  ///< from 0
  std::uint64_t count = 1;
  std::uint64_t tensors = 0;  ///< of all shards
};

/// The split keys of a header, or nothing when the file is whole. Throws Error{malformed} when some are missing.
std::optional<SplitKeys> split_keys(const Metadata& metadata, const std::string& path);

/// The names of all shards, from the name and keys of one: PREFIX-00001-of-00003.gguf, or the same with ".partial" behind
/// for those that are being written. Throws Error{malformed} when the name is not of that form or contradicts the keys.
std::vector<std::filesystem::path> shard_paths(const std::filesystem::path& path, const SplitKeys& keys);

/// The path of shard `number`, from 0, of a model that is written to `target`: the name without its ".gguf" is the prefix.
std::filesystem::path shard_path(const std::filesystem::path& target, std::uint64_t number, std::uint64_t count);

/// Checks that a shard's keys are those of shard `number` of the set that `first` describes. Throws Error{malformed}.
void check_shard(const Metadata& metadata, std::uint64_t number, const SplitKeys& first, const std::string& path);

}  // namespace regauge::gguf
