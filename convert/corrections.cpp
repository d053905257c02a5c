#include "convert/corrections.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/error.h"
#include "convert/refusal.h"
#include "ir/low_rank.h"

namespace regauge {
namespace {

/// Rows of zeros, to fill up a factor of smaller rank.
class ZeroRows final : public RowSource {
 public:
  using RowSource::RowSource;

 private:
  void read_rows(RowRange, std::span<std::byte> out) const override { std::ranges::fill(out, std::byte{0}); }
};

std::int64_t weights_of(const Shape& shape) { return shape.rank() == 3 ? shape.dims[0] : 1; }

std::int64_t largest_rank(const auto& units) {
  return std::ranges::max_element(units, {}, [](const auto& u) { return u.rank; })->rank;
}

}  // namespace

void Corrections::take(TargetPiece& piece, const Target& weight) {
  const Tensor& tensor = *piece.tensor;
  if (!tensor.has_low_rank()) return;
  switch (policy_for(options_, piece.canonical)) {
    case EoraPolicy::merge: piece.with_low_rank = true; break;
    case EoraPolicy::drop:
      // Once for all weights of a stack.
      if (dropped_.insert(&tensor).second)
        result_.left_out.push_back({tensor.name, "low-rank factors only, by --eora drop", &tensor, std::nullopt});
      break;
    case EoraPolicy::keep: keep(piece, weight); break;
  }
}

void Corrections::keep(const TargetPiece& piece, const Target& weight) {
  const Tensor& tensor = *piece.tensor;
  const LowRankGroups groups = low_rank_groups(tensor);
  const std::vector<std::int64_t> ranks = low_rank_ranks(tensor);
  Module& module = modules_[weight.name];
  module.shape = weight.shape;
  module.rows = weight.rows;
  for (std::int64_t group = piece.rows.begin / groups.rows; group * groups.rows < piece.rows.end; ++group) {
    const RowRange rows{std::max(piece.rows.begin, group * groups.rows),
                        std::min(piece.rows.end, (group + 1) * groups.rows)};
    const std::int64_t rank = ranks[static_cast<std::size_t>(group)];
    if (rank == 0) continue;
    module.units.push_back(
        {&tensor, group, rank, rows, piece.view, piece.canonical, piece.target_row + rows.begin - piece.rows.begin});
  }
}

/// Whether each unit is one of the weights that the array holds, and the form has stacks if the array is one.
bool Corrections::fits(const Module& module) const {
  const bool stack = module.shape.rank() > 2;
  if (stack && form_ != FactorForm::gguf && form_ != FactorForm::mlx) return false;
  const std::int64_t height = module.rows / weights_of(module.shape);
  return std::ranges::all_of(
      module.units, [&](const Unit& unit) { return unit.rows.size() == height && unit.target_row % height == 0; });
}

void Corrections::finish() {
  std::erase_if(modules_, [](const auto& module) { return module.second.units.empty(); });
  if (modules_.empty()) return;
  std::vector<std::string> homeless;
  std::int64_t most = 0;
  for (const auto& [weight, module] : modules_) {
    if (!fits(module)) homeless.push_back(weight);
    most = std::max(most, largest_rank(module.units));
  }
  if (!homeless.empty()) {
    throw refusal("low-rank factors of weights that are stored stacked or fused have no form in the target", homeless,
                  "--eora merge adds them to the weights, --eora drop leaves them out");
  }
  std::vector<Target> targets;
  // MLX has one rank for all modules. Source: ml-explore/mlx-lm mlx_lm/tuner/utils.py, load_adapters.
  for (auto& [weight, module] : modules_)
    add(weight, module, form_ == FactorForm::mlx ? most : largest_rank(module.units), targets);
  if (form_ == FactorForm::gguf) {
    result_.outputs.push_back({OutputKind::adapter, std::move(targets)});
  } else {
    auto& into = result_.outputs.front().targets;
    into.insert(into.end(), std::make_move_iterator(targets.begin()), std::make_move_iterator(targets.end()));
  }
}

void Corrections::add(const std::string& weight, Module& module, std::int64_t rank, std::vector<Target>& targets) {
  std::ranges::sort(module.units, {}, &Unit::target_row);
  const std::int64_t height = module.rows / weights_of(module.shape);
  std::vector<std::int32_t> ranks(static_cast<std::size_t>(weights_of(module.shape)));
  for (const Unit& unit : module.units)
    ranks[static_cast<std::size_t>(unit.target_row / height)] = static_cast<std::int32_t>(unit.rank);
  result_.corrected.push_back({weight, rank});
  if (std::ranges::any_of(ranks, [rank](std::int32_t own) { return own != rank; }))
    result_.factor_ranks.emplace(weight, std::move(ranks));
  for (const PartId id : {PartId::lowrank_a, PartId::lowrank_b})
    targets.push_back(factor_target(weight, module, rank, id));
}

Target Corrections::factor_target(const std::string& weight, const Module& module, std::int64_t rank, PartId id) {
  const bool is_a = id == PartId::lowrank_a;
  const std::int64_t weights = weights_of(module.shape);
  const std::int64_t height = module.rows / weights;
  const std::int64_t block = is_a ? rank : height;
  Target target;
  target.name = factor_array(form_, weight, id);
  target.component = Component::adapter;
  target.columns = is_a ? module.shape.columns() : rank;
  target.rows = weights * block;
  target.shape = module.shape.rank() == 3 ? Shape{weights, block, target.columns} : Shape{block, target.columns};
  // mlx-lm turns round those of single modules only. Source: mlx_lm/tuner/lora.py, LoRALinear and LoRASwitchLinear.
  target.is_transposed = is_transposed(form_) && target.shape.rank() == 2;
  auto unit = module.units.begin();
  for (std::int64_t w = 0; w < weights; ++w) {
    const bool here = unit != module.units.end() && unit->target_row / height == w;
    const std::int64_t held = here ? unit->rank : 0;
    if (here) {
      TargetPiece& piece = target.pieces.emplace_back(factor_piece(*unit, id));
      piece.target_row = w * block;
      if (!is_a && held < rank) piece.target_columns = AxisMap::identity(held);
    }
    if (held < rank) {
      TargetPiece& piece = target.pieces.emplace_back(zeros(
          here ? *unit : module.units.front(), id, is_a ? rank - held : block, is_a ? target.columns : rank - held));
      piece.target_row = w * block + (is_a ? held : 0);
      if (!is_a) piece.target_columns = AxisMap({{held, rank - held}});
    }
    if (here) ++unit;
  }
  return target;
}

TargetPiece Corrections::factor_piece(const Unit& unit, PartId id) {
  const Tensor& factor = factor_of(*unit.tensor, id);
  const LowRankGroups groups = low_rank_groups(*unit.tensor);
  TargetPiece piece = as_it_is(factor).pieces.front();
  piece.rows =
      id == PartId::lowrank_a ? RowRange{unit.group * groups.rank, unit.group * groups.rank + unit.rank} : unit.rows;
  piece.target_rows = piece.rows.size();
  if (id == PartId::lowrank_b && unit.rank < groups.rank) piece.columns = AxisMap::identity(unit.rank);
  piece.view = factor_view(id, unit.view);
  piece.canonical = unit.canonical;
  return piece;
}

TargetPiece Corrections::zeros(const Unit& like, PartId id, std::int64_t rows, std::int64_t columns) {
  const DType dtype = like.tensor->part(id).dtype;
  Tensor tensor;
  tensor.name = factor_of(*like.tensor, id).name;
  tensor.shape = Shape{rows, columns};
  tensor.encoding = Dense{dtype};
  const auto row_bytes = static_cast<std::size_t>(columns * bits(dtype) / 8);
  tensor.parts.push_back({PartId::values, dtype, tensor.shape, std::make_shared<ZeroRows>(rows, row_bytes)});
  TargetPiece piece = as_it_is(own(std::move(tensor))).pieces.front();
  piece.canonical = like.canonical;
  return piece;
}

const Tensor& Corrections::factor_of(const Tensor& tensor, PartId id) {
  const Tensor*& factor = factors_[{&tensor, id}];
  if (factor == nullptr) factor = &own(factor_tensor(tensor, id));
  return *factor;
}

const Tensor& Corrections::own(Tensor tensor) {
  result_.restored.push_back(std::make_unique<const Tensor>(std::move(tensor)));
  return *result_.restored.back();
}

}  // namespace regauge
