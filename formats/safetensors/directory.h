#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/finding.h"
#include "base/json.h"
#include "formats/format.h"

namespace regauge::safetensors {

/// An index file (`*.safetensors.index.json`), parsed and checked as far as it goes without the shards.
struct Index {
  std::string name;  ///< of the index file
  Json weight_map;   ///< object: array name -> shard, each a clean relative path
  std::optional<double> total_size;
  bool odd_total_size = false;  ///< total_size is there and is no number
};

/// Which files of a directory hold the arrays of its checkpoint.
struct ShardSet {
  std::optional<Index> index;
  std::vector<std::string> shards;    ///< relative, bytewise ascending
  std::vector<std::string> unlisted;  ///< those of `shards` that the index does not name
};

/// Finds the shards: those of the index, and every other .safetensors file at the top level that is no adapter and no
/// second copy. Throws Error{malformed} for an index that breaks the rules or leads out of the directory,
/// Error{not_found} for a shard that is not there.
ShardSet find_shards(const Source& source, FindingTally& tally);

/// Whether a directory is a safetensors checkpoint by its file names.
bool has_shards(const Source& source);

/// config.json, or nothing when there is none. Keys that occur twice keep their last value and give a finding. Throws
/// Error{malformed} when it is no JSON object, or larger or deeper than any real one.
std::optional<Json> read_config(const Source& source, FindingTally& tally);

/// Every file of the directory that is no shard. What a symbolic link leads out to is left out, with a finding.
std::vector<Sidecar> find_sidecars(const Source& source, const ShardSet& set, FindingTally& tally);

/// Holds the index against what the shards of `checkpoint` contain: an array that is listed and nowhere to be found is
/// Error{malformed}; one that is not listed, or lies in another shard, and a wrong total_size are findings.
void check_index(const ShardSet& set, const Checkpoint& checkpoint, FindingTally& tally);

}  // namespace regauge::safetensors
