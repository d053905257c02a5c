#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/text.h"
#include "formats/mlx/module.h"
#include "formats/safetensors/array_error.h"
#include "formats/safetensors/safetensors.h"
#include "ir/array_part.h"
#include "ir/low_rank.h"
#include "models/low_rank.h"
#include "models/permutations.h"

namespace regauge::mlx {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfigFile = "adapter_config.json";
constexpr const char* kWeightsFile = "adapters.safetensors";

/// Why an adapter cannot be parts of its weights; nothing when it can. The factors are a plain product there, so a scale
/// other than 1 has no place, and neither has DoRA's magnitude.
std::optional<std::string> objection(const Folder& folder, const fs::path& path) {
  const std::string file = folder.path_of(path);
  const Json config =
      parse_json(folder.read_text(path, kMaxConfigBytes), file, {.duplicates = JsonDuplicates::keep_last});
  if (!config.is_object()) throw Error(ErrorCode::malformed, "is no JSON object").at(file);
  try {
    const std::string type = get_string(config, "fine_tune_type").value_or("lora");
    if (type != "lora") return fmt::format("it is of type '{}'", excerpt(type));
    const Json* parameters = get_object(config, "lora_parameters");
    if (parameters == nullptr) return "its config has no lora_parameters";
    const auto scale = get_double(*parameters, "scale");
    if (!scale || *scale != 1)
      return fmt::format("its scale is {}, and factors are added as they are", scale.value_or(0));
    if (const auto rank = get_int(*parameters, "rank"); rank && *rank < 1) {
      throw Error(ErrorCode::malformed, "an adapter of rank {} corrects nothing", *rank);
    }
  } catch (Error& error) {
    throw std::move(error.at(file));
  }
  return std::nullopt;
}

struct Factors {
  std::optional<std::size_t> a, b;
};

bool is_factor(const StoredArray& array) {
  const auto* dtype = std::get_if<DType>(&array.element);
  const bool usual = dtype != nullptr && (*dtype == DType::f16 || *dtype == DType::bf16 || *dtype == DType::f32);
  return usual && (array.shape.rank() == 2 || array.shape.rank() == 3);
}

/// The two factors as they are stored, seen the canonical way round.
struct Halves {
  Part a, b;
  std::int64_t weights = 1;
  std::int64_t rank = 0;
};

/// A linear layer has lora_a [K, r] and lora_b [r, N]; an embedding of N rows lora_a [N, r] and lora_b [r, K]. Roles go by
/// the kind of module: for a square one both fit. Stacked experts lie the other way round than a linear layer, lora_a
/// [E, r, K] and lora_b [E, N, r]. Source: ml-explore/mlx-lm mlx_lm/tuner/lora.py.
std::optional<Halves> halves_of(const Checkpoint& checkpoint, const Factors& factors, const Tensor& tensor) {
  const Shape& a = checkpoint.arrays[*factors.a].shape;
  const Shape& b = checkpoint.arrays[*factors.b].shape;
  const std::int64_t k = tensor.shape.columns();
  const auto part = [&](std::size_t array, PartId id, std::int64_t rows, std::int64_t columns, bool turned) {
    return array_part(checkpoint, array, id, rows, columns, turned);
  };
  if (a.rank() != tensor.shape.rank() || b.rank() != tensor.shape.rank()) return std::nullopt;
  if (tensor.shape.rank() == 3) {
    const std::int64_t weights = tensor.shape.dims[0];
    const std::int64_t n = tensor.shape.dims[1];
    const std::int64_t rank = a.dims[1];
    if (a != Shape{weights, rank, k} || b != Shape{weights, n, rank}) return std::nullopt;
    return Halves{part(*factors.a, PartId::lowrank_a, weights * rank, k, false),
                  part(*factors.b, PartId::lowrank_b, weights * n, rank, false), weights, rank};
  }
  const std::int64_t n = tensor.shape.dims[0];
  const std::int64_t rank = a.dims[1];
  const bool embedding = tensor.name.ends_with("embed_tokens.weight");
  if (embedding ? a != Shape{n, rank} || b != Shape{rank, k} : a != Shape{k, rank} || b != Shape{rank, n})
    return std::nullopt;
  return Halves{part(embedding ? *factors.b : *factors.a, PartId::lowrank_a, rank, k, !embedding),
                part(embedding ? *factors.a : *factors.b, PartId::lowrank_b, n, rank, !embedding), 1, rank};
}

std::vector<std::int64_t> own_ranks(const Checkpoint& checkpoint, const Factors& factors, const FactorRanks& recorded,
                                    const Halves& halves, const Tensor& tensor) {
  try {
    return ranks_of(recorded, tensor.name, halves.weights, halves.rank, checkpoint.path);
  } catch (const Error& error) {
    throw malformed_array(checkpoint, *factors.a, "{}", error.message());
  }
}

void attach(const Checkpoint& checkpoint, const Factors& factors, const FactorRanks& recorded, Tensor& tensor) {
  const auto halves = halves_of(checkpoint, factors, tensor);
  if (!halves || halves->rank == 0) {
    throw malformed_array(checkpoint, *factors.a, "factors {} and {} do not go with a weight of {}",
                          to_string(checkpoint.arrays[*factors.a].shape),
                          to_string(checkpoint.arrays[*factors.b].shape), to_string(tensor.shape));
  }
  if (tensor.has_low_rank()) throw malformed_array(checkpoint, *factors.a, "the weight has low-rank factors already");
  const std::int64_t height = tensor.shape.rows() / halves->weights;
  std::vector<FactorPair> pairs;
  for (const std::int64_t rank : own_ranks(checkpoint, factors, recorded, *halves, tensor)) {
    const auto weight = static_cast<std::int64_t>(pairs.size());
    pairs.push_back(cut_factors(halves->a, {weight * halves->rank, (weight + 1) * halves->rank}, halves->b,
                                {weight * height, (weight + 1) * height}, rank));
  }
  add_factors(tensor, halves->a.dtype, halves->b.dtype, pairs);
  tensor.arrays.push_back(*factors.a);
  tensor.arrays.push_back(*factors.b);
}

/// Adds the adapter's file and arrays; returns the index of its first array.
std::size_t append(Checkpoint& checkpoint, const FolderPtr& folder, const fs::path& weights, const std::string& name) {
  Checkpoint adapter = open_safetensors(probe(folder, weights));
  const std::size_t first_file = checkpoint.files.size();
  const std::size_t first_array = checkpoint.arrays.size();
  for (SourceFile& file : adapter.files) {
    file.name = name;
    checkpoint.files.push_back(std::move(file));
  }
  for (StoredArray& array : adapter.arrays) {
    array.file += first_file;
    checkpoint.arrays.push_back(std::move(array));
  }
  checkpoint.check_array_names();
  for (Tensor& tensor : adapter.tensors) {
    for (std::size_t& array : tensor.arrays) array += first_array;
    checkpoint.tensors.push_back(std::move(tensor));
  }
  std::erase_if(checkpoint.sidecars, [&](const Sidecar& sidecar) { return sidecar.name == name; });
  return first_array;
}

void attach_all(Checkpoint& checkpoint, std::size_t first_array, const FactorRanks& recorded, FindingTally& tally) {
  std::map<std::string, Factors> pairs;
  for (std::size_t i = first_array; i < checkpoint.arrays.size(); ++i) {
    const StoredArray& array = checkpoint.arrays[i];
    const bool is_a = array.name.ends_with(".lora_a");
    if (!is_a && !array.name.ends_with(".lora_b")) {
      tally.add(Severity::warning, "adapter-array-unknown", "an adapter's array is no low-rank factor", array.name);
    } else if (!is_factor(array)) {
      tally.add(Severity::warning, "adapter-array-unknown", "factors of an odd type are carried, not attached",
                array.name);
    } else {
      Factors& pair = pairs[array.name.substr(0, array.name.size() - std::string_view(".lora_a").size())];
      (is_a ? pair.a : pair.b) = i;
    }
  }
  std::unordered_map<std::string_view, std::size_t> weights;
  for (std::size_t t = 0; t < checkpoint.tensors.size(); ++t) weights.emplace(checkpoint.tensors[t].name, t);
  std::vector<bool> absorbed(checkpoint.arrays.size());
  for (const auto& [module, pair] : pairs) {
    const auto weight = weights.find(module + ".weight");
    if (weight == weights.end()) {
      tally.add(Severity::warning, "lowrank-without-module", "low-rank factors correct no weight of this checkpoint",
                module);
      continue;
    }
    if (!pair.a || !pair.b)
      throw malformed_array(checkpoint, pair.a ? *pair.a : *pair.b, "the other low-rank factor is missing");
    attach(checkpoint, pair, recorded, checkpoint.tensors[weight->second]);
    absorbed[*pair.a] = absorbed[*pair.b] = true;
  }
  std::erase_if(checkpoint.tensors,
                [&](const Tensor& tensor) { return tensor.arrays.size() == 1 && absorbed[tensor.arrays[0]]; });
}

}  // namespace

bool is_adapter_directory(const Source& source) {
  if (!source.is_directory) return false;
  bool weights = false;
  bool config = false;
  for (const fs::path& entry : source.entries) {
    if (entry.has_parent_path()) continue;
    if (entry.extension() == ".safetensors" && entry != kWeightsFile) return false;
    weights = weights || entry == kWeightsFile;
    config = config || entry == kConfigFile;
  }
  return weights && config;
}

void turn_factors(Checkpoint& checkpoint) {
  if (const auto reason = objection(*checkpoint.folder, kConfigFile)) {
    throw Error(ErrorCode::unsupported, "this adapter cannot be used: {}", *reason)
        .at(checkpoint.folder->path().native());
  }
  for (Tensor& tensor : checkpoint.tensors) {
    const std::size_t index = tensor.arrays.front();
    const StoredArray& array = checkpoint.arrays[index];
    const bool named = array.name.ends_with(".lora_a") || array.name.ends_with(".lora_b");
    if (!named || !is_factor(array)) continue;  // carried as it is; nobody takes it for a factor of a weight
    tensor.name += ".weight";
    if (array.shape.rank() == 3) continue;  // stacks are the canonical way round
    tensor.shape = Shape{array.shape.dims[1], array.shape.dims[0]};
    tensor.parts.assign(
        1, array_part(checkpoint, index, PartId::values, tensor.shape.dims[0], tensor.shape.dims[1], true));
  }
}

void attach_adapter(Checkpoint& checkpoint, const OpenOptions& options) {
  FolderPtr folder;
  fs::path weights = kWeightsFile;
  std::string name;
  if (options.adapter) {
    folder = disk_folder(*options.adapter);
    name = (fs::path("adapter") / kWeightsFile).native();
    if (!folder->has_file(kWeightsFile) || !folder->has_file(kConfigFile)) {
      throw Error(ErrorCode::not_found, "is no MLX adapter: it lacks {} or {}", kConfigFile, kWeightsFile)
          .at(folder->path().native());
    }
    if (const auto reason = objection(*folder, kConfigFile)) {
      throw Error(ErrorCode::unsupported, "this adapter cannot be attached: {}", *reason).at(folder->path().native());
    }
  } else {
    if (!options.find_adapter) return;
    const auto found = std::ranges::find_if(
        checkpoint.sidecars, [](const Sidecar& sidecar) { return fs::path(sidecar.name).filename() == kWeightsFile; });
    if (found == checkpoint.sidecars.end()) return;
    name = found->name;
    weights = name;
    folder = checkpoint.folder;
    const fs::path config = weights.parent_path() / kConfigFile;
    const auto reason = checkpoint.has_sidecar(config.native())
                            ? objection(*folder, config)
                            : std::optional<std::string>("it has no adapter_config.json");
    if (reason) {
      checkpoint.findings.push_back({Severity::warning,
                                     "adapter-not-attached",
                                     fmt::format("an adapter lies inside and is not used: {}", *reason),
                                     name,
                                     {}});
      return;
    }
  }
  FactorRanks recorded;
  const fs::path record = weights.parent_path() / fs::path(kPermutationFile);
  if (folder->has_file(record))
    recorded = parse_factor_ranks(folder->read_text(record, kMaxRecordBytes), folder->path_of(record));
  FindingTally tally;
  attach_all(checkpoint, append(checkpoint, folder, weights, name), recorded, tally);
  tally.move_to(checkpoint.findings, name);
}

}  // namespace regauge::mlx
