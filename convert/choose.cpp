#include "convert/choose.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include "base/error.h"
#include "convert/encode/mlx.h"
#include "convert/importance.h"
#include "convert/route/copy.h"
#include "convert/route/measured.h"
#include "convert/route/reencode_dense.h"
#include "convert/route/repack_blocks.h"
#include "convert/route/repack_fp.h"
#include "convert/route/repack_gptq.h"
#include "convert/route/repack_mlx.h"
#include "convert/route/requantize.h"

namespace regauge {
namespace {

constexpr std::int64_t kSmallElements = 1 << 22;

std::string encodings_of(const Target& target) {
  std::vector<std::string> seen;
  for (const TargetPiece& piece : target.pieces) {
    std::string text = to_string(piece.tensor->encoding);
    if (piece.with_low_rank) text += fmt::format(" + B*A r{}", piece.tensor->part(PartId::lowrank_a).shape.rows());
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
  Chooser(const Target& target, const Format& format, const ConvertOptions& options, const Decision& decision)
      : target_(target), format_(format), options_(options), decision_(decision), allow_(decision.allow) {
    allow_.dense = allow_.dense || options.allow_dense;
    allow_.rounded = allow_.rounded || options.allow_rounded;
    allow_.requantized = allow_.requantized || options.allow_requantized;
  }

  std::variant<Step, Offender> choose() {
    for (const TargetPiece& piece : target_.pieces) {
      if (!is_decodable(piece.tensor->encoding) && cannot_copy(target_)) {
        return Offender{
            fmt::format("{} can neither be decoded nor carried as it is", to_string(piece.tensor->encoding))};
      }
    }
    if (!std::holds_alternative<ExactWish>(decision_.wish)) return wished();
    return exact();
  }

 private:
  std::variant<Step, Offender> exact() { return any_piece(target_, is_quantized) ? quantized() : dense(); }

  /// What the recipe asks for, the least lossy way there.
  std::variant<Step, Offender> wished() {
    const auto wish = translate(decision_.wish, format_);
    if (!wish)
      return Offender{fmt::format("{} has no {} encoding ({})", format_.name, to_string(decision_.wish), by())};
    if (const auto* dtype = std::get_if<DType>(&*wish)) return wished_dense(*dtype);
    if (auto objection = shape_objection(*wish)) {
      if (decision_.strict) return Offender{*objection};
      auto step = exact();
      if (auto* found = std::get_if<Step>(&step)) {
        found->reason = fmt::format("{}{}not {}: {}", found->reason, found->reason.empty() ? "" : "; ",
                                    to_string(*wish), *objection);
      }
      return step;
    }
    if (auto step = kept(*wish)) return std::move(*step);
    return requantized(*wish, by());
  }

  std::variant<Step, Offender> wished_dense(DType dtype) {
    const auto stored = stored_dtype();
    if (target_.pieces.size() == 1 && stored == dtype && !cannot_copy(target_)) {
      if (auto step = copy(); holds(step)) return step;
    }
    if (any_piece(target_, is_not_float)) return exact();
    return as_dense(dtype, by());
  }

  std::string by() const { return "by " + decision_.by; }

  /// A copy or a repack that happens to be what was wished.
  std::optional<Step> kept(const Wish& wish) {
    if (!any_piece(target_, is_quantized) || any_piece(target_, is_plain_dense) || merges()) return std::nullopt;
    if (!cannot_copy(target_)) {
      const auto* blocked = std::get_if<Blocked>(&target_.pieces.front().tensor->encoding);
      if (auto step = copy_of_blocks(); step && blocked != nullptr && wish == Wish(blocked->type)) return step;
    }
    auto packed = repacked();
    auto* step = std::get_if<Step>(&packed);
    if (step == nullptr || !is(wish, *step)) return std::nullopt;
    return std::move(*step);
  }

  std::optional<Step> copy_of_blocks() const {
    if (!std::holds_alternative<Blocked>(target_.pieces.front().tensor->encoding)) return std::nullopt;
    Step step = copy();
    return holds(step) ? std::optional(std::move(step)) : std::nullopt;
  }

  static bool is(const Wish& wish, const Step& step) {
    if (const auto* type = std::get_if<BlockType>(&wish)) {
      const auto* element = std::get_if<BlockType>(&step.arrays.front().plan.element);
      return element != nullptr && *element == *type;
    }
    if (!step.module) return false;
    if (const auto* kind = std::get_if<FloatBlocks>(&wish)) return step.module->mode == name(*kind);
    const auto* affine = std::get_if<AffineWish>(&wish);
    return affine != nullptr && step.module->mode == "affine" && step.module->bits == affine->bits &&
           step.module->group_size == affine->group;
  }

  /// Why the shape does not allow it.
  std::optional<std::string> shape_objection(const Wish& wish) const {
    if (any_piece(target_, is_not_float)) return std::string("its elements are no real numbers");
    if (const auto* type = std::get_if<BlockType>(&wish)) {
      if (target_.columns % block_elements(*type) == 0) return std::nullopt;
      return fmt::format("rows of {} do not divide into blocks of {}", target_.columns, block_elements(*type));
    }
    if (const auto* kind = std::get_if<FloatBlocks>(&wish)) {
      if (target_.columns % std::max<std::int64_t>(group_size(*kind), 32) == 0) return std::nullopt;
      return fmt::format("rows of {} do not divide into groups of {}", target_.columns, group_size(*kind));
    }
    const auto& affine = std::get<AffineWish>(wish);
    if (format_.packing == Packing::gptq) return gptq_objection(affine);
    if (affine.group < 1 || !mlx_affine_is_legal(affine.bits, affine.group))
      return fmt::format("MLX has no {}", to_string(wish));
    if (target_.columns % affine.group == 0) return std::nullopt;
    return fmt::format("rows of {} do not divide into groups of {}", target_.columns, affine.group);
  }

  std::optional<std::string> gptq_objection(const AffineWish& affine) const {
    if (!target_.is_linear) return std::string("GPTQ quantizes the matrices of linear layers only");
    if (target_.shape.rank() != 2 || target_.columns % 32 != 0 || target_.rows % 32 != 0)
      return fmt::format("[{}, {}] is no multiple of 32 both ways", target_.rows, target_.columns);
    if (affine.group != -1 && target_.columns % affine.group != 0)
      return fmt::format("rows of {} do not divide into groups of {}", target_.columns, affine.group);
    return gptq_module_objection(
        empty_gptq_module(options_.layout, affine.bits, affine.group, affine.symmetric, target_.columns), target_.rows,
        target_.columns);
  }

  /// New codes. `reason` says who wanted them.
  std::variant<Step, Offender> requantized(const Wish& wish, std::string reason) const {
    Step step = std::visit([this](const auto& w) { return encoded(w); }, wish);
    if (!holds(step)) return Offender{fmt::format("{} does not hold it as {}", format_.name, step.encoding)};
    step.reason = std::move(reason);
    if (any_piece(target_, is_quantized)) step.reason += fmt::format("; {} quantized again", encodings_of(target_));
    return step;
  }

  Step encoded(BlockType type) const {
    Step step = base(Route::reencode, type, Fidelity::requantized);
    std::span<const float> importance;
    const std::int64_t matrices =
        target_.shape.rank() > 2 ? target_.rows / target_.shape.dims[target_.shape.rank() - 2] : 1;
    if (options_.importance != nullptr) importance = options_.importance->of(target_.name, target_.columns, matrices);
    step.maker = make_block_encoder(target_, type, importance);
    return step;
  }

  Step encoded(const AffineWish& wish) const {
    return format_.packing == Packing::gptq ? encoded_gptq(wish) : encoded_mlx(wish);
  }

  Step encoded(FloatBlocks mode) const {
    Step step = float_step(mode, Route::reencode, Fidelity::requantized);
    step.maker = make_mlx_float_encoder(target_, mode, working_dtype(), options_.mlx_rule);
    return step;
  }

  Step encoded(ExactWish) const { throw Error(ErrorCode::internal, "an exact wish asks for no codes"); }
  Step encoded(DType) const { throw Error(ErrorCode::internal, "a dense wish asks for no codes"); }

  Step encoded_mlx(const AffineWish& wish) const {
    const MlxAffine module{wish.bits, wish.group, working_dtype()};
    Step step = mlx_step(module, Route::reencode, Fidelity::requantized);
    step.maker = make_mlx_affine_encoder(target_, module, options_.mlx_rule);
    return step;
  }

  /// mlx-lm quantizes in the type that the model is stored in; a quantized source has none, and BF16 is what models are in.
  DType working_dtype() const {
    if (options_.dtype) return *options_.dtype;
    const auto stored = stored_dtype();
    const bool is_usual = stored == DType::f32 || stored == DType::f16 || stored == DType::bf16;
    return is_usual ? *stored : DType::bf16;
  }

  Step encoded_gptq(const AffineWish& wish) const {
    GptqRepack module = empty_gptq_module(options_.layout, wish.bits, wish.group, wish.symmetric, target_.columns);
    Step step = gptq_step(module, Route::reencode, Fidelity::requantized);
    step.maker = make_gptq_encoder(target_, std::move(module));
    return step;
  }

  /// The encoding of one bit more than the source's codes have: what is lost on top of the first rounding is small beside
  /// it, and the size is still that of a quantized model.
  Wish nearest_wish() const {
    int most = 2;
    for (const TargetPiece& piece : target_.pieces) {
      const auto like = wish_like(piece.tensor->encoding, target_.columns);
      const auto codes = like ? translate(*like, *find_format("mlx")) : std::nullopt;
      const auto* affine = codes ? std::get_if<AffineWish>(&*codes) : nullptr;
      most = std::max(most, affine != nullptr ? affine->bits : 4);
    }
    return AffineWish{.bits = std::min(most == 6 ? 8 : most + 1, 8)};
  }

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
    if (!any_piece(target_, is_plain_dense) && !merges()) {
      auto packed = repacked();
      if (auto* step = std::get_if<Step>(&packed)) return std::move(*step);
      reason = std::get<Offender>(packed).reason;
    }
    if (allow_.requantized) {
      if (auto step = near(reason)) return std::move(*step);
    }
    if (allow_.dense) return as_dense(DType::f32, reason + "; dense by --allow dense");
    return Offender{reason};
  }

  /// New codes where `reason` says that the old ones cannot be kept, if the shape allows any.
  std::optional<Step> near(const std::string& reason) const {
    auto wish = translate(nearest_wish(), format_);
    if (!wish) return std::nullopt;
    if (const auto* type = std::get_if<BlockType>(&*wish)) {
      const auto fitting = fit_blocks(*type, target_.columns);
      const auto* blocks = std::get_if<BlockType>(&fitting);
      if (blocks == nullptr) return std::nullopt;
      wish = *blocks;
    } else if (auto& affine = std::get<AffineWish>(*wish); target_.columns % affine.group != 0) {
      affine.group = 32;
    }
    if (shape_objection(*wish)) return std::nullopt;
    auto step = requantized(*wish, reason + "; by --allow requantized");
    auto* found = std::get_if<Step>(&step);
    return found == nullptr ? std::nullopt : std::optional(std::move(*found));
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
    auto planned = plan_block_repack(source, facts, allow_.rounded);
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
    Step step = mlx_step({repack.bits, repack.groups.width, repack.dtype}, Route::repack, Fidelity::values);
    finish(step, make_mlx_repack(std::move(source), std::move(repack)), false);
    return step;
  }

  Step mlx_step(const MlxAffine& affine, Route route, Fidelity fidelity) const {
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

  std::variant<Step, Offender> gptq(AffineSource source, const AffineFacts& facts) const {
    auto planned = plan_gptq_repack(source, facts, options_.layout, allow_.rounded);
    if (auto* reason = std::get_if<std::string>(&planned)) return Offender{*reason};
    auto& repack = std::get<GptqRepack>(planned);
    Step step = gptq_step(repack, Route::repack, repack.rounded ? Fidelity::rounded : Fidelity::values);
    const bool rounded = repack.rounded;
    finish(step, make_gptq_repack(std::move(source), std::move(repack)), rounded);
    return step;
  }

  Step gptq_step(const GptqRepack& repack, Route route, Fidelity fidelity) const {
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

  Step float_step(FloatBlocks kind, Route route, Fidelity fidelity) const {
    Step step = base(route, fidelity);
    add_array(step, {module() + ".weight", DType::u32, with_columns(target_.columns * code_bits(kind) / 32)});
    add_array(step, {module() + ".scales", DType::u8, with_columns(target_.columns / group_size(kind))});
    step.encoding = fmt::format("{} g{}", name(kind), group_size(kind));
    step.module =
        PackedModule{module(), true, std::string(name(kind)), code_bits(kind), group_size(kind), false, false};
    return step;
  }

  std::variant<Step, Offender> float_repack() const {
    const FloatTarget to = format_.packing == Packing::mlx ? FloatTarget::mlx : FloatTarget::ggml;
    const auto planned = plan_float_repack(target_, to);
    if (const auto* reason = std::get_if<std::string>(&planned)) return Offender{*reason};
    const auto kind = std::get<FloatBlocks>(planned);
    Step step;
    if (to == FloatTarget::ggml) {
      const BlockType type = kind == FloatBlocks::nvfp4 ? BlockType::nvfp4 : BlockType::mxfp4;
      step = base(Route::repack, type, Fidelity::values);
    } else {
      step = float_step(kind, Route::repack, Fidelity::values);
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
    const bool exact = std::ranges::all_of(target_.pieces, [&](const TargetPiece& p) {
      return p.with_low_rank ? dtype == DType::f32 : widens_exactly(p.tensor->encoding, dtype);
    });
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
    return short_type && !changes_values() && !merges() ? *stored : DType::f32;
  }

  /// 1 + w and -exp(w) are what all dialects compare by; the ways back need not hit.
  bool counts_forward() const {
    return std::ranges::none_of(target_.pieces, [](const TargetPiece& p) {
      return p.view.elementwise == Elementwise::sub_one || p.view.elementwise == Elementwise::log_neg;
    });
  }

  /// Sums of two products have no encoding that is exact by itself.
  bool merges() const {
    return std::ranges::any_of(target_.pieces, [](const TargetPiece& p) { return p.with_low_rank; });
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
  const Decision& decision_;
  Losses allow_;
};

}  // namespace

std::variant<Step, Offender> choose_route(const Target& target, const Format& format, const ConvertOptions& options,
                                          const Decision& decision) {
  return Chooser(target, format, options, decision).choose();
}

}  // namespace regauge
