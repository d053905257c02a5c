#pragma once

#include <optional>
#include <string>
#include <variant>

#include "convert/adapt.h"
#include "convert/fidelity.h"
#include "convert/plan.h"
#include "convert/route/mlx_module.h"
#include "convert/route/repack_fp.h"
#include "convert/route/repack_gptq.h"
#include "formats/format.h"

namespace regauge {

/// "u4 g128 f16 zp", or the encodings of all pieces joined by " + ".
std::string encodings_of(const Target& target);

/// Whether `test` holds for the encoding of any piece.
bool any_piece(const Target& target, bool (*test)(const Encoding&));

/// Dense, and of no real numbers.
bool is_not_float(const Encoding& encoding);

/// The element type of a target whose first piece is dense.
std::optional<DType> stored_dtype(const Target& target);

/// Steps for one target without their makers: names, arrays and encodings as the target's format has them. Refers to the
/// target and the format, which must outlive it.
class StepBuilder {
 public:
  StepBuilder(const Target& target, const Format& format) : target_(target), format_(format) {}

  /// Without arrays.
  Step base(Route route, Fidelity fidelity) const;
  /// One array under the target's own name and shape.
  Step base(Route route, std::variant<DType, BlockType> element, Fidelity fidelity) const;
  /// The arrays of an affine MLX module.
  Step mlx_step(const MlxAffine& affine, Route route, Fidelity fidelity) const;
  /// Those of a module in one of MLX's float modes.
  Step float_step(FloatBlocks kind, Route route, Fidelity fidelity) const;
  /// Those of a GPTQ or Marlin module.
  Step gptq_step(const GptqRepack& repack, Route route, Fidelity fidelity) const;

  /// Whether the format takes all its arrays.
  bool holds(const Step& step) const;

 private:
  std::string module() const;
  Shape with_columns(std::int64_t columns) const;

  const Target& target_;
  const Format& format_;
};

}  // namespace regauge
