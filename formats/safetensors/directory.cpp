#include "formats/safetensors/directory.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <set>
#include <string_view>
#include <unordered_map>

#include "base/error.h"
#include "base/limits.h"
#include "base/text.h"

namespace regauge::safetensors {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".safetensors";
constexpr std::string_view kIndexSuffix = ".safetensors.index.json";
constexpr std::string_view kUsualIndex = "model.safetensors.index.json";

// Low-rank factors lie beside the model they belong to and are no part of it. Sources: huggingface/peft
// src/peft/utils/constants.py, SAFETENSORS_WEIGHTS_NAME; ml-explore/mlx-lm mlx_lm/utils.py, adapters.safetensors;
// ModelCloud/GPTQModel gptqmodel/adapter/adapter.py, EORA_DEFAULT_FILE.
constexpr std::array<std::string_view, 3> kAdapterFiles = {"adapter_model.safetensors", "adapters.safetensors",
                                                           "eora.safetensors"};

bool is_adapter(std::string_view name) { return std::ranges::find(kAdapterFiles, name) != kAdapterFiles.end(); }

/// Some publishers add the weights once more under the original names. Source: Blaizzy/mlx-vlm mlx_vlm/utils.py and
/// vllm-project/vllm, which leave consolidated*.safetensors out when there are others.
bool is_second_copy(std::string_view name) { return name.starts_with("consolidated"); }

bool is_top_level(const fs::path& path) { return !path.has_parent_path(); }

std::vector<std::string> top_level_files(const Source& source, std::string_view suffix) {
  std::vector<std::string> names;
  for (const fs::path& path : source.entries) {
    if (is_top_level(path) && path.native().ends_with(suffix)) names.push_back(path.native());
  }
  return names;
}

/// Throws unless `relative` is a file inside the directory.
void check_inside(const Source& source, const std::string& relative) {
  if (!source.folder->stays_inside(relative)) {
    throw Error(ErrorCode::malformed, "is a symbolic link that leads out of the checkpoint")
        .at(source.folder->path_of(relative));
  }
}

/// What is wrong with a shard's name in an index, or null.
const char* shard_name_fault(std::string_view name) {
  if (name.empty()) return "is empty";
  if (name.find('\0') != std::string_view::npos) return "holds a NUL";
  const fs::path path(name);
  if (path.is_absolute()) return "is an absolute path";
  for (const fs::path& step : path) {
    if (step == "..") return "leads out of the checkpoint";
  }
  if (!name.ends_with(kSuffix)) return "does not end in .safetensors; other kinds of weights are not read";
  return nullptr;
}

std::string choose_index(const std::vector<std::string>& names, const Source& source, FindingTally& tally) {
  if (names.size() == 1) return names.front();
  if (std::ranges::find(names, kUsualIndex) == names.end()) {
    throw Error(ErrorCode::malformed, "has {} index files and none is '{}'", names.size(), kUsualIndex)
        .at(source.path.native());
  }
  for (const std::string& name : names) {
    if (name != kUsualIndex) {
      tally.add(Severity::warning, "index-extra", "index file beside model.safetensors.index.json is not used", name);
    }
  }
  return std::string(kUsualIndex);
}

Index read_index(const Source& source, const std::string& name) {
  check_inside(source, name);
  const std::string path = source.folder->path_of(name);
  Json root = parse_json(source.folder->read_text(name, kMaxConfigBytes), path);
  Index index;
  index.name = name;
  if (!root.is_object()) throw Error(ErrorCode::malformed, "is no JSON object").at(path);
  const auto weight_map = root.find("weight_map");
  if (weight_map == root.end() || !weight_map->is_object()) {
    throw Error(ErrorCode::malformed, "has no object 'weight_map'").at(path);
  }
  index.weight_map = std::move(*weight_map);
  // total_size is a hint for people: whatever it is, the arrays are none the worse for it.
  const auto metadata = root.find("metadata");
  if (metadata != root.end() && metadata->is_object()) {
    const auto total = metadata->find("total_size");
    if (total != metadata->end() && total->is_number()) index.total_size = total->get<double>();
    index.odd_total_size = total != metadata->end() && !total->is_number();
  }
  for (const auto& [array, shard] : index.weight_map.items()) {
    if (!shard.is_string()) {
      throw Error(ErrorCode::malformed, "shard of this array is no string").tensor(excerpt(array)).at(path);
    }
    auto& text = shard.get_ref<std::string&>();
    if (const char* fault = shard_name_fault(text)) {
      throw Error(ErrorCode::malformed, "shard name '{}' {}", excerpt(text), fault).tensor(excerpt(array)).at(path);
    }
    text = fs::path(text).lexically_normal().native();  // "./a" and "a" are one file, and must not be read twice
  }
  return index;
}

/// What is wrong where the index promises a shard: nothing is there, or something that is no file.
Error missing_shard(const Source& source, const Index& index, const std::string& name, const std::string& array) {
  try {
    source.folder->open(name);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::invalid) return error;
  }
  return Error(ErrorCode::not_found, "shard '{}' is not there", excerpt(name))
      .tensor(excerpt(array))
      .at(source.folder->path_of(index.name));
}

/// Adds the shards of the index to `found`; the first array that needs a shard stands for all in messages.
void add_listed(const Source& source, const Index& index, std::set<std::string>& found) {
  for (const auto& [array, shard] : index.weight_map.items()) {
    const auto& name = shard.get_ref<const std::string&>();
    if (!found.insert(name).second) continue;
    if (!source.folder->has_file(name)) throw missing_shard(source, index, name, array);
    check_inside(source, name);
  }
}

void note_case_collisions(const Source& source, FindingTally& tally) {
  std::map<std::string, const fs::path*> seen;
  for (const fs::path& path : source.entries) {
    std::string lower = path.native();
    for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    if (!seen.emplace(std::move(lower), &path).second) {
      tally.add(Severity::warning, "file-case-collision", "file name differs from another one only in case",
                path.native());
    }
  }
}

/// Payload and file size of all shards that `wanted` takes.
template <typename Predicate>
std::pair<double, double> sizes(const Checkpoint& checkpoint, Predicate wanted) {
  double payload = 0;
  double files = 0;
  for (const SourceFile& file : checkpoint.files) {
    if (!wanted(file.name)) continue;
    payload += static_cast<double>(file.file->size() - file.data_offset);
    files += static_cast<double>(file.file->size());
  }
  return {payload, files};
}

void check_total_size(const ShardSet& set, const Checkpoint& checkpoint, FindingTally& tally) {
  if (set.index->odd_total_size) {
    tally.add(Severity::warning, "index-total-size", "total_size is no number", set.index->name);
  }
  if (!set.index->total_size) return;
  // Hugging Face counts the arrays' bytes, GPTQModel whole files (ModelCloud/GPTQModel gptqmodel/models/writer.py), and
  // neither knows of files that were added later.
  const auto [payload, files] = sizes(checkpoint, [](const std::string&) { return true; });
  const auto [listed_payload, listed_files] = sizes(checkpoint, [&set](const std::string& name) {
    return std::ranges::find(set.unlisted, name) == set.unlisted.end();
  });
  const double total = *set.index->total_size;
  if (total != payload && total != files && total != listed_payload && total != listed_files) {
    tally.add(Severity::warning, "index-total-size",
              fmt::format("total_size is {:.0f} but the arrays have {:.0f} bytes", total, payload), set.index->name);
  }
}

}  // namespace

ShardSet find_shards(const Source& source, FindingTally& tally) {
  ShardSet set;
  note_case_collisions(source, tally);
  std::set<std::string> found;
  if (const auto names = top_level_files(source, kIndexSuffix); !names.empty()) {
    set.index = read_index(source, choose_index(names, source, tally));
    add_listed(source, *set.index, found);
  }
  std::vector<std::string> others;
  std::vector<std::string> aside;
  for (std::string& name : top_level_files(source, kSuffix)) {
    if (found.contains(name)) continue;
    (is_adapter(name) || is_second_copy(name) ? aside : others).push_back(std::move(name));
  }
  // A folder that holds nothing but an adapter or consolidated weights is a checkpoint of these.
  if (found.empty() && others.empty()) others = std::move(aside);
  for (std::string& name : others) {
    check_inside(source, name);
    if (set.index) {
      set.unlisted.push_back(name);
      tally.add(Severity::warning, "shard-unlisted", "shard that the index does not list is read too", name);
    }
    found.insert(std::move(name));
  }
  if (found.empty()) {
    throw Error(ErrorCode::not_found, "has no .safetensors file at its top level").at(source.path.native());
  }
  set.shards.assign(found.begin(), found.end());
  return set;
}

bool has_shards(const Source& source) {
  return std::ranges::any_of(source.entries, [](const fs::path& path) {
    return is_top_level(path) && (path.native().ends_with(kSuffix) || path.native().ends_with(kIndexSuffix));
  });
}

std::optional<Json> read_config(const Source& source, FindingTally& tally) {
  const std::string name = "config.json";
  if (std::ranges::find(source.entries, fs::path(name)) == source.entries.end()) return std::nullopt;
  check_inside(source, name);
  const std::string path = source.folder->path_of(name);
  const JsonLimits limits{.duplicates = JsonDuplicates::keep_last};
  std::vector<std::string> repeated;
  Json config = parse_json(source.folder->read_text(name, kMaxConfigBytes), path, limits, &repeated);
  if (!config.is_object()) throw Error(ErrorCode::malformed, "is no JSON object").at(path);
  for (const std::string& key : repeated) {
    tally.add(Severity::warning, "config-repeated-key", "config.json gives a key twice, the last value counts", key);
  }
  return config;
}

std::vector<Sidecar> find_sidecars(const Source& source, const ShardSet& set, FindingTally& tally) {
  std::vector<Sidecar> sidecars;
  for (const fs::path& path : source.entries) {
    if (std::ranges::binary_search(set.shards, path.native())) continue;
    if (!source.folder->stays_inside(path)) {
      tally.add(Severity::warning, "sidecar-outside", "symbolic link that leads out of the checkpoint is left out",
                path.native());
      continue;
    }
    if (const auto bytes = source.folder->file_bytes(path)) sidecars.push_back({path.native(), *bytes});
  }
  return sidecars;
}

void check_index(const ShardSet& set, const Checkpoint& checkpoint, FindingTally& tally) {
  if (!set.index) return;
  std::unordered_map<std::string_view, std::size_t> arrays;
  for (std::size_t i = 0; i < checkpoint.arrays.size(); ++i) arrays.emplace(checkpoint.arrays[i].name, i);
  std::vector<bool> listed(checkpoint.arrays.size());
  for (const auto& [name, shard] : set.index->weight_map.items()) {
    const auto found = arrays.find(name);
    if (found == arrays.end()) {
      throw Error(ErrorCode::malformed, "is listed in shard '{}' but is not there",
                  excerpt(shard.get_ref<const std::string&>()))
          .tensor(excerpt(name))
          .at(checkpoint.folder->path_of(set.index->name));
    }
    listed[found->second] = true;
    if (checkpoint.files[checkpoint.arrays[found->second].file].name != shard.get_ref<const std::string&>()) {
      tally.add(Severity::warning, "index-wrong-shard", "array lies in another shard than the index says", name);
    }
  }
  for (std::size_t i = 0; i < listed.size(); ++i) {
    if (!listed[i]) {
      tally.add(Severity::warning, "index-tensor-unlisted", "array that the index does not list",
                checkpoint.arrays[i].name);
    }
  }
  check_total_size(set, checkpoint, tally);
}

}  // namespace regauge::safetensors
