#pragma once

#include <optional>
#include <string>
#include <variant>

#include "convert/choose.h"
#include "convert/recipe/wish.h"
#include "convert/step_builder.h"

namespace regauge {

/// Steps that give one target new codes. Refers to all it is made from.
class NewCodes {
 public:
  NewCodes(const Target& target, const Format& format, const ConvertOptions& options)
      : target_(target), format_(format), options_(options), steps_(target, format) {}

  /// Why the target's shape or numbers do not allow `wish`, which is in the format's own words and neither exact nor
  /// dense; nothing where they do.
  std::optional<std::string> shape_objection(const Wish& wish) const;

  /// The step for such a wish that nothing objects to. `reason` says who wanted it.
  std::variant<Step, Offender> step(const Wish& wish, std::string reason) const;

  /// Codes of one bit more than the source's where `reason` says that those cannot be kept; nothing where the shape allows
  /// none.
  std::optional<Step> near(const std::string& reason) const;

 private:
  std::optional<std::string> gptq_objection(const AffineWish& affine) const;
  Wish nearest_wish() const;
  DType working_dtype() const;
  Step encoded(BlockType type) const;
  Step encoded(const AffineWish& wish) const;
  Step encoded(FloatBlocks mode) const;
  Step encoded(ExactWish wish) const;
  Step encoded(DType dtype) const;
  Step encoded_mlx(const AffineWish& wish) const;
  Step encoded_gptq(const AffineWish& wish) const;

  const Target& target_;
  const Format& format_;
  const ConvertOptions& options_;
  StepBuilder steps_;
};

}  // namespace regauge
