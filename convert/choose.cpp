#include "convert/choose.h"

#include <algorithm>

#include <fmt/format.h>

#include "convert/new_codes.h"
#include "convert/route/copy.h"
#include "convert/route/measured.h"
#include "convert/route/reencode_dense.h"
#include "convert/route/repack_blocks.h"
#include "convert/route/repack_fp.h"
#include "convert/route/repack_gptq.h"
#include "convert/route/repack_mlx.h"
#include "convert/step_builder.h"

namespace regauge {
namespace {

constexpr std::int64_t kSmallElements = 1 << 22;

bool is_plain_dense(const Encoding& encoding) { return std::holds_alternative<Dense>(encoding); }
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
      : target_(target),
        format_(format),
        options_(options),
        decision_(decision),
        allow_(decision.allow),
        steps_(target, format),
        codes_(target, format, options) {
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
    auto wish = translate(decision_.wish, format_);
    if (!wish)
      return Offender{fmt::format("{} has no {} encoding ({})", format_.name, to_string(decision_.wish), by())};
    if (const auto* dtype = std::get_if<DType>(&*wish)) return wished_dense(*dtype);
    if (const auto* blocks = std::get_if<BlockType>(&*wish)) {
      const auto fitting = fit_blocks(*blocks, target_.columns);
      if (const auto* dense = std::get_if<DType>(&fitting)) return wished_dense(*dense);
      wish = std::get<BlockType>(fitting);
    }
    if (auto objection = codes_.shape_objection(*wish)) {
      if (decision_.strict) return Offender{*objection};
      auto step = exact();
      if (auto* found = std::get_if<Step>(&step)) {
        found->reason = fmt::format("{}{}not {}: {}", found->reason, found->reason.empty() ? "" : "; ",
                                    to_string(*wish), *objection);
      }
      return step;
    }
    if (auto step = kept(*wish)) return std::move(*step);
    return codes_.step(*wish, by());
  }

  std::variant<Step, Offender> wished_dense(DType dtype) {
    const auto stored = stored_dtype(target_);
    if (target_.pieces.size() == 1 && stored == dtype && !cannot_copy(target_)) {
      if (auto step = copy(); steps_.holds(step)) return step;
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
    return steps_.holds(step) ? std::optional(std::move(step)) : std::nullopt;
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

  std::variant<Step, Offender> dense() {
    const Encoding& encoding = target_.pieces.front().tensor->encoding;
    const bool numbers = !any_piece(target_, is_not_float);
    std::optional<DType> wanted = target_.required;
    std::string reason = convention_reason(target_);
    if (!wanted && numbers && (options_.dtype || options_.dense))
      wanted = options_.dtype ? options_.dtype : options_.dense;
    const auto* stored = std::get_if<Dense>(&encoding);
    const bool keeps = !wanted || (stored != nullptr && stored->dtype == *wanted);
    const bool narrows = !wanted && target_.usual && target_.usual != stored_dtype(target_) && is_small();
    if (narrows && measure_dense(target_, *target_.usual).changed == 0)
      return as_dense(*target_.usual, "as its authors store it, every value exactly");
    if (keeps && !cannot_copy(target_)) {
      if (auto step = copy(); steps_.holds(step)) return step;
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
    } else if (auto step = copy(); steps_.holds(step)) {
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
      if (auto step = codes_.near(reason)) return std::move(*step);
    }
    if (allow_.dense) return as_dense(DType::f32, reason + "; dense by --allow dense");
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
    auto planned = plan_block_repack(source, facts, allow_.rounded);
    if (auto* reason = std::get_if<std::string>(&planned)) return Offender{*reason};
    auto& repack = std::get<BlockRepack>(planned);
    Step step = steps_.base(Route::repack, repack.type, repack.rounded ? Fidelity::rounded : Fidelity::values);
    if (!steps_.holds(step)) return Offender{fmt::format("{} does not hold it as {}", format_.name, step.encoding)};
    const bool rounded = repack.rounded;
    finish(step, make_block_repack(std::move(source), std::move(repack)), rounded);
    return step;
  }

  std::variant<Step, Offender> mlx(AffineSource source, const AffineFacts& facts) const {
    auto planned = plan_mlx_repack(source, facts);
    if (auto* reason = std::get_if<std::string>(&planned)) return Offender{*reason};
    auto& repack = std::get<MlxRepack>(planned);
    Step step = steps_.mlx_step({repack.bits, repack.groups.width, repack.dtype}, Route::repack, Fidelity::values);
    finish(step, make_mlx_repack(std::move(source), std::move(repack)), false);
    return step;
  }

  std::variant<Step, Offender> gptq(AffineSource source, const AffineFacts& facts) const {
    auto planned = plan_gptq_repack(source, facts, options_.layout, allow_.rounded);
    if (auto* reason = std::get_if<std::string>(&planned)) return Offender{*reason};
    auto& repack = std::get<GptqRepack>(planned);
    Step step = steps_.gptq_step(repack, Route::repack, repack.rounded ? Fidelity::rounded : Fidelity::values);
    const bool rounded = repack.rounded;
    finish(step, make_gptq_repack(std::move(source), std::move(repack)), rounded);
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
      step = steps_.base(Route::repack, type, Fidelity::values);
    } else {
      step = steps_.float_step(kind, Route::repack, Fidelity::values);
    }
    if (!steps_.holds(step)) return Offender{fmt::format("{} does not hold it as {}", format_.name, step.encoding)};
    finish(step, make_float_repack(target_, kind, to), false);
    return step;
  }

  void finish(Step& step, RowMakerPtr maker, bool rounded) const {
    const std::string from = encodings_of(target_);
    step.reason = rounded ? fmt::format("every code of {} kept, scales or offsets rounded, by --allow rounded", from)
                          : fmt::format("every value of {} exactly", from);
    step.maker = rounded ? measured(target_, std::move(maker)) : std::move(maker);
  }

  Step copy() const {
    const Encoding& encoding = target_.pieces.front().tensor->encoding;
    const auto* dense = std::get_if<Dense>(&encoding);
    const std::variant<DType, BlockType> element =
        dense != nullptr ? std::variant<DType, BlockType>(dense->dtype) : std::get<Blocked>(encoding).type;
    Step step = steps_.base(Route::copy, element, target_.is_bare() ? Fidelity::bytes : Fidelity::values);
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
    Step step = steps_.base(Route::reencode, dtype, kept ? Fidelity::values : Fidelity::rounded);
    if (!steps_.holds(step)) return Offender{fmt::format("{} has no {} encoding", format_.name, name(dtype))};
    step.reason = std::move(reason);
    step.maker = make_dense(target_, dtype);
    return step;
  }

  /// Vectors: their values may be looked at before anything is decided.
  bool is_small() const { return target_.rows * target_.columns <= kSmallElements; }

  /// The type for dense values whose convention or make-up changes, where nobody asked for one.
  DType narrowest_dense(std::string& reason) const {
    const auto stored = stored_dtype(target_);
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

  const Target& target_;
  const Format& format_;
  const ConvertOptions& options_;
  const Decision& decision_;
  Losses allow_;
  StepBuilder steps_;
  NewCodes codes_;
};

}  // namespace

std::variant<Step, Offender> choose_route(const Target& target, const Format& format, const ConvertOptions& options,
                                          const Decision& decision) {
  return Chooser(target, format, options, decision).choose();
}

}  // namespace regauge
