#include "convert/step_builder.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include "ir/low_rank.h"

namespace regauge {
namespace {

std::int64_t quantum_of(const Target& target) {
  std::int64_t quantum = 1;
  for (const TargetPiece& piece : target.pieces) quantum = std::lcm(quantum, piece.tensor->row_quantum());
  return quantum;
}

void add_array(Step& step, ArrayPlan plan) { step.arrays.push_back({std::move(plan), BandLayout::rows}); }

}  // namespace

std::string encodings_of(const Target& target) {
  std::vector<std::string> seen;
  for (const TargetPiece& piece : target.pieces) {
    std::string text = to_string(piece.tensor->encoding);
    if (piece.with_low_rank) text += fmt::format(" + B*A r{}", low_rank_groups(*piece.tensor).rank);
    if (std::ranges::find(seen, text) == seen.end()) seen.push_back(std::move(text));
  }
  std::string out;
  for (const std::string& text : seen) out += (out.empty() ? "" : " + ") + text;
  return out;
}

bool any_piece(const Target& target, bool (*test)(const Encoding&)) {
  return std::ranges::any_of(target.pieces, [&](const TargetPiece& p) { return test(p.tensor->encoding); });
}

bool is_not_float(const Encoding& encoding) {
  const auto* dense = std::get_if<Dense>(&encoding);
  return dense != nullptr && !is_float(dense->dtype);
}

std::optional<DType> stored_dtype(const Target& target) {
  const auto* dense = std::get_if<Dense>(&target.pieces.front().tensor->encoding);
  return dense == nullptr ? std::nullopt : std::optional(dense->dtype);
}

Step StepBuilder::base(Route route, std::variant<DType, BlockType> element, Fidelity fidelity) const {
  Step step = base(route, fidelity);
  add_array(step, {target_.name, element, target_.shape});
  step.encoding = std::visit([](auto type) { return std::string(name(type)); }, element);
  return step;
}

Step StepBuilder::base(Route route, Fidelity fidelity) const {
  Step step;
  step.name = target_.name;
  step.shape = target_.shape;
  step.source_encoding = encodings_of(target_);
  step.route = route;
  step.fidelity = fidelity;
  step.component = target_.component;
  step.quantum = quantum_of(target_);
  return step;
}

Step StepBuilder::mlx_step(const MlxAffine& affine, Route route, Fidelity fidelity) const {
  Step step = base(route, fidelity);
  const std::int64_t groups = target_.columns / affine.group;
  add_array(step, {module() + ".weight", DType::u32, with_columns(target_.columns * affine.bits / 32)});
  add_array(step, {module() + ".scales", affine.dtype, with_columns(groups)});
  add_array(step, {module() + ".biases", affine.dtype, with_columns(groups)});
  step.encoding = to_string(Encoding(Grouped{.bits = affine.bits,
                                             .group = {1, affine.group},
                                             .scale = affine.dtype,
                                             .offset = Offset::bias,
                                             .offset_dtype = affine.dtype}));
  step.module = PackedModule{module(), true, "affine", affine.bits, affine.group, false, false};
  return step;
}

Step StepBuilder::float_step(FloatBlocks kind, Route route, Fidelity fidelity) const {
  Step step = base(route, fidelity);
  add_array(step, {module() + ".weight", DType::u32, with_columns(target_.columns * code_bits(kind) / 32)});
  add_array(step, {module() + ".scales", DType::u8, with_columns(target_.columns / group_size(kind))});
  step.encoding = fmt::format("{} g{}", name(kind), group_size(kind));
  step.module = PackedModule{module(), true, std::string(name(kind)), code_bits(kind), group_size(kind), false, false};
  return step;
}

Step StepBuilder::gptq_step(const GptqRepack& repack, Route route, Fidelity fidelity) const {
  Step step = base(route, fidelity);
  step.quantum = std::lcm(step.quantum, row_quantum(repack));
  for (PackedArray& array : arrays_of(repack, target_.rows, target_.columns)) {
    step.arrays.push_back({{module() + "." + array.suffix, array.dtype, std::move(array.shape)},
                           array.whole ? BandLayout::whole : BandLayout::columns});
  }
  step.encoding = to_string(Encoding(Grouped{.bits = repack.bits,
                                             .group = {1, repack.group_size == -1 ? 0 : repack.group_size},
                                             .scale = repack.scale,
                                             .offset = repack.sym ? Offset::midpoint : Offset::zero_point,
                                             .indexed = repack.act_order}));
  step.module = PackedModule{module(), true, "affine", repack.bits, repack.group_size, repack.act_order, repack.sym};
  return step;
}

bool StepBuilder::holds(const Step& step) const {
  return std::ranges::none_of(step.arrays,
                              [&](const StepArray& array) { return format_.can_hold(array.plan).has_value(); });
}

/// The module's name: the weight's without its last part.
std::string StepBuilder::module() const {
  constexpr std::string_view kLeaf = ".weight";
  return target_.name.ends_with(kLeaf) ? target_.name.substr(0, target_.name.size() - kLeaf.size()) : target_.name;
}

Shape StepBuilder::with_columns(std::int64_t columns) const {
  Shape shape = target_.shape;
  shape.dims.back() = columns;
  return shape;
}

}  // namespace regauge
