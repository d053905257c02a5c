#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/finding.h"
#include "formats/format.h"
#include "formats/mlx/config.h"
#include "ir/checkpoint.h"

namespace regauge::mlx {

/// The stored arrays of one quantized module, as indices into Checkpoint::arrays.
struct Module {
  std::string name;  ///< the weight's name without ".weight"
  std::size_t weight = 0;
  std::size_t scales = 0;
  std::optional<std::size_t> biases;
  std::optional<std::size_t> global_scale;
};

/// The quantized modules: a U32 `.weight` with `.scales` beside it, by the place of the weight. A packed weight without
/// scales is left alone, with a remark in `tally`.
std::vector<Module> collect_modules(const Checkpoint& checkpoint, FindingTally& tally);

/// The logical weight, its arrays' shapes checked against each other and against `settings`. Throws Error{malformed} naming
/// the array that does not fit.
Tensor make_tensor(const Checkpoint& checkpoint, const Module& module, const Settings& settings);

/// Attaches the low-rank adapter that `options` name, or the one that lies inside the directory, to the weights it corrects.
/// Throws Error{not_found|unsupported} for an adapter that the user named and that cannot be attached; one that merely lies
/// there and cannot stays a sidecar, with a finding. Error{malformed} for factors that do not fit their weight.
/// Source of layout and orientation: ml-explore/mlx-lm mlx_lm/tuner/lora.py and mlx_lm/tuner/utils.py.
void attach_adapter(Checkpoint& checkpoint, const OpenOptions& options);

/// Whether a directory is an mlx-lm adapter and nothing else: adapters.safetensors, no other shard, and its config.
bool is_adapter_directory(const Source& source);

/// Makes each of the factors in `checkpoint`, an adapter directory as open_safetensors() gives it, a tensor in PEFT's words:
/// "P.lora_a" [K, r] becomes "P.lora_a.weight" [r, K], read through its transpose. Throws Error{unsupported} for what
/// attach_adapter() would not attach either.
void turn_factors(Checkpoint& checkpoint);

}  // namespace regauge::mlx
