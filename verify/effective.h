#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "convert/adapt.h"
#include "ir/checkpoint.h"
#include "models/architecture.h"

namespace regauge {

/// What a leaf is to the model.
enum class LeafKind : std::uint8_t {
  weight,     ///< a slot, or a tensor that is none
  tied_head,  ///< a stored copy of the embedding: the model has no such weight
  factor,     ///< half of a low-rank correction
};

/// One weight in effective form, ready to be read as f32, and where it lies. A target's pieces point at its tensor.
struct Leaf {
  Target target;  ///< named canonically; a tensor that is no slot keeps name and shape
  LeafKind kind = LeafKind::weight;
  std::size_t path = 0;            ///< of the model's paths
  const Tensor* stored = nullptr;  ///< the tensor that holds it; of a factor beside its weight, that weight
};

/// All weights of a model, in the order of paths, tensors and pieces, a weight's factors behind it.
struct EffectiveModel {
  std::vector<Leaf> leaves;
  std::vector<std::unique_ptr<const Tensor>> factors;  ///< factors that a checkpoint keeps beside a weight
};

/// Takes a model apart into its slots, each in effective form: what all dialects map forward to, so that norms stored as w
/// or 1 + w, heads in either order and -exp(A_log) compare as what they mean. Factors are named after the weight that they
/// correct: "X.weight.lora_a" [rank, in] and "X.weight.lora_b" [out, rank]. Throws Error{malformed} when two paths
/// hold the same weight. `paths` must outlive the result.
EffectiveModel effective_model(std::span<const OpenedPath> paths);

/// The weights alone, by name: stored copies of a tied head count, factors do not.
std::map<std::string, Target> effective_form(std::span<const OpenedPath> paths);

}  // namespace regauge
