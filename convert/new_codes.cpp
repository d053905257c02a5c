#include "convert/new_codes.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"
#include "convert/encode/mlx.h"
#include "convert/importance.h"
#include "convert/route/requantize.h"

namespace regauge {

/// Why the shape does not allow it.
std::optional<std::string> NewCodes::shape_objection(const Wish& wish) const {
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

/// New codes. `reason` says who wanted them.
std::variant<Step, Offender> NewCodes::step(const Wish& wish, std::string reason) const {
  Step made = std::visit([this](const auto& w) { return encoded(w); }, wish);
  if (!steps_.holds(made)) return Offender{fmt::format("{} does not hold it as {}", format_.name, made.encoding)};
  made.reason = std::move(reason);
  if (any_piece(target_, is_quantized)) made.reason += fmt::format("; {} quantized again", encodings_of(target_));
  return made;
}

/// New codes where `reason` says that the old ones cannot be kept, if the shape allows any.
std::optional<Step> NewCodes::near(const std::string& reason) const {
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
  auto made = this->step(*wish, reason + "; by --allow requantized");
  auto* found = std::get_if<Step>(&made);
  return found == nullptr ? std::nullopt : std::optional(std::move(*found));
}

std::optional<std::string> NewCodes::gptq_objection(const AffineWish& affine) const {
  if (!target_.is_linear) return std::string("GPTQ quantizes the matrices of linear layers only");
  if (target_.shape.rank() != 2 || target_.columns % 32 != 0 || target_.rows % 32 != 0)
    return fmt::format("[{}, {}] is no multiple of 32 both ways", target_.rows, target_.columns);
  if (affine.group != -1 && target_.columns % affine.group != 0)
    return fmt::format("rows of {} do not divide into groups of {}", target_.columns, affine.group);
  return gptq_module_objection(
      empty_gptq_module(options_.layout, affine.bits, affine.group, affine.symmetric, target_.columns), target_.rows,
      target_.columns);
}

/// The encoding of one bit more than the source's codes have: what is lost on top of the first rounding is small beside
/// it, and the size is still that of a quantized model.
Wish NewCodes::nearest_wish() const {
  int most = 2;
  for (const TargetPiece& piece : target_.pieces) {
    const auto like = wish_like(piece.tensor->encoding, target_.columns);
    const auto codes = like ? translate(*like, *find_format("mlx")) : std::nullopt;
    const auto* affine = codes ? std::get_if<AffineWish>(&*codes) : nullptr;
    most = std::max(most, affine != nullptr ? affine->bits : 4);
  }
  return AffineWish{.bits = std::min(most == 6 ? 8 : most + 1, 8)};
}

/// mlx-lm quantizes in the type that the model is stored in; a quantized source has none, and BF16 is what models are in.
DType NewCodes::working_dtype() const {
  if (options_.dtype) return *options_.dtype;
  const auto stored = stored_dtype(target_);
  const bool is_usual = stored == DType::f32 || stored == DType::f16 || stored == DType::bf16;
  return is_usual ? *stored : DType::bf16;
}

Step NewCodes::encoded(BlockType type) const {
  Step step = steps_.base(Route::reencode, type, Fidelity::requantized);
  std::span<const float> importance;
  const std::int64_t matrices =
      target_.shape.rank() > 2 ? target_.rows / target_.shape.dims[target_.shape.rank() - 2] : 1;
  if (options_.importance != nullptr) importance = options_.importance->of(target_.name, target_.columns, matrices);
  step.maker = make_block_encoder(target_, type, importance);
  return step;
}

Step NewCodes::encoded(const AffineWish& wish) const {
  return format_.packing == Packing::gptq ? encoded_gptq(wish) : encoded_mlx(wish);
}

Step NewCodes::encoded(FloatBlocks mode) const {
  Step step = steps_.float_step(mode, Route::reencode, Fidelity::requantized);
  step.maker = make_mlx_float_encoder(target_, mode, working_dtype(), options_.mlx_rule);
  return step;
}

Step NewCodes::encoded(ExactWish) const { throw Error(ErrorCode::internal, "an exact wish asks for no codes"); }

Step NewCodes::encoded(DType) const { throw Error(ErrorCode::internal, "a dense wish asks for no codes"); }

Step NewCodes::encoded_mlx(const AffineWish& wish) const {
  const MlxAffine module{wish.bits, wish.group, working_dtype()};
  Step step = steps_.mlx_step(module, Route::reencode, Fidelity::requantized);
  step.maker = make_mlx_affine_encoder(target_, module, options_.mlx_rule);
  return step;
}

Step NewCodes::encoded_gptq(const AffineWish& wish) const {
  GptqRepack module = empty_gptq_module(options_.layout, wish.bits, wish.group, wish.symmetric, target_.columns);
  Step step = steps_.gptq_step(module, Route::reencode, Fidelity::requantized);
  step.maker = make_gptq_encoder(target_, std::move(module));
  return step;
}

}  // namespace regauge
