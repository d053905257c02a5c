#include "verify/effective.h"

#include <set>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "inspect/catalog.h"
#include "models/low_rank.h"
#include "models/permutations.h"

namespace regauge {
namespace {

View undoing(const View& convention, const Tensor& tensor) {
  auto undo = inverse(convention);
  if (!undo) throw Error(ErrorCode::internal, "a convention that drops rows").tensor(tensor.name);
  return *std::move(undo);
}

/// All of the piece's rows, in order, as target `name`.
Target whole_piece(std::string name, const Shape& shape, const Tensor& tensor, const Assembly& assembly,
                   const Piece& piece) {
  Target target;
  target.name = std::move(name);
  target.shape = shape;
  target.rows = shape.rows();
  target.columns = shape.columns();
  target.component = piece.slot.component;
  TargetPiece from;
  from.tensor = &tensor;
  from.source_columns = assembly.columns;
  from.rows = piece.rows;
  from.columns = piece.columns;
  from.target_rows = target.rows;
  from.canonical = target.name;
  target.pieces.push_back(std::move(from));
  return target;
}

Target effective_slot(const Architecture& architecture, const Tensor& tensor, const Assembly& assembly,
                      const Piece& piece) {
  Target target = whole_piece(architecture.canonical_name(piece.slot), architecture.slot_shape(piece.slot), tensor,
                              assembly, piece);
  const View undo = undoing(architecture.stored_convention(piece.slot), tensor);
  target.pieces.front().view = compose(undo, architecture.effective(piece.slot), target.rows, target.columns);
  return target;
}

std::string factor_name(std::string weight, PartId factor) {
  return std::move(weight) + (factor == PartId::lowrank_a ? ".lora_a" : ".lora_b");
}

/// Which factor a tensor of its own is, by the end of its name in any case: "...lora_A.weight", "...lora_a".
std::optional<PartId> factor_of(std::string_view name) {
  if (!inspect::is_factor_name(name)) return std::nullopt;
  constexpr std::string_view kWeight = ".weight";
  if (name.ends_with(kWeight)) name.remove_suffix(kWeight.size());
  return name.back() == 'a' || name.back() == 'A' ? PartId::lowrank_a : PartId::lowrank_b;
}

class TakingApart {
 public:
  explicit TakingApart(std::span<const OpenedPath> paths) : paths_(paths) {
    for (const OpenedPath& path : paths) {
      if (model_ == nullptr && knows_sizes(path.architecture)) model_ = path.architecture;
    }
  }

  EffectiveModel run() {
    for (path_ = 0; path_ < paths_.size(); ++path_) {
      if (is_adapter(*paths_[path_].checkpoint)) orders_ = read_permutations(*paths_[path_].checkpoint);
      for (const Tensor& tensor : paths_[path_].checkpoint->tensors) take(tensor);
    }
    return std::move(result_);
  }

 private:
  /// An adapter's own file tells no sizes.
  static bool knows_sizes(const Architecture* architecture) {
    return architecture != nullptr && !architecture->expected().empty();
  }

  void take(const Tensor& tensor) {
    if (const auto factor = factor_of(tensor.name)) {
      take_factor(tensor, *factor);
      return;
    }
    const Architecture* architecture = paths_[path_].architecture;
    const auto assembly = architecture == nullptr
                              ? std::nullopt
                              : architecture->parse(paths_[path_].checkpoint->dialect, tensor.name, tensor.shape);
    const std::optional<Component>& only = paths_[path_].only;
    if (only && (!assembly || assembly->pieces.empty() || assembly->pieces.front().slot.component != *only)) return;
    if (!assembly) {
      add(as_it_is(tensor), LeafKind::weight, tensor);
      take_own_factors(tensor, nullptr);
      return;
    }
    for (const Piece& piece : assembly->pieces) {
      const bool copy = piece.slot.component == Component::head && architecture->tied_head();
      add(effective_slot(*architecture, tensor, *assembly, piece), copy ? LeafKind::tied_head : LeafKind::weight,
          tensor);
    }
    take_own_factors(tensor, assembly->pieces.size() == 1 ? &assembly->pieces.front().slot : nullptr);
  }

  /// Factors that the reader attached to the weight that they correct.
  void take_own_factors(const Tensor& tensor, const Slot* slot) {
    for (const PartId id : {PartId::lowrank_a, PartId::lowrank_b}) {
      const Part* part = tensor.find(id);
      if (part == nullptr) continue;
      auto factor = std::make_unique<Tensor>();
      factor->name = factor_name(tensor.name, id);
      factor->shape = part->shape;
      factor->encoding = Dense{part->dtype};
      factor->parts.push_back({PartId::values, part->dtype, part->shape, part->rows});
      Target target = as_it_is(*factor);
      if (slot != nullptr) {
        const Architecture& architecture = *paths_[path_].architecture;
        target.name = factor_name(architecture.canonical_name(*slot), id);
        target.pieces.front().view = factor_view(id, undoing(architecture.stored_convention(*slot), tensor));
      }
      result_.factors.push_back(std::move(factor));
      add(std::move(target), LeafKind::factor, tensor);
    }
  }

  /// A factor that is a tensor: in an adapter's own file, which is read with the sizes of the model that comes with it.
  void take_factor(const Tensor& tensor, PartId factor) {
    const Dialect dialect = paths_[path_].checkpoint->dialect;
    const auto assembly = model_ == nullptr ? std::nullopt : model_->parse(dialect, tensor.name, tensor.shape);
    if (!assembly) {
      add(as_it_is(tensor), LeafKind::factor, tensor);
      return;
    }
    for (const Piece& piece : assembly->pieces) {
      Target target = whole_piece(factor_name(model_->canonical_name(piece.slot), factor),
                                  Shape{piece.rows.size(), assembly->columns}, tensor, *assembly, piece);
      target.pieces.front().view =
          factor_view(factor, undoing(adapter_order(*model_, dialect, orders_, piece.slot), tensor));
      add(std::move(target), LeafKind::factor, tensor);
    }
  }

  void add(Target target, LeafKind kind, const Tensor& tensor) {
    if (kind == LeafKind::factor) target.component = Component::adapter;
    if (!names_.insert(target.name).second)
      throw Error(ErrorCode::malformed, "'{}' is stored twice", target.name).tensor(tensor.name);
    result_.leaves.push_back({std::move(target), kind, path_, &tensor});
  }

  std::span<const OpenedPath> paths_;
  const Architecture* model_ = nullptr;
  std::size_t path_ = 0;
  std::map<std::string, AxisMap> orders_;  // recorded by the last adapter
  std::set<std::string> names_;
  EffectiveModel result_;
};

}  // namespace

EffectiveModel effective_model(std::span<const OpenedPath> paths) { return TakingApart(paths).run(); }

std::map<std::string, Target> effective_form(std::span<const OpenedPath> paths) {
  std::map<std::string, Target> model;
  for (Leaf& leaf : effective_model(paths).leaves) {
    if (leaf.kind == LeafKind::factor) continue;
    const std::string name = leaf.target.name;
    model.emplace(name, std::move(leaf.target));
  }
  return model;
}

}  // namespace regauge
