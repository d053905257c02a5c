#include "formats/safetensors/low_rank.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>

#include "base/error.h"
#include "base/text.h"
#include "formats/safetensors/array_error.h"
#include "ir/array_part.h"

namespace regauge::safetensors {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return out;
}

/// What an array's name says about its place in a pair.
struct FactorName {
  std::string key;  ///< lower case, without the suffix
  bool is_a = false;
  bool peft = false;  ///< ends in `.weight`: PEFT's orientation where the shapes do not tell
};

std::optional<FactorName> factor_name(std::string_view name) {
  struct Suffix {
    std::string_view text;
    bool is_a;
    bool peft;
  };
  constexpr Suffix kSuffixes[] = {{".lora_a.weight", true, true},
                                  {".lora_b.weight", false, true},
                                  {".lora_a", true, false},
                                  {".lora_b", false, false}};
  const std::string folded = lower(name);
  for (const Suffix& suffix : kSuffixes) {
    if (folded.ends_with(suffix.text) && folded.size() > suffix.text.size()) {
      return FactorName{folded.substr(0, folded.size() - suffix.text.size()), suffix.is_a, suffix.peft};
    }
  }
  return std::nullopt;
}

struct FactorPair {
  std::optional<std::size_t> a, b;
  bool peft = false;
};

/// Weights by module name in lower case; null where two modules differ only in case.
std::unordered_map<std::string, Tensor*> weights_by_module(Checkpoint& checkpoint) {
  constexpr std::string_view kWeight = ".weight";
  std::unordered_map<std::string, Tensor*> weights;
  for (Tensor& tensor : checkpoint.tensors) {
    if (!tensor.name.ends_with(kWeight) || tensor.shape.rank() != 2 || factor_name(tensor.name)) continue;
    const auto [place, is_new] =
        weights.emplace(lower(std::string_view(tensor.name).substr(0, tensor.name.size() - kWeight.size())), &tensor);
    if (!is_new) place->second = nullptr;
  }
  return weights;
}

/// The weight whose module is the longest tail of `key`, at a dot: adapters put "base_model.model." before the name.
Tensor* find_weight(const std::unordered_map<std::string, Tensor*>& weights, const std::string& key) {
  constexpr int kMaxSteps = 64;  // a module's path has a dozen; a hostile name of dots must not cost its square
  std::size_t from = 0;
  for (int step = 0; step < kMaxSteps; ++step) {
    const auto found = weights.find(key.substr(from));
    if (found != weights.end()) return found->second;
    const auto dot = key.find('.', from);
    if (dot == std::string::npos) break;
    from = dot + 1;
  }
  return nullptr;
}

std::pair<std::int64_t, std::int64_t> factor_shape(const Checkpoint& checkpoint, std::size_t index) {
  const StoredArray& array = checkpoint.arrays[index];
  const auto* dtype = std::get_if<DType>(&array.element);
  if (dtype == nullptr || !is_float(*dtype) || bits(*dtype) < 16 || bits(*dtype) > 32) {
    throw malformed_array(checkpoint, index, "low-rank factors are f16, bf16 or f32, not {}", element_name(array));
  }
  if (array.shape.rank() != 2) {
    throw malformed_array(checkpoint, index, "shape {} is no matrix", to_string(array.shape));
  }
  return {array.shape.dims[0], array.shape.dims[1]};
}

void attach(const Checkpoint& checkpoint, const FactorPair& pair, Tensor& tensor) {
  const std::int64_t n = tensor.shape.dims[0];
  const std::int64_t k = tensor.shape.dims[1];
  const auto [a_rows, a_columns] = factor_shape(checkpoint, *pair.a);
  const auto [b_rows, b_columns] = factor_shape(checkpoint, *pair.b);
  const bool upright = a_columns == k && b_rows == n && a_rows == b_columns;
  const bool transposed = a_rows == k && b_columns == n && a_columns == b_rows;
  if (!upright && !transposed) {
    throw malformed_array(checkpoint, *pair.a, "factors [{}, {}] and [{}, {}] have no common rank for a weight of {}",
                          a_rows, a_columns, b_rows, b_columns, to_string(tensor.shape));
  }
  const bool flip = transposed && !(upright && pair.peft);
  const std::int64_t rank = flip ? a_columns : a_rows;
  if (rank == 0) throw malformed_array(checkpoint, *pair.a, "low-rank factors of rank 0");
  if (tensor.has_low_rank())
    throw malformed_array(checkpoint, *pair.a, "'{}' has low-rank factors already", tensor.name);
  tensor.parts.push_back(array_part(checkpoint, *pair.a, PartId::lowrank_a, rank, k, flip));
  tensor.parts.push_back(array_part(checkpoint, *pair.b, PartId::lowrank_b, n, rank, flip));
  tensor.arrays.push_back(*pair.a);
  tensor.arrays.push_back(*pair.b);
}

/// Hands every pair of factors among the tensors to its weight and marks the tensors that it took apart in `absorbed`.
void attach_factors(Checkpoint& checkpoint, std::vector<bool>& absorbed) {
  std::map<std::string, FactorPair> pairs;  // ordered: findings must not depend on a hash
  for (std::size_t i = 0; i < checkpoint.arrays.size(); ++i) {
    const auto factor = factor_name(checkpoint.arrays[i].name);
    if (!factor) continue;
    FactorPair& pair = pairs[factor->key];
    std::optional<std::size_t>& side = factor->is_a ? pair.a : pair.b;
    if (side) throw malformed_array(checkpoint, i, "this low-rank factor is there twice");
    side = i;
    pair.peft = factor->peft;
  }
  if (pairs.empty()) return;

  std::unordered_map<std::size_t, std::size_t> tensor_of_array;
  for (std::size_t t = 0; t < checkpoint.tensors.size(); ++t) {
    if (checkpoint.tensors[t].arrays.size() == 1) tensor_of_array.emplace(checkpoint.tensors[t].arrays[0], t);
  }
  const auto weights = weights_by_module(checkpoint);
  if (weights.empty()) return;  // an adapter by itself
  FindingTally tally;
  for (const auto& [key, pair] : pairs) {
    Tensor* weight = find_weight(weights, key);
    if (weight == nullptr) {
      tally.add(Severity::warning, "lowrank-without-module", "low-rank factors correct no weight of this checkpoint",
                key);
      continue;
    }
    if (!pair.a || !pair.b)
      throw malformed_array(checkpoint, pair.a ? *pair.a : *pair.b, "the other low-rank factor is missing");
    attach(checkpoint, pair, *weight);
    for (const std::size_t array : {*pair.a, *pair.b}) {
      if (const auto found = tensor_of_array.find(array); found != tensor_of_array.end())
        absorbed[found->second] = true;
    }
  }
  tally.move_to(checkpoint.findings, {});
}

}  // namespace

void attach_low_rank(Checkpoint& checkpoint, const Source& source, const OpenOptions& options) {
  append_adapter(checkpoint, source, options);
  std::vector<bool> absorbed(checkpoint.tensors.size());
  attach_factors(checkpoint, absorbed);
  std::vector<Tensor> kept;
  kept.reserve(checkpoint.tensors.size());
  for (std::size_t i = 0; i < absorbed.size(); ++i) {
    if (!absorbed[i]) kept.push_back(std::move(checkpoint.tensors[i]));
  }
  checkpoint.tensors = std::move(kept);
}

}  // namespace regauge::safetensors
