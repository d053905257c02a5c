#pragma once

#include <string>

#include "convert/options.h"
#include "ir/checkpoint.h"
#include "models/low_rank.h"

namespace regauge {

struct Target;
struct Step;

/// What low-rank factors come to: Frobenius norms.
struct LowRankNorm {
  double correction = 0;  ///< of B * A
  double weight = 0;      ///< of the weight that it corrects, without it

  /// The share of the weight that the correction is; 0 for a weight of zeros without one.
  double relative() const noexcept;
};

/// Measures the factors of `tensor`: decodes all of it, in f64 sums whose order does not depend on threads or memory.
LowRankNorm measure_low_rank(const Tensor& tensor);

/// What is to become of the factors of a weight with that canonical name.
EoraPolicy policy_for(const ConvertOptions& options, std::string_view canonical);

/// The form in which `dialect` keeps factors of these checkpoints: in a single file among the weights, and also in a
/// directory when the source has them there.
FactorForm factor_form(Dialect dialect, const Checkpoint& source, const ConvertOptions& options);

/// One of the two factors of `tensor` as a dense tensor.
Tensor factor_tensor(const Tensor& tensor, PartId factor);

/// Turns a step whose array is stored the other way round (Target::is_transposed). `target` must outlive the step.
void transpose_step(const Target& target, Step& step);

}  // namespace regauge
