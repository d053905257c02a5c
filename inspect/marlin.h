#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "inspect/catalog.h"
#include "ir/checkpoint.h"

namespace regauge::inspect {

/// A GPTQ module that Marlin's kernels cannot take as it is.
struct MarlinRefusal {
  std::size_t tensor = 0;   ///< index into Checkpoint::tensors
  std::string reason;       ///< of the strict rule
  bool padded_too = false;  ///< zero-padded tiles do not help either
};

/// Projections that engines run as one matrix and that are quantized differently.
struct MixedFusion {
  std::string module;  ///< common path: "model.language_model.layers.3.self_attn"
  std::string fused;   ///< "qkv_proj", "gate_up_proj", "in_proj_qkvz"
  std::vector<std::size_t> tensors;
};

/// Whether vLLM's Marlin kernels would run a GPTQ checkpoint. Source: vllm-project/vllm
/// vllm/model_executor/layers/quantization/gptq_marlin.py (is_gptq_marlin_compatible and the module checks) and
/// kernels/linear/mixed_precision/marlin.py (padded tiles, without a group index).
struct MarlinVerdict {
  bool applies = false;       ///< the checkpoint is GPTQ; else everything below is empty
  std::string config_reason;  ///< why the configuration rules it out; empty when it does not
  std::size_t modules = 0;
  std::size_t strict = 0;  ///< modules that pass the rule of every version
  std::size_t padded = 0;  ///< modules that pass where tiles are padded
  std::vector<MarlinRefusal> refusals;
  std::vector<MixedFusion> mixed;

  bool compatible() const noexcept { return applies && config_reason.empty() && padded == modules && mixed.empty(); }
};

MarlinVerdict judge_marlin(const Checkpoint& checkpoint, const Catalog& catalog);

}  // namespace regauge::inspect
