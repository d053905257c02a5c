#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "ir/checkpoint.h"
#include "ir/slot.h"
#include "models/architecture.h"
#include "models/qwen3_5/config.h"
#include "models/qwen3_5/slots.h"

namespace regauge::qwen3_5 {

/// An array that holds several slots below each other: for each expert in turn (or once), the rows of each role.
struct Bundle {
  Dialect dialect;
  std::string_view leaf;  ///< its name inside the block
  bool per_expert;
  bool preferred;  ///< written so; the others are only read
  std::span<const std::string_view> roles;
};

std::span<const Bundle> bundles();
/// The bundle that `dialect` writes the expert weight `role` in.
const Bundle* preferred_bundle(Dialect dialect, std::string_view role);
/// The bundle that `dialect` calls `leaf` in such a block; null when there is none.
const Bundle* find_bundle(Dialect dialect, std::string_view leaf, bool attention, bool moe);

/// What a name points at, before its shape is known: one slot, the whole patch kernel, or a bundle.
struct Target {
  enum class What : std::uint8_t { slot, patch_kernel, bundle };
  What what = What::slot;
  const SlotKind* kind = nullptr;  ///< of a slot
  const Bundle* bundle = nullptr;
  bool in_mtp = false;
  int layer = -1;
  int expert = -1;
  /// The name is Hugging Face's own also inside an MLX directory: "mtp.norm.weight", not
  /// "language_model.mtp.norm.weight".
  bool raw_name = false;
};

/// Takes a safetensors name apart. Hugging Face's, mlx-lm's and mlx-vlm's spellings are told apart by themselves, so
/// that directories half converted or merged by hand are read too.
std::optional<Target> parse_safetensors_name(const Config& config, std::string_view name);
std::optional<Target> parse_gguf_name(const Config& config, std::string_view name);

/// Rows and columns for an array of that shape; nothing when the shape cannot be what the name says.
std::optional<Assembly> assemble(const Config& config, const Target& target, const Shape& shape);

/// One of the two factors of a low-rank correction.
enum class Factor : std::uint8_t { a, b };
/// The name of the base weight when `name` is that of a factor in a PEFT file ("base_model.model.X.lora_A.weight") or a
/// GGUF adapter ("X.weight.lora_a").
struct FactorName {
  std::string base;
  Factor factor;
};
std::optional<FactorName> parse_factor_name(Dialect dialect, std::string_view name);
/// As assemble() for a factor of the target: [rank, in] or [out, rank], with an axis of experts before them where the
/// target is a stack.
std::optional<Assembly> assemble_factor(const Config& config, const Target& target, Factor factor, const Shape& shape);

/// Where safetensors files keep text weights: below "model.language_model." or, saved without the vision tower,
/// "model.".
enum class HfVariant : std::uint8_t { multimodal, text_only };

std::string hf_name(HfVariant variant, const Slot& slot);
std::optional<Placement> place_hf(const Config& config, HfVariant variant, const SlotKind& kind, const Slot& slot,
                                  ExpertLayout experts);
std::optional<Placement> place_mlx(const Config& config, const SlotKind& kind, const Slot& slot);
std::optional<Placement> place_gguf(const Config& config, const SlotKind& kind, const Slot& slot);

/// A placement that holds `slot` alone. `shape` defaults to the canonical one.
Placement place_alone(const Config& config, const SlotKind& kind, const Slot& slot, std::string array,
                      std::optional<Shape> shape = std::nullopt);
Placement place_in_bundle(const Config& config, const Bundle& bundle, const Slot& slot, std::string array);
/// The columns of one temporal slice in the patch kernel as Hugging Face stores it, [v, channels, frames, p, p].
AxisMap hf_patch_columns(const VisionConfig& tower, std::int64_t frame);
/// The same in mlx-vlm's order, [v, frames, p, p, channels]: a real transposition, so every column is a run of its own.
AxisMap mlx_patch_columns(const VisionConfig& tower, std::int64_t frame);

/// A decimal number without sign or leading zero below `limit` in front of the first '.', which is taken off too.
std::optional<int> take_index(std::string_view& text, std::int64_t limit);

}  // namespace regauge::qwen3_5
