#include "models/low_rank.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "models/hf_files.h"
#include "models/permutations.h"

namespace regauge {
namespace {

constexpr std::int64_t kMaxRank = 1 << 24;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return out;
}

std::string_view module_of(std::string_view weight) {
  constexpr std::string_view kLeaf = ".weight";
  return weight.ends_with(kLeaf) ? weight.substr(0, weight.size() - kLeaf.size()) : weight;
}

std::int64_t largest_rank(std::span<const CorrectedModule> modules) {
  std::int64_t rank = 0;
  for (const CorrectedModule& module : modules) rank = std::max(rank, module.rank);
  return rank;
}

/// The rank that most modules have, the larger one of two.
std::int64_t usual_rank(std::span<const CorrectedModule> modules) {
  std::map<std::int64_t, int> votes;
  for (const CorrectedModule& module : modules) ++votes[module.rank];
  const auto most = std::ranges::max_element(votes, [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == votes.end() ? 0 : most->first;
}

/// The original's keys in its order, of which those that say how factors are used are ours.
Json with_rest_of(const Json& original, Json made, const std::set<std::string>& leaves) {
  static constexpr std::array<std::string_view, 7> kOurs{"r",        "lora_alpha",   "fan_in_fan_out", "use_rslora",
                                                         "use_dora", "rank_pattern", "alpha_pattern"};
  Json json = Json::object();
  for (const auto& [key, value] : original.items()) {
    const bool ours = std::ranges::find(kOurs, key) != kOurs.end();
    if (!ours) {
      json[key] = value;
    } else if (made.contains(key)) {
      json[key] = made[key];
    }
  }
  for (const auto& [key, value] : made.items()) {
    if (!json.contains(key)) json[key] = value;
  }
  std::set<std::string> listed;  // a set that is written in any order
  if (json["target_modules"].is_array()) {
    for (const Json& one : json["target_modules"]) listed.insert(one.is_string() ? one.get<std::string>() : "");
  }
  if (listed != leaves) json["target_modules"] = leaves;
  return json;
}

// Keys and order of huggingface/peft src/peft/tuners/lora/config.py as ModelCloud/GPTQModel gptqmodel/adapter/peft.py
// writes them. alpha = r, here and for every rank of its own, is a scale of 1 for peft; GPTQModel knows no scale.
std::string peft_config(std::span<const CorrectedModule> modules, const Json* original) {
  const std::int64_t rank = usual_rank(modules);
  std::set<std::string> leaves;
  Json pattern = Json::object();
  for (const CorrectedModule& module : modules) {
    const std::string name = lower(module_of(module.weight));
    leaves.insert(name.substr(name.rfind('.') + 1));
    if (module.rank != rank) pattern[name] = module.rank;
  }
  Json json = Json::object();
  json["base_model_name_or_path"] = "";
  json["r"] = rank;
  json["target_modules"] = leaves;
  json["lora_alpha"] = rank;
  json["lora_dropout"] = 0.0;
  json["fan_in_fan_out"] = false;
  json["bias"] = "none";
  json["use_rslora"] = false;
  json["init_lora_weights"] = true;
  if (!pattern.empty()) {
    json["rank_pattern"] = pattern;
    json["alpha_pattern"] = pattern;
  }
  json["use_dora"] = false;
  json["lora_bias"] = false;
  json["task_type"] = "CAUSAL_LM";
  json["peft_type"] = "LORA";
  if (original != nullptr) json = with_rest_of(*original, std::move(json), leaves);
  return render_json(json, 2) + "\n";
}

/// The path of a module as mlx-lm's adapters name it: relative to its block, or whole outside of blocks.
std::string mlx_key(std::string_view weight) {
  const std::string_view module = module_of(weight);
  constexpr std::string_view kLayers = ".layers.";
  const auto at = module.find(kLayers);
  if (at == std::string_view::npos) return std::string(module);
  const auto dot = module.find('.', at + kLayers.size());
  return std::string(dot == std::string_view::npos ? module : module.substr(dot + 1));
}

// Source: ml-explore/mlx-lm mlx_lm/tuner/utils.py, load_adapters and linear_to_lora_layers: one rank and one scale for all.
std::string mlx_config(std::span<const CorrectedModule> modules) {
  std::set<std::string> keys;
  for (const CorrectedModule& module : modules) keys.insert(mlx_key(module.weight));
  Json parameters = Json::object();
  parameters["rank"] = largest_rank(modules);
  parameters["scale"] = 1.0;
  parameters["dropout"] = 0.0;
  parameters["keys"] = keys;
  Json json = Json::object();
  json["fine_tune_type"] = "lora";
  json["num_layers"] = -1;
  json["lora_parameters"] = std::move(parameters);
  return render_json(json, 4) + "\n";
}

}  // namespace

std::optional<PartId> factor_of(std::string_view tensor) {
  const std::string folded = lower(tensor);
  if (folded.ends_with(".lora_a") || folded.ends_with(".lora_a.weight")) return PartId::lowrank_a;
  if (folded.ends_with(".lora_b") || folded.ends_with(".lora_b.weight")) return PartId::lowrank_b;
  return std::nullopt;
}

std::string weight_of_factor(std::string_view tensor) {
  constexpr std::string_view kWeight = ".weight";
  const bool module = tensor.ends_with(kWeight);
  if (module) tensor.remove_suffix(kWeight.size());
  return std::string(tensor.substr(0, tensor.rfind('.'))) + (module ? std::string(kWeight) : "");
}

bool is_transposed(FactorForm form) noexcept { return form == FactorForm::in_model || form == FactorForm::mlx; }

std::string factor_array(FactorForm form, std::string_view weight, PartId factor) {
  const bool is_a = factor == PartId::lowrank_a;
  const std::string_view module = module_of(weight);
  switch (form) {
    // GPTQModel lowers the case of its keys, and reads them in any. Source: gptqmodel/adapter/adapter.py.
    case FactorForm::peft: return fmt::format("base_model.model.{}.lora_{}.weight", lower(module), is_a ? 'A' : 'B');
    case FactorForm::in_model: return fmt::format("{}.lora_{}", module, is_a ? 'A' : 'B');
    case FactorForm::mlx: return fmt::format("{}.lora_{}", module, is_a ? 'a' : 'b');
    case FactorForm::gguf: return fmt::format("{}.lora_{}", weight, is_a ? 'a' : 'b');
  }
  return {};
}

std::string_view factor_folder(FactorForm form) noexcept {
  if (form == FactorForm::peft) return "eora";
  return form == FactorForm::mlx ? "adapters" : "";
}

std::string adapter_config_text(FactorForm form, std::span<const CorrectedModule> modules, const Json* original) {
  if (form == FactorForm::peft) return peft_config(modules, original);
  if (form == FactorForm::mlx) return mlx_config(modules);
  throw Error(ErrorCode::internal, "factors in this form have no configuration");
}

bool is_adapter(const Checkpoint& checkpoint) {
  return !checkpoint.tensors.empty() && std::ranges::all_of(checkpoint.tensors, [](const Tensor& tensor) {
    return factor_of(tensor.name).has_value();
  });
}

View factor_view(PartId factor, const View& of_weight) {
  View view;
  if (factor == PartId::lowrank_a) view.columns = of_weight.columns;
  if (factor == PartId::lowrank_b) view.rows = of_weight.rows;
  return view;
}

View adapter_order(const Architecture& architecture, Dialect dialect, const std::map<std::string, AxisMap>& orders,
                   const Slot& slot) {
  const Shape shape = architecture.slot_shape(slot);
  View recorded;
  if (const auto own = orders.find(architecture.canonical_name(slot)); own != orders.end())
    recorded.columns = own->second;
  if (const auto partner = architecture.column_partner(slot)) {
    const auto other = orders.find(architecture.canonical_name(*partner));
    if (other != orders.end()) recorded.rows = other->second;
  }
  if ((recorded.columns && recorded.columns->size() != shape.columns()) ||
      (recorded.rows && recorded.rows->size() != shape.rows())) {
    throw Error(ErrorCode::malformed, "the recorded column order is not one of this model")
        .tensor(architecture.canonical_name(slot));
  }
  return compose(recorded, architecture.convention(dialect, slot), shape.rows(), shape.columns());
}

FactorRanks parse_factor_ranks(std::string_view text, std::string_view path) {
  FactorRanks ranks;
  const Json json = parse_json(text, std::string(path), {.max_bytes = kMaxRecordBytes, .max_values = kMaxRecordValues});
  if (!json.is_object() || !json.contains("ranks")) return ranks;
  const Json* recorded = &json["ranks"];
  if (!recorded->is_object()) throw Error(ErrorCode::malformed, "'ranks' is no object").at(std::string(path));
  for (const auto& [weight, list] : recorded->items()) {
    std::vector<std::int32_t>& own = ranks[weight];
    if (!list.is_array())
      throw Error(ErrorCode::malformed, "the ranks of '{}' are no array", weight).at(std::string(path));
    for (const Json& rank : list) {
      const bool sane =
          rank.is_number_integer() && rank.get<std::int64_t>() >= 0 && rank.get<std::int64_t>() <= kMaxRank;
      if (!sane) throw Error(ErrorCode::malformed, "the ranks of '{}' are none", weight).at(std::string(path));
      own.push_back(rank.get<std::int32_t>());
    }
  }
  return ranks;
}

FactorRanks read_factor_ranks(const Checkpoint& adapter) {
  FactorRanks ranks;
  for (const auto& [key, value] : adapter.metadata.entries()) {
    if (!key.starts_with(kFactorRanksKey)) continue;
    const auto* array = std::get_if<MetaArray>(&value);
    const auto* list = array == nullptr ? nullptr : std::get_if<std::vector<std::int32_t>>(&array->values);
    if (list == nullptr) throw Error(ErrorCode::malformed, "key '{}' is no array of i32", key).at(adapter.path);
    ranks.emplace(key.substr(kFactorRanksKey.size()), *list);
  }
  if (adapter.dialect == Dialect::gguf) return ranks;
  if (const auto text = adapter.sidecar_text(kPermutationFile, kMaxRecordBytes))
    ranks.merge(parse_factor_ranks(*text, adapter.folder->path_of(kPermutationFile)));
  return ranks;
}

void set_factor_ranks(const FactorRanks& ranks, Metadata& keys) {
  for (const auto& [weight, own] : ranks)
    keys.set(std::string(kFactorRanksKey) + weight, MetaArray{MetaType::i32, own});
}

std::vector<std::int64_t> ranks_of(const FactorRanks& recorded, const std::string& weight, std::int64_t weights,
                                   std::int64_t stored, const std::string& path) {
  const auto found = recorded.find(weight);
  if (found == recorded.end()) return std::vector<std::int64_t>(static_cast<std::size_t>(weights), stored);
  std::vector<std::int64_t> ranks(found->second.begin(), found->second.end());
  const bool sane = static_cast<std::int64_t>(ranks.size()) == weights &&
                    std::ranges::all_of(ranks, [&](std::int64_t rank) { return rank >= 0 && rank <= stored; }) &&
                    std::ranges::any_of(ranks, [](std::int64_t rank) { return rank > 0; });
  if (!sane)
    throw Error(ErrorCode::malformed, "the recorded ranks are not those of its factors")
        .tensor(excerpt(weight))
        .at(path);
  return ranks;
}

}  // namespace regauge
