#include "models/low_rank.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/text.h"
#include "models/hf_files.h"
#include "models/permutations.h"

namespace regauge {
namespace {

constexpr std::string_view kConfigFile = "adapter_config.json";

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return out;
}

std::string_view module_of(std::string_view weight) {
  constexpr std::string_view kLeaf = ".weight";
  return weight.ends_with(kLeaf) ? weight.substr(0, weight.size() - kLeaf.size()) : weight;
}

/// Which factor a tensor is, by the end of its name in any case: "...lora_A.weight", "...lora_a".
std::optional<PartId> factor_of(std::string_view name) {
  const std::string folded = lower(name);
  if (folded.ends_with(".lora_a") || folded.ends_with(".lora_a.weight")) return PartId::lowrank_a;
  if (folded.ends_with(".lora_b") || folded.ends_with(".lora_b.weight")) return PartId::lowrank_b;
  return std::nullopt;
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

/// Rows and columns of another source, in another order. A band of rows is one read for each run of neighbours.
class ReorderedRows final : public RowSource {
 public:
  ReorderedRows(RowSourcePtr source, View order, std::size_t element_bytes)
      : RowSource(source->rows(), source->row_bytes()),
        source_(std::move(source)),
        order_(std::move(order)),
        element_bytes_(element_bytes) {
    if (source_->row_quantum() != 1) throw Error(ErrorCode::internal, "rows that come in words have no order");
  }

  std::int64_t preferred_rows() const noexcept override { return source_->preferred_rows(); }

 private:
  void read_rows(RowRange range, std::span<std::byte> out) const override {
    const AxisMap rows =
        (order_.rows ? *order_.rows : AxisMap::identity(this->rows())).slice(range.begin, range.size());
    std::size_t at = 0;
    for (const AxisMap::Run& run : rows.runs()) {
      const std::size_t bytes = static_cast<std::size_t>(run.length) * row_bytes();
      source_->read({run.begin, run.begin + run.length}, out.subspan(at, bytes));
      at += bytes;
    }
    if (order_.columns) reorder_columns(out);
  }

  void reorder_columns(std::span<std::byte> rows) const {
    std::vector<std::byte> row(row_bytes());
    for (std::size_t at = 0; at < rows.size(); at += row.size()) {
      std::memcpy(row.data(), rows.data() + at, row.size());
      std::size_t to = at;
      for (const AxisMap::Run& run : order_.columns->runs()) {
        const std::size_t bytes = static_cast<std::size_t>(run.length) * element_bytes_;
        std::memcpy(rows.data() + to, row.data() + static_cast<std::size_t>(run.begin) * element_bytes_, bytes);
        to += bytes;
      }
    }
  }

  RowSourcePtr source_;
  View order_;
  std::size_t element_bytes_;
};

/// What adapter_config.json of a PEFT directory asks for beyond a plain product. Source: huggingface/peft
/// src/peft/tuners/lora/layer.py, update_layer.
void check_peft_config(const Checkpoint& adapter, Findings& findings) {
  const auto text = adapter.sidecar_text(kConfigFile, kMaxConfigBytes);
  if (!text) return;
  const std::string path = adapter.folder->path_of(std::string(kConfigFile));
  const Json json = parse_json(*text, path, {.duplicates = JsonDuplicates::keep_last});
  if (!json.is_object()) throw Error(ErrorCode::malformed, "is no JSON object").at(path);
  if (get_bool(json, "use_dora").value_or(false))
    throw Error(ErrorCode::unsupported, "DoRA adapters are no plain product of two factors").at(path);
  const auto rank = get_int(json, "r");
  const auto alpha = get_double(json, "lora_alpha");
  const bool rslora = get_bool(json, "use_rslora").value_or(false);
  if (rank && alpha && (rslora || static_cast<double>(*rank) != *alpha)) {
    findings.push_back({Severity::warning, "adapter-scale",
                        "EoRA factors are added as they are, but a PEFT loader would multiply them by another number",
                        std::string(kConfigFile), ""});
  }
}

/// llama.cpp multiplies by alpha / r of the tensor, and by 1 when alpha is 0 or absent. Source: ggml-org/llama.cpp
/// src/llama-adapter.h, get_scale.
void check_gguf_scale(const Checkpoint& adapter, std::int64_t rank, const std::string& tensor) {
  const auto alpha = adapter.metadata.get_float("adapter.lora.alpha");
  if (!alpha || *alpha == 0 || *alpha == static_cast<double>(rank)) return;
  throw Error(ErrorCode::unsupported, "its alpha of {:g} makes a scale of {:g}, and factors are added as they are",
              *alpha, *alpha / static_cast<double>(rank))
      .tensor(tensor)
      .at(adapter.path);
}

class Attaching {
 public:
  Attaching(Checkpoint& model, const Architecture& architecture, Checkpoint adapter)
      : model_(model),
        architecture_(architecture),
        adapter_(std::move(adapter)),
        orders_(read_permutations(adapter_)) {}

  void run() {
    if (adapter_.dialect == Dialect::hf) check_peft_config(adapter_, adapter_.findings);
    find_weights();
    collect();
    for (const auto& [slot, pair] : pairs_) attach(slot, pair);
    take_over();
  }

 private:
  struct Pair {
    const Tensor* a = nullptr;
    const Tensor* b = nullptr;
  };

  Error wrong(ErrorCode code, const Tensor& tensor, const std::string& message) const {
    return Error(code, "{}", message).tensor(excerpt(tensor.name)).at(adapter_.path);
  }

  void find_weights() {
    for (std::size_t i = 0; i < model_.tensors.size(); ++i) {
      const Tensor& tensor = model_.tensors[i];
      const auto assembly = architecture_.parse(model_.dialect, tensor.name, tensor.shape);
      if (!assembly || factor_of(tensor.name)) continue;
      for (const Piece& piece : assembly->pieces) weights_.emplace(piece.slot, std::pair(i, assembly->pieces.size()));
    }
  }

  void collect() {
    for (const Tensor& tensor : adapter_.tensors) {
      const auto factor = factor_of(tensor.name);
      const auto assembly =
          factor ? architecture_.parse(adapter_.dialect, tensor.name, tensor.shape) : std::optional<Assembly>();
      if (!assembly) throw wrong(ErrorCode::malformed, tensor, "is no low-rank factor of a weight of this model");
      const auto* dense = std::get_if<Dense>(&tensor.encoding);
      if (dense == nullptr || !is_float(dense->dtype) || bits(dense->dtype) < 16 || bits(dense->dtype) > 32)
        throw wrong(ErrorCode::unsupported, tensor, "low-rank factors are f16, bf16 or f32");
      if (assembly->pieces.size() != 1)
        throw wrong(ErrorCode::unsupported, tensor, "low-rank factors of stacked experts cannot be attached");
      Pair& pair = pairs_[assembly->pieces.front().slot];
      (*factor == PartId::lowrank_a ? pair.a : pair.b) = &tensor;
    }
  }

  void attach(const Slot& slot, const Pair& pair) {
    const Tensor& known = pair.a != nullptr ? *pair.a : *pair.b;
    const auto found = weights_.find(slot);
    if (found == weights_.end()) throw wrong(ErrorCode::malformed, known, "the weight that it corrects is not there");
    Tensor& weight = model_.tensors[found->second.first];
    if (found->second.second != 1)
      throw wrong(ErrorCode::unsupported, known, fmt::format("'{}' holds several weights in one", weight.name));
    if (pair.a == nullptr || pair.b == nullptr)
      throw wrong(ErrorCode::malformed, known, "the other low-rank factor is missing");
    const Shape shape = architecture_.slot_shape(slot);
    const std::int64_t rank = pair.a->shape.rows();
    if (rank < 1 || pair.b->shape != Shape{shape.rows(), rank} || pair.a->shape != Shape{rank, shape.columns()}) {
      throw wrong(ErrorCode::malformed, *pair.a,
                  fmt::format("factors {} and {} do not go with a weight of {}", to_string(pair.a->shape),
                              to_string(pair.b->shape), to_string(shape)));
    }
    if (weight.has_low_rank()) throw wrong(ErrorCode::malformed, known, "the weight has low-rank factors already");
    if (adapter_.dialect == Dialect::gguf) check_gguf_scale(adapter_, rank, pair.a->name);
    const View order = order_between(slot, shape);
    for (const auto& [id, tensor] : {std::pair(PartId::lowrank_a, pair.a), std::pair(PartId::lowrank_b, pair.b)}) {
      Part part = tensor->part(PartId::values);
      part.id = id;
      part.shape = tensor->shape;
      if (const View view = factor_view(id, order); !view.is_identity())
        part.rows = std::make_shared<ReorderedRows>(part.rows, view, static_cast<std::size_t>(bits(part.dtype)) / 8);
      weight.parts.push_back(std::move(part));
      for (const std::size_t array : tensor->arrays) weight.arrays.push_back(array + model_.arrays.size());
    }
  }

  /// From the order of the adapter's rows and columns to that of the model's.
  View order_between(const Slot& slot, const Shape& shape) const {
    const auto undo = inverse(adapter_order(architecture_, adapter_.dialect, orders_, slot));
    if (!undo) throw Error(ErrorCode::internal, "a convention that drops rows").at(adapter_.path);
    return compose(*undo, architecture_.stored_convention(slot), shape.rows(), shape.columns());
  }

  void take_over() {
    const std::size_t first_file = model_.files.size();
    for (SourceFile& file : adapter_.files) {
      // Kept apart from the model's own files, whatever its folder is called.
      file.name = "adapter/" + file.name;
      model_.files.push_back(std::move(file));
    }
    for (StoredArray& array : adapter_.arrays) {
      array.file += first_file;
      model_.arrays.push_back(std::move(array));
    }
    model_.check_array_names();
    for (Finding& finding : adapter_.findings) model_.findings.push_back(std::move(finding));
  }

  Checkpoint& model_;
  const Architecture& architecture_;
  Checkpoint adapter_;
  std::map<std::string, AxisMap> orders_;
  std::map<Slot, std::pair<std::size_t, std::size_t>> weights_;  // place of the tensor, and how many share it
  std::map<Slot, Pair> pairs_;
};

}  // namespace

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

void attach_adapter(Checkpoint& model, const Architecture& architecture, Checkpoint adapter) {
  Attaching(model, architecture, std::move(adapter)).run();
}

}  // namespace regauge
