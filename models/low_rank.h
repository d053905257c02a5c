#pragma once

#include <cstdint>
#include <map>
#include <optional>
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

/// Which factor a tensor is, by the end of its name in any case: "...lora_A.weight", "...lora_a". Nothing for weights.
std::optional<PartId> factor_of(std::string_view tensor);

/// The weight that a factor's name speaks of, in the same dialect: "X.weight" of "X.weight.lora_a" and of
/// "X.lora_a.weight".
std::string weight_of_factor(std::string_view tensor);

/// The ranks that factors had before they were filled up with zeros: by the weight's name in the dialect of the file, one
/// number for a module and one for each weight of a stack, 0 for those without factors. They travel with the file: in a
/// GGUF as the i32 array `regauge.low_rank.ranks.<weight>`, beside safetensors as the object `ranks` of regauge.json.
using FactorRanks = std::map<std::string, std::vector<std::int32_t>>;

inline constexpr std::string_view kFactorRanksKey = "regauge.low_rank.ranks.";

/// The recorded ranks of an adapter; empty when there are none. Throws Error{malformed} for entries that are no ranks.
FactorRanks read_factor_ranks(const Checkpoint& adapter);
/// The same from the text of a regauge.json, for errors called `path`.
FactorRanks parse_factor_ranks(std::string_view text, std::string_view path);

/// Adds them to the keys of a GGUF adapter.
void set_factor_ranks(const FactorRanks& ranks, Metadata& keys);

/// What ranks an array's factors have of which `stored` components are there for each of `weights`: the recorded ones, else
/// all. Throws Error{malformed} naming the weight and `path` when the record cannot be of this array.
std::vector<std::int64_t> ranks_of(const FactorRanks& recorded, const std::string& weight, std::int64_t weights,
                                   std::int64_t stored, const std::string& path);

/// Whether `checkpoint` is an adapter: factors, and no weights.
bool is_adapter(const Checkpoint& checkpoint);

/// The rows and columns that a low-rank factor shares with the weight it corrects: A has its columns, B its rows.
View factor_view(PartId factor, const View& of_weight);

/// From the canonical order of `slot`'s rows and columns to that of an adapter in `dialect`, which records `orders`
/// (models/permutations.h). Throws Error{malformed} when those are not of this model.
View adapter_order(const Architecture& architecture, Dialect dialect, const std::map<std::string, AxisMap>& orders,
                   const Slot& slot);

/// Whether `adapter` corrects weights that `model` keeps in a stack, which names alone do not tell.
bool corrects_stacks(const Checkpoint& model, const Architecture& architecture, const Checkpoint& adapter);

/// Gives the factors of `adapter`, an adapter in any dialect, to the weights of `model` that they correct, as parts in the
/// order in which `model` stores rows and columns, and takes over its files, arrays and findings. Either may keep experts in
/// stacks, or gate and up of each of them in one. Throws Error{malformed} for factors that fit no weight or not each other,
/// Error{unsupported} for an adapter that is no plain product (DoRA, a scale other than 1), for factors of a fused q, k
/// and v, and for factors of one stack in different types.
void attach_adapter(Checkpoint& model, const Architecture& architecture, Checkpoint adapter);

}  // namespace regauge
