#include <algorithm>
#include <memory>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/text.h"
#include "ir/low_rank.h"
#include "models/low_rank.h"
#include "models/permutations.h"

namespace regauge {
namespace {

constexpr std::string_view kConfigFile = "adapter_config.json";

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
        orders_(read_permutations(adapter_)),
        ranks_(read_factor_ranks(adapter_)) {}

  void run() {
    if (adapter_.dialect == Dialect::hf) check_peft_config(adapter_, adapter_.findings);
    collect();
    for (Tensor& tensor : model_.tensors) {
      const auto assembly = architecture_.parse(model_.dialect, tensor.name, tensor.shape);
      if (assembly && !factor_of(tensor.name)) attach(*assembly, tensor);
    }
    for (const auto& [slot, factors] : factors_) {
      if (!factors.attached)
        throw wrong(ErrorCode::malformed, factors.any(), "the weight that it corrects is not there");
    }
    take_over();
  }

 private:
  /// One factor of a weight: all of a tensor of the adapter, or its share of a stack.
  struct Half {
    const Tensor* tensor = nullptr;
    RowRange rows;
  };
  struct Factors {
    Half a, b;
    std::int64_t rank = 0;  ///< without what fills it up
    bool attached = false;

    const Tensor& any() const { return a.tensor != nullptr ? *a.tensor : *b.tensor; }
  };

  Error wrong(ErrorCode code, const Tensor& tensor, const std::string& message) const {
    return Error(code, "{}", message).tensor(excerpt(tensor.name)).at(adapter_.path);
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
      const bool is_a = *factor == PartId::lowrank_a;
      const auto weights = static_cast<std::int64_t>(assembly->pieces.size());
      const std::int64_t stored = is_a ? assembly->rows / weights : assembly->columns;
      const auto ranks = ranks_of(ranks_, weight_of_factor(tensor.name), weights, stored, adapter_.path);
      for (std::size_t i = 0; i < assembly->pieces.size(); ++i) {
        Factors& factors = factors_[assembly->pieces[i].slot];
        Half& half = is_a ? factors.a : factors.b;
        if (half.tensor != nullptr) throw wrong(ErrorCode::malformed, tensor, "this low-rank factor is there twice");
        half = {&tensor, assembly->pieces[i].rows};
        factors.rank = ranks[i];
      }
    }
  }

  /// Gives `weight` the factors of all weights that it holds.
  void attach(const Assembly& assembly, Tensor& weight) {
    std::vector<FactorPair> pairs;
    std::set<const Tensor*> used;
    for (const Piece& piece : assembly.pieces) {
      const auto found = factors_.find(piece.slot);
      if (found == factors_.end()) {
        pairs.emplace_back();
        continue;
      }
      check(found->second, piece.slot, assembly, weight);
      pairs.push_back(pair_of(found->second, piece.slot));
      found->second.attached = true;
      used.insert({found->second.a.tensor, found->second.b.tensor});
    }
    if (used.empty() || std::ranges::all_of(pairs, [](const FactorPair& pair) { return pair.rank == 0; })) return;
    const auto dtype_of = [&](PartId id) {
      for (const Tensor* tensor : used) {
        if (factor_of(tensor->name) == id) return std::get<Dense>(tensor->encoding).dtype;
      }
      return DType::f32;
    };
    for (const Tensor* tensor : used) {
      if (std::get<Dense>(tensor->encoding).dtype != dtype_of(*factor_of(tensor->name)))
        throw wrong(ErrorCode::unsupported, *tensor, "its type is another than that of the other factors of its stack");
      for (const std::size_t array : tensor->arrays) weight.arrays.push_back(array + model_.arrays.size());
    }
    std::ranges::sort(weight.arrays);
    add_factors(weight, dtype_of(PartId::lowrank_a), dtype_of(PartId::lowrank_b), pairs);
  }

  void check(const Factors& factors, const Slot& slot, const Assembly& assembly, const Tensor& weight) const {
    const Tensor& known = factors.any();
    if (factors.a.tensor == nullptr || factors.b.tensor == nullptr)
      throw wrong(ErrorCode::malformed, known, "the other low-rank factor is missing");
    const auto weights = static_cast<std::int64_t>(assembly.pieces.size());
    const Shape shape = architecture_.slot_shape(slot);
    // What lies in a stack is as tall as its neighbours; a fused q, k and v is not.
    if (shape.rows() * weights != assembly.rows || shape.columns() != assembly.columns)
      throw wrong(ErrorCode::unsupported, known, fmt::format("'{}' holds several weights in one", weight.name));
    const std::int64_t stored = factors.a.rows.size();
    const Shape& b = factors.b.tensor->shape;
    if (stored < 1 || b.columns() != stored || factors.b.rows.size() != shape.rows() ||
        factors.a.tensor->shape.columns() != shape.columns()) {
      throw wrong(ErrorCode::malformed, *factors.a.tensor,
                  fmt::format("factors {} and {} do not go with a weight of {}", to_string(factors.a.tensor->shape),
                              to_string(b), to_string(shape)));
    }
    if (weight.has_low_rank()) throw wrong(ErrorCode::malformed, known, "the weight has low-rank factors already");
    if (adapter_.dialect == Dialect::gguf) check_gguf_scale(adapter_, stored, factors.a.tensor->name);
  }

  FactorPair pair_of(const Factors& factors, const Slot& slot) const {
    FactorPair pair = cut_factors(factors.a.tensor->part(PartId::values), factors.a.rows,
                                  factors.b.tensor->part(PartId::values), factors.b.rows, factors.rank);
    if (pair.rank == 0) return pair;
    const View order = order_between(slot, architecture_.slot_shape(slot));
    for (auto& [rows, id, tensor] : {std::tuple(&pair.a, PartId::lowrank_a, factors.a.tensor),
                                     std::tuple(&pair.b, PartId::lowrank_b, factors.b.tensor)}) {
      const auto element = static_cast<std::size_t>(bits(std::get<Dense>(tensor->encoding).dtype)) / 8;
      if (View view = factor_view(id, order); !view.is_identity())
        *rows = std::make_shared<ReorderedRows>(*rows, std::move(view), element);
    }
    return pair;
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
  FactorRanks ranks_;
  std::map<Slot, Factors> factors_;
};

}  // namespace

bool corrects_stacks(const Checkpoint& model, const Architecture& architecture, const Checkpoint& adapter) {
  std::set<Slot> stacked;
  for (const Tensor& tensor : model.tensors) {
    const auto assembly = architecture.parse(model.dialect, tensor.name, tensor.shape);
    if (!assembly || assembly->pieces.size() < 2) continue;
    for (const Piece& piece : assembly->pieces) stacked.insert(piece.slot);
  }
  return std::ranges::any_of(adapter.tensors, [&](const Tensor& tensor) {
    const auto assembly = architecture.parse(adapter.dialect, tensor.name, tensor.shape);
    return assembly && factor_of(tensor.name) &&
           std::ranges::any_of(assembly->pieces, [&](const Piece& piece) { return stacked.contains(piece.slot); });
  });
}

void attach_adapter(Checkpoint& model, const Architecture& architecture, Checkpoint adapter) {
  Attaching(model, architecture, std::move(adapter)).run();
}

}  // namespace regauge
