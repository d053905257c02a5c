#include "verify/effective.h"

#include <set>
#include <utility>

#include "base/error.h"
#include "ir/low_rank.h"
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

class TakingApart {
 public:
  explicit TakingApart(std::span<const OpenedPath> paths) : paths_(paths) {
    for (const OpenedPath& path : paths) {
      if (model_ == nullptr && knows_sizes(path.architecture)) model_ = path.architecture;
    }
  }

  EffectiveModel run() {
    for (path_ = 0; path_ < paths_.size(); ++path_) {
      if (is_adapter(*paths_[path_].checkpoint)) {
        orders_ = read_permutations(*paths_[path_].checkpoint);
        ranks_ = read_factor_ranks(*paths_[path_].checkpoint);
      }
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
    if (const auto factor = regauge::factor_of(tensor.name)) {
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
      take_own_factors(tensor);
      return;
    }
    for (const Piece& piece : assembly->pieces) {
      const bool copy = piece.slot.component == Component::head && architecture->tied_head();
      add(effective_slot(*architecture, tensor, *assembly, piece), copy ? LeafKind::tied_head : LeafKind::weight,
          tensor);
    }
    if (tensor.has_low_rank()) take_own_factors(tensor, *assembly);
  }

  /// Factors that the reader attached to a weight that nobody knows.
  void take_own_factors(const Tensor& tensor) {
    for (const PartId id : {PartId::lowrank_a, PartId::lowrank_b}) {
      if (tensor.find(id) != nullptr) add(as_it_is(factor_of(tensor, id)), LeafKind::factor, tensor);
    }
  }

  /// The same of a weight, or of each of those that a stack holds.
  void take_own_factors(const Tensor& tensor, const Assembly& assembly) {
    const Architecture& architecture = *paths_[path_].architecture;
    const LowRankGroups groups = low_rank_groups(tensor);
    const std::vector<std::int64_t> ranks = low_rank_ranks(tensor);
    const Tensor& a = factor_of(tensor, PartId::lowrank_a);
    const Tensor& b = factor_of(tensor, PartId::lowrank_b);
    for (const Piece& piece : assembly.pieces) {
      const std::int64_t group = piece.rows.begin / groups.rows;
      const std::int64_t rank = ranks[static_cast<std::size_t>(group)];
      if (rank == 0) continue;
      const View undo = undoing(architecture.stored_convention(piece.slot), tensor);
      const std::int64_t first = group * groups.rank;
      add_factor(architecture, piece.slot, a, PartId::lowrank_a, {first, first + rank}, rank, undo, tensor);
      add_factor(architecture, piece.slot, b, PartId::lowrank_b, piece.rows, rank, undo, tensor);
    }
  }

  /// Rows of a factor, of which B may have more columns than the rank.
  void add_factor(const Architecture& architecture, const Slot& slot, const Tensor& factor, PartId id, RowRange rows,
                  std::int64_t rank, const View& undo, const Tensor& stored) {
    Target target = as_it_is(factor);
    target.name = factor_name(architecture.canonical_name(slot), id);
    target.columns = id == PartId::lowrank_a ? factor.shape.columns() : rank;
    target.rows = rows.size();
    target.shape = Shape{target.rows, target.columns};
    TargetPiece& piece = target.pieces.front();
    piece.canonical = target.name;
    piece.rows = rows;
    piece.target_rows = target.rows;
    if (target.columns != piece.source_columns) piece.columns = AxisMap::identity(target.columns);
    piece.view = factor_view(id, undo);
    add(std::move(target), LeafKind::factor, stored);
  }

  const Tensor& factor_of(const Tensor& tensor, PartId id) {
    result_.factors.push_back(std::make_unique<Tensor>(factor_tensor(tensor, id)));
    return *result_.factors.back();
  }

  /// A factor that is a tensor: in an adapter's own file, which is read with the sizes of the model that comes with it.
  void take_factor(const Tensor& tensor, PartId factor) {
    const Dialect dialect = paths_[path_].checkpoint->dialect;
    const auto assembly = model_ == nullptr ? std::nullopt : model_->parse(dialect, tensor.name, tensor.shape);
    if (!assembly) {
      add(as_it_is(tensor), LeafKind::factor, tensor);
      return;
    }
    const auto weights = static_cast<std::int64_t>(assembly->pieces.size());
    const std::int64_t stored = factor == PartId::lowrank_a ? assembly->rows / weights : assembly->columns;
    const auto ranks = ranks_of(ranks_, weight_of_factor(tensor.name), weights, stored, paths_[path_].checkpoint->path);
    for (std::size_t i = 0; i < assembly->pieces.size(); ++i) {
      const Piece& piece = assembly->pieces[i];
      if (ranks[i] == 0) continue;
      const View undo = undoing(adapter_order(*model_, dialect, orders_, piece.slot), tensor);
      RowRange rows = piece.rows;
      if (factor == PartId::lowrank_a) rows.end = rows.begin + ranks[i];
      add_factor(*model_, piece.slot, tensor, factor, rows, ranks[i], undo, tensor);
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
  FactorRanks ranks_;                      // the same
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
