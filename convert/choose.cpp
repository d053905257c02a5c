#include "convert/choose.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include "convert/route/copy.h"
#include "convert/route/measured.h"
#include "convert/route/reencode_dense.h"
#include "convert/route/repack_blocks.h"
#include "convert/route/repack_fp.h"
#include "convert/route/repack_gptq.h"
#include "convert/route/repack_mlx.h"

namespace regauge {
namespace {

constexpr std::int64_t kSmallElements = 1 << 22;

std::string encodings_of(const Target& target) {
  std::vector<std::string> seen;
  for (const TargetPiece& piece : target.pieces) {
    std::string text = to_string(piece.tensor->encoding);
    if (std::ranges::find(seen, text) == seen.end()) seen.push_back(std::move(text));
  }
  std::string out;
  for (const std::string& text : seen) out += (out.empty() ? "" : " + ") + text;
  return out;
}

bool any_piece(const Target& target, bool (*test)(const Encoding&)) {
  return std::ranges::any_of(target.pieces, [&](const TargetPiece& p) { return test(p.tensor->encoding); });
}

bool is_plain_dense(const Encoding& encoding) { return std::holds_alternative<Dense>(encoding); }
bool is_not_float(const Encoding& encoding) {
  const auto* dense = std::get_if<Dense>(&encoding);
  return dense != nullptr && !is_float(dense->dtype);
}

std::int64_t quantum_of(const Target& target) {
  std::int64_t quantum = 1;
  for (const TargetPiece& piece : target.pieces) quantum = std::lcm(quantum, piece.tensor->row_quantum());
  return quantum;
}

/// What the target's convention does to the values and what its loaders want, for the step's reason.
std::string convention_reason(const Target& target) {
  std::string reason;
  for (const TargetPiece& piece : target.pieces) {
    if (piece.view.elementwise != Elementwise::none) reason = fmt::format("stored as {}", name(piece.view.elementwise));
  }
  if (target.required)
    reason += fmt::format("{}loaders insist on {} here", reason.empty() ? "" : "; ", name(*target.required));
  return reason;
}

class Chooser {
 public:
  Chooser(const Target& target, const Format& format, const ConvertOptions& options)
      : target_(target), format_(format), options_(options) {}

  std::variant<Step, Offender> choose() {
    for (const TargetPiece& piece : target_.pieces) {
      if (!is_decodable(piece.tensor->encoding) && cannot_copy(target_)) {
        return Offender{
            fmt::format("{} can neither be decoded nor carried as it is", to_string(piece.tensor->encoding))};
      }
    }
    return any_piece(target_, is_quantized) ? quantized() : dense();
  }

 private:
  std::variant<Step, Offender> dense() {
    const Encoding& encoding = target_.pieces.front().tensor->encoding;
    const bool numbers = !any_piece(target_, is_not_float);
    std::optional<DType> wanted = target_.required;
    std::string reason = convention_reason(target_);
    if (!wanted && numbers && (options_.dtype || options_.dense))
      wanted = options_.dtype ? options_.dtype : options_.dense;
    const auto* stored = std::get_if<Dense>(&encoding);
    const bool keeps = !wanted || (stored != nullptr && stored->dtype == *wanted);
    const bool narrows = !wanted && target_.usual && target_.usual != stored_dtype() && is_small();
    if (narrows && measure_dense(target_, *target_.usual).changed == 0)
      return as_dense(*target_.usual, "as its authors store it, every value exactly");
    if (keeps && !cannot_copy(target_)) {
      if (auto step = copy(); holds(step)) return step;
    }
    if (!numbers) return Offender{fmt::format("{} has no {} encoding", encodings_of(target_), format_.name)};
    if (!wanted) {
      if (auto why = cannot_copy(target_); why && reason.empty()) reason = *why;
      wanted = narrowest_dense(reason);
    }
    return as_dense(*wanted, reason);
  }

  std::variant<Step, Offender> quantized() {
    if (target_.required) return as_dense(*target_.required, convention_reason(target_));
    if (options_.dense) return as_dense(*options_.dense, "decoded, by --dense");
    std::string reason;
    if (auto why = cannot_copy(target_)) {
      reason = *why;
    } else if (auto step = copy(); holds(step)) {
      return step;
    } else {
      reason = fmt::format("{} has no {} encoding", format_.name, encodings_of(target_));
    }
    if (!any_piece(target_, is_plain_dense)) {
      auto packed = repacked();
      if (auto* step = std::get_if<Step>(&packed)) return std::move(*step);
      reason = std::get<Offender>(packed).reason;
    }
    if (options_.allow_dense) return as_dense(DType::f32, reason + "; dense by --allow dense");
    return Offender{reason};
  }

  /// Packed to packed: the codes are kept.
  std::variant<Step, Offender> repacked() {
    if (format_.packing == Packing::gptq && !target_.is_linear)
      return Offender{"GPTQ quantizes the matrices of linear layers only"};
    if (format_.packing == Packing::one_array && !holds_blocks())
      return Offender{fmt::format("{} has no quantized encodings", format_.name)};
    if (float_blocks_of(target_.pieces.front().tensor->encoding)) {
      if (format_.packing == Packing::gptq) return Offender{"GPTQ has no float codes"};
      return float_repack();
    }
    auto source = AffineSource::of(target_);
    if (auto* reason = std::get_if<std::string>(&source)) return Offender{*reason};
    auto& affine = std::get<AffineSource>(source);
    const AffineFacts facts = affine.facts();
    switch (format_.packing) {
      case Packing::one_array: return blocks(std::move(affine), facts);
      case Packing::gptq: return gptq(std::move(affine), facts);
      case Packing::mlx: return mlx(std::move(affine), facts);
    }
    return Offender{"no route"};
  }

  bool holds_blocks() const { return !format_.can_hold({"t", BlockType::q8_0, {1, 32}}); }

  std::variant<Step, Offender> blocks(AffineSource source, const AffineFacts& facts) const {
    auto planned = plan_block_repack(source, facts, options_.allow_rounded);
    if (auto* reason = std::get_if<std::string>(&planned)) return Offender{*reason};
    auto& repack = std::get<BlockRepack>(planned);
    Step step = base(Route::repack, repack.rounded ? Fidelity::rounded : Fidelity::values);
    add_array(step, {target_.name, repack.type, target_.shape});
    step.encoding = name(repack.type);
    if (!holds(step)) return Offender{fmt::format("{} does not hold it as {}", format_.name, step.encoding)};
    const bool rounded = repack.rounded;
    finish(step, make_block_repack(std::move(source), std::move(repack)), rounded);
    return step;
  }

  std::variant<Step, Offender> mlx(AffineSource source, const AffineFacts& facts) const {
    auto planned = plan_mlx_repack(source, facts);
    if (auto* reason = std::get_if<std::string>(&planned)) return Offender{*reason};
    auto& repack = std::get<MlxRepack>(planned);
    Step step = base(Route::repack, Fidelity::values);
    const std::int64_t groups = target_.columns / repack.groups.width;
    add_array(step, {module() + ".weight", DType::u32, with_columns(target_.columns * repack.bits / 32)});
    add_array(step, {module() + ".scales", repack.dtype, with_columns(groups)});
    add_array(step, {module() + ".biases", repack.dtype, with_columns(groups)});
    step.encoding = to_string(Encoding(Grouped{.bits = repack.bits,
                                               .group = {1, repack.groups.width},
                                               .scale = repack.dtype,
                                               .offset = Offset::bias,
                                               .offset_dtype = repack.dtype}));
    step.module = PackedModule{module(), true, "affine", repack.bits, repack.groups.width, false, false};
    finish(step, make_mlx_repack(std::move(source), std::move(repack)), false);
    return step;
  }

  std::variant<Step, Offender> gptq(AffineSource source, const AffineFacts& facts) const {
    auto planned = plan_gptq_repack(source, facts, options_.layout, options_.allow_rounded);
    if (auto* reason = std::get_if<std::string>(&planned)) return Offender{*reason};
    auto& repack = std::get<GptqRepack>(planned);
    Step step = base(Route::repack, repack.rounded ? Fidelity::rounded : Fidelity::values);
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
    const bool rounded = repack.rounded;
    finish(step, make_gptq_repack(std::move(source), std::move(repack)), rounded);
    return step;
  }

  std::variant<Step, Offender> float_repack() const {
    const FloatTarget to = format_.packing == Packing::mlx ? FloatTarget::mlx : FloatTarget::ggml;
    const auto planned = plan_float_repack(target_, to);
    if (const auto* reason = std::get_if<std::string>(&planned)) return Offender{*reason};
    const auto kind = std::get<FloatBlocks>(planned);
    Step step = base(Route::repack, Fidelity::values);
    if (to == FloatTarget::ggml) {
      const BlockType type = kind == FloatBlocks::nvfp4 ? BlockType::nvfp4 : BlockType::mxfp4;
      add_array(step, {target_.name, type, target_.shape});
      step.encoding = name(type);
    } else {
      add_array(step, {module() + ".weight", DType::u32, with_columns(target_.columns * code_bits(kind) / 32)});
      add_array(step, {module() + ".scales", DType::u8, with_columns(target_.columns / group_size(kind))});
      step.encoding = fmt::format("{} g{}", name(kind), group_size(kind));
      step.module =
          PackedModule{module(), true, std::string(name(kind)), code_bits(kind), group_size(kind), false, false};
    }
    if (!holds(step)) return Offender{fmt::format("{} does not hold it as {}", format_.name, step.encoding)};
    finish(step, make_float_repack(target_, kind, to), false);
    return step;
  }

  /// The module's name: the weight's without its last part.
  std::string module() const {
    constexpr std::string_view kLeaf = ".weight";
    return target_.name.ends_with(kLeaf) ? target_.name.substr(0, target_.name.size() - kLeaf.size()) : target_.name;
  }

  Shape with_columns(std::int64_t columns) const {
    Shape shape = target_.shape;
    shape.dims.back() = columns;
    return shape;
  }

  static void add_array(Step& step, ArrayPlan plan) { step.arrays.push_back({std::move(plan), BandLayout::rows}); }

  void finish(Step& step, RowMakerPtr maker, bool rounded) const {
    const std::string from = encodings_of(target_);
    step.reason = rounded ? fmt::format("every code of {} kept, scales or offsets rounded, by --allow rounded", from)
                          : fmt::format("every value of {} exactly", from);
    step.maker = rounded ? measured(target_, std::move(maker)) : std::move(maker);
  }

  Step base(Route route, std::variant<DType, BlockType> element, Fidelity fidelity) const {
    Step step = base(route, fidelity);
    add_array(step, {target_.name, element, target_.shape});
    step.encoding = std::visit([](auto type) { return std::string(name(type)); }, element);
    return step;
  }

  Step base(Route route, Fidelity fidelity) const {
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

  Step copy() const {
    const Encoding& encoding = target_.pieces.front().tensor->encoding;
    const auto* dense = std::get_if<Dense>(&encoding);
    const std::variant<DType, BlockType> element =
        dense != nullptr ? std::variant<DType, BlockType>(dense->dtype) : std::get<Blocked>(encoding).type;
    Step step = base(Route::copy, element, target_.is_bare() ? Fidelity::bytes : Fidelity::values);
    if (!target_.is_bare())
      step.reason = target_.pieces.size() > 1 ? "put together from several arrays" : "rows or columns reordered";
    step.maker = make_copy(target_);
    return step;
  }

  std::variant<Step, Offender> as_dense(DType dtype, std::string reason) const {
    const bool exact = std::ranges::all_of(
        target_.pieces, [&](const TargetPiece& p) { return widens_exactly(p.tensor->encoding, dtype); });
    // A value change ends in f32 and rounds again when stored in less.
    const bool changes = changes_values();
    // The way back from 1 + w is exact wherever it has been the way there: vectors are looked at.
    const bool looked_at = is_small() && (target_.usual == dtype || (changes && !counts_forward()));
    const bool known = looked_at && measure_dense(target_, dtype).changed == 0;
    const bool kept = known || (exact && (!changes || (dtype == DType::f32 && counts_forward())));
    Step step = base(Route::reencode, dtype, kept ? Fidelity::values : Fidelity::rounded);
    if (!holds(step)) return Offender{fmt::format("{} has no {} encoding", format_.name, name(dtype))};
    step.reason = std::move(reason);
    step.maker = make_dense(target_, dtype);
    return step;
  }

  std::optional<DType> stored_dtype() const {
    const auto* dense = std::get_if<Dense>(&target_.pieces.front().tensor->encoding);
    return dense == nullptr ? std::nullopt : std::optional(dense->dtype);
  }

  /// Vectors: their values may be looked at before anything is decided.
  bool is_small() const { return target_.rows * target_.columns <= kSmallElements; }

  /// The type for dense values whose convention or make-up changes, where nobody asked for one.
  DType narrowest_dense(std::string& reason) const {
    const auto stored = stored_dtype();
    const bool short_type = (stored == DType::bf16 || stored == DType::f16) && one_encoding();
    if (target_.rounds_by_dialect && short_type) {
      if (!options_.require || *options_.require >= Fidelity::rounded) {
        reason += " (dialect)";
        return *stored;
      }
      return DType::f32;
    }
    if (target_.usual && is_small() && measure_dense(target_, *target_.usual).changed == 0) return *target_.usual;
    return short_type && !changes_values() ? *stored : DType::f32;
  }

  /// 1 + w and -exp(w) are what all dialects compare by; the ways back need not hit.
  bool counts_forward() const {
    return std::ranges::none_of(target_.pieces, [](const TargetPiece& p) {
      return p.view.elementwise == Elementwise::sub_one || p.view.elementwise == Elementwise::log_neg;
    });
  }

  bool changes_values() const {
    return std::ranges::any_of(target_.pieces,
                               [](const TargetPiece& p) { return p.view.elementwise != Elementwise::none; });
  }

  bool one_encoding() const {
    return std::ranges::all_of(target_.pieces, [&](const TargetPiece& p) {
      return p.tensor->encoding == target_.pieces.front().tensor->encoding;
    });
  }

  bool holds(const Step& step) const {
    return std::ranges::none_of(step.arrays,
                                [&](const StepArray& array) { return format_.can_hold(array.plan).has_value(); });
  }

  const Target& target_;
  const Format& format_;
  const ConvertOptions& options_;
};

}  // namespace

std::variant<Step, Offender> choose_route(const Target& target, const Format& format, const ConvertOptions& options) {
  return Chooser(target, format, options).choose();
}

}  // namespace regauge
