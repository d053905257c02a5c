#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/error.h"
#include "models/qwen3_5/names.h"

namespace regauge::qwen3_5 {
namespace {

constexpr std::array<std::string_view, 1> kGate{"mlp.experts.gate_proj.weight"};
constexpr std::array<std::string_view, 1> kUp{"mlp.experts.up_proj.weight"};
constexpr std::array<std::string_view, 1> kDown{"mlp.experts.down_proj.weight"};
constexpr std::array<std::string_view, 2> kGateUp{"mlp.experts.gate_proj.weight", "mlp.experts.up_proj.weight"};
constexpr std::array<std::string_view, 3> kQkv{"self_attn.q_proj.weight", "self_attn.k_proj.weight",
                                               "self_attn.v_proj.weight"};

// Sources: huggingface/transformers src/transformers/models/qwen3_5_moe/modular_qwen3_5_moe.py (fused, gate rows
// first), ml-explore/mlx-lm mlx_lm/models/qwen3_5_moe.py (switch_mlp), ggml-org/llama.cpp conversion/qwen.py and
// src/models/qwen35moe.cpp (exps; gate_up_exps and a fused attn_qkv of attention blocks are taken by its loader). The
// forms with ".weight" come from tools that re-save fused experts as modules.
constexpr std::array kBundles{
    Bundle{Dialect::hf, "mlp.experts.gate_up_proj", true, true, kGateUp},
    Bundle{Dialect::hf, "mlp.experts.down_proj", true, true, kDown},
    Bundle{Dialect::hf, "mlp.experts.gate_up_proj.weight", true, false, kGateUp},
    Bundle{Dialect::hf, "mlp.experts.down_proj.weight", true, false, kDown},
    Bundle{Dialect::mlx, "mlp.switch_mlp.gate_proj.weight", true, true, kGate},
    Bundle{Dialect::mlx, "mlp.switch_mlp.up_proj.weight", true, true, kUp},
    Bundle{Dialect::mlx, "mlp.switch_mlp.down_proj.weight", true, true, kDown},
    Bundle{Dialect::gguf, "ffn_gate_exps.weight", true, true, kGate},
    Bundle{Dialect::gguf, "ffn_up_exps.weight", true, true, kUp},
    Bundle{Dialect::gguf, "ffn_down_exps.weight", true, true, kDown},
    Bundle{Dialect::gguf, "ffn_gate_up_exps.weight", true, false, kGateUp},
    Bundle{Dialect::gguf, "attn_qkv.weight", false, false, kQkv},
};

const SlotKind& kind_of_role(std::string_view role) {
  const SlotKind* kind = find_kind(Site::block, role);
  if (kind == nullptr) throw Error(ErrorCode::internal, "a bundle holds '{}', which is no weight", role);
  return *kind;
}

/// Rows that one expert (or the whole of a bundle without experts) takes, and the columns, which all roles share.
struct BundleSize {
  std::int64_t experts = 1;
  std::int64_t rows = 0;
  std::int64_t columns = 0;

  Shape shape(const Bundle& bundle) const {
    return bundle.per_expert ? Shape{experts, rows, columns} : Shape{rows, columns};
  }
};

BundleSize size_of(const Bundle& bundle, const Config& config) {
  BundleSize size;
  size.experts = bundle.per_expert ? config.experts : 1;
  for (const std::string_view role : bundle.roles) {
    const Shape shape = canonical_shape(kind_of_role(role), config);
    size.rows += shape.dims[0];
    size.columns = shape.dims[1];
  }
  return size;
}

std::optional<Assembly> assemble_slot(const Config& config, const Target& target, const Shape& shape) {
  const SlotKind& kind = *target.kind;
  if (!fits(kind, config, shape)) return std::nullopt;
  const Shape canonical = config.sizes_known ? canonical_shape(kind, config) : shape;
  Assembly assembly;
  assembly.rows = canonical.rows();
  assembly.columns = canonical.columns();
  Piece& piece = assembly.pieces.emplace_back();
  piece.slot = make_slot(kind, target.in_mtp, target.layer, target.expert);
  piece.rows = {0, assembly.rows};
  return assembly;
}

std::optional<Assembly> assemble_patch_kernel(const Config& config, const Shape& shape) {
  const VisionConfig& tower = *config.vision;
  const Shape hf{tower.hidden, tower.channels, kTemporalPatch, tower.patch, tower.patch};
  const Shape mlx{tower.hidden, kTemporalPatch, tower.patch, tower.patch, tower.channels};
  if (shape != hf && shape != mlx) return std::nullopt;
  Assembly assembly;
  assembly.rows = tower.hidden;
  assembly.columns = kTemporalPatch * tower.patch_elements();
  for (std::int64_t frame = 0; frame < kTemporalPatch; ++frame) {
    const SlotKind* kind = find_kind(Site::vision, fmt::format("patch_embed.proj.weight.{}", frame));
    Piece& piece = assembly.pieces.emplace_back();
    piece.slot = make_slot(*kind, false, -1);
    piece.rows = {0, assembly.rows};
    piece.columns = shape == hf ? hf_patch_columns(tower, frame) : mlx_patch_columns(tower, frame);
  }
  return assembly;
}

std::optional<Assembly> assemble_bundle(const Config& config, const Target& target, const Shape& shape) {
  const Bundle& bundle = *target.bundle;
  if (!config.sizes_known) return std::nullopt;
  const BundleSize size = size_of(bundle, config);
  if (squeezed(shape) != squeezed(size.shape(bundle))) return std::nullopt;
  Assembly assembly;
  assembly.rows = size.experts * size.rows;
  assembly.columns = size.columns;
  std::int64_t row = 0;
  for (std::int64_t expert = 0; expert < size.experts; ++expert) {
    for (const std::string_view role : bundle.roles) {
      const SlotKind& kind = kind_of_role(role);
      Piece& piece = assembly.pieces.emplace_back();
      piece.slot = make_slot(kind, target.in_mtp, target.layer, bundle.per_expert ? static_cast<int>(expert) : -1);
      piece.rows = {row, row + value_of(kind.rows, config)};
      row = piece.rows.end;
    }
  }
  return assembly;
}

}  // namespace

std::span<const Bundle> bundles() { return kBundles; }

const Bundle* preferred_bundle(Dialect dialect, std::string_view role) {
  const auto found = std::ranges::find_if(kBundles, [&](const Bundle& bundle) {
    return bundle.dialect == dialect && bundle.preferred && std::ranges::find(bundle.roles, role) != bundle.roles.end();
  });
  return found == kBundles.end() ? nullptr : &*found;
}

const Bundle* find_bundle(Dialect dialect, std::string_view leaf, bool attention, bool moe) {
  const auto found = std::ranges::find_if(kBundles, [&](const Bundle& bundle) {
    if (bundle.dialect != dialect || bundle.leaf != leaf) return false;
    return bundle.per_expert ? moe : attention;
  });
  return found == kBundles.end() ? nullptr : &*found;
}

std::optional<Assembly> assemble(const Config& config, const Target& target, const Shape& shape) {
  switch (target.what) {
    case Target::What::slot: return assemble_slot(config, target, shape);
    case Target::What::patch_kernel: return assemble_patch_kernel(config, shape);
    case Target::What::bundle: return assemble_bundle(config, target, shape);
  }
  return std::nullopt;
}

std::optional<Assembly> assemble_factor(const Config& config, const Target& target, Factor factor, const Shape& shape) {
  if (target.what == Target::What::patch_kernel || !shape.checked_elements()) return std::nullopt;
  // A factor of gate and up together, or of a fused q, k and v, belongs to no single weight.
  const bool stack = target.what == Target::What::bundle;
  if (stack && (!target.bundle->per_expert || target.bundle->roles.size() != 1)) return std::nullopt;
  const SlotKind& kind = stack ? kind_of_role(target.bundle->roles.front()) : *target.kind;
  if (!kind.linear || shape.rank() != (stack ? 3U : 2U)) return std::nullopt;
  const std::int64_t experts = stack ? shape.dims[0] : 1;
  const std::int64_t rows = shape.dims[shape.rank() - 2];
  if (experts > kMaxExperts || rows < 1 || shape.columns() < 1) return std::nullopt;
  if (config.sizes_known) {
    if (stack && experts != config.experts) return std::nullopt;
    const Shape base = canonical_shape(kind, config);
    const bool meets = factor == Factor::a ? shape.columns() == base.dims[1] : rows == base.dims[0];
    if (!meets) return std::nullopt;
  }
  Assembly assembly;
  assembly.rows = experts * rows;
  assembly.columns = shape.columns();
  for (std::int64_t expert = 0; expert < experts; ++expert) {
    Piece& piece = assembly.pieces.emplace_back();
    piece.slot = make_slot(kind, target.in_mtp, target.layer, stack ? static_cast<int>(expert) : target.expert);
    piece.rows = {expert * rows, (expert + 1) * rows};
  }
  return assembly;
}

Placement place_alone(const Config& config, const SlotKind& kind, const Slot& slot, std::string array,
                      std::optional<Shape> shape) {
  const Shape canonical = canonical_shape(kind, config);
  Placement placement;
  placement.array = std::move(array);
  placement.shape = shape ? *std::move(shape) : canonical;
  placement.rows = canonical.rows();
  placement.columns = canonical.columns();
  placement.piece.slot = slot;
  placement.piece.rows = {0, placement.rows};
  return placement;
}

Placement place_in_bundle(const Config& config, const Bundle& bundle, const Slot& slot, std::string array) {
  const BundleSize size = size_of(bundle, config);
  Placement placement;
  placement.array = std::move(array);
  placement.shape = size.shape(bundle);
  placement.rows = size.experts * size.rows;
  placement.columns = size.columns;
  placement.piece.slot = slot;
  std::int64_t row = std::max(slot.expert, 0) * size.rows;
  for (const std::string_view role : bundle.roles) {
    const std::int64_t rows = value_of(kind_of_role(role).rows, config);
    if (role == slot.role) placement.piece.rows = {row, row + rows};
    row += rows;
  }
  return placement;
}

AxisMap hf_patch_columns(const VisionConfig& tower, std::int64_t frame) {
  const std::int64_t square = tower.patch * tower.patch;
  std::vector<AxisMap::Run> runs;
  for (std::int64_t channel = 0; channel < tower.channels; ++channel) {
    runs.push_back({(channel * kTemporalPatch + frame) * square, square});
  }
  return AxisMap(std::move(runs));
}

AxisMap mlx_patch_columns(const VisionConfig& tower, std::int64_t frame) {
  const std::int64_t square = tower.patch * tower.patch;
  std::vector<AxisMap::Run> runs;
  for (std::int64_t channel = 0; channel < tower.channels; ++channel) {
    for (std::int64_t pixel = 0; pixel < square; ++pixel) {
      runs.push_back({(frame * square + pixel) * tower.channels + channel, 1});
    }
  }
  return AxisMap(std::move(runs));
}

}  // namespace regauge::qwen3_5
