#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "ir/checkpoint.h"
#include "models/architecture.h"

namespace regauge {

// Factors of rank r that correct a weight, W = decode + B * A with A [r, K] and B [N, r]: EoRA, LoRA. Every ecosystem has a
// place of its own for them.

/// Where a file keeps low-rank factors, under which names and which way round.
enum class FactorForm : std::uint8_t {
  peft,      ///< "base_model.model.<module>.lora_A.weight" [r, K] beside adapter_config.json; also GPTQModel's EoRA
  in_model,  ///< "<module>.lora_A" [K, r] among the weights, as GPTQModel's kernels hold them
  mlx,       ///< "<module>.lora_a" [K, r] beside mlx-lm's adapter_config.json
  gguf,      ///< "<weight>.lora_a" [r, K] in llama.cpp's adapter file
};

/// Whether the form stores A as [K, r] and B as [r, N].
bool is_transposed(FactorForm form) noexcept;

/// The array of a factor of `weight` ("….q_proj.weight"), lowrank_a or lowrank_b.
std::string factor_array(FactorForm form, std::string_view weight, PartId factor);

/// The folder of a directory that an adapter in this form has for itself, "eora" or "adapters"; empty for the others.
std::string_view factor_folder(FactorForm form) noexcept;

/// A module that has factors.
struct CorrectedModule {
  std::string weight;  ///< its weight's name in the dialect of the file
  std::int64_t rank = 0;
};

/// The text of the adapter_config.json for these modules, under which peft, GPTQModel and mlx-lm multiply B * A by 1. What
/// `original`, the source's own where it was a PEFT adapter, says beyond that is kept; null for none. Throws
/// Error{internal} for forms that have no such file.
std::string adapter_config_text(FactorForm form, std::span<const CorrectedModule> modules, const Json* original);

/// Whether `checkpoint` is an adapter: factors, and no weights.
bool is_adapter(const Checkpoint& checkpoint);

/// The rows and columns that a low-rank factor shares with the weight it corrects: A has its columns, B its rows.
View factor_view(PartId factor, const View& of_weight);

/// From the canonical order of `slot`'s rows and columns to that of an adapter in `dialect`, which records `orders`
/// (models/permutations.h). Throws Error{malformed} when those are not of this model.
View adapter_order(const Architecture& architecture, Dialect dialect, const std::map<std::string, AxisMap>& orders,
                   const Slot& slot);

/// Gives the factors of `adapter`, an adapter in any dialect, to the weights of `model` that they correct, as parts in the
/// order in which `model` stores rows and columns, and takes over its files, arrays and findings. Throws
/// Error{malformed} for factors that fit no weight or not each other, Error{unsupported} for an adapter that is no plain
/// product (DoRA, a scale other than 1) and for factors of stacked or fused weights.
void attach_adapter(Checkpoint& model, const Architecture& architecture, Checkpoint adapter);

}  // namespace regauge
