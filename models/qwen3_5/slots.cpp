#include "models/qwen3_5/slots.h"

#include <algorithm>
#include <map>

#include "base/error.h"

namespace regauge::qwen3_5 {
namespace {

using enum Component;
using E = Extent;

using Key = std::pair<Site, std::string_view>;

/// A conversion asks for kinds many times per tensor, and a large MoE model has a hundred thousand of those.
const std::map<Key, const SlotKind*>& by_role() {
  static const std::map<Key, const SlotKind*> roles = [] {
    std::map<Key, const SlotKind*> index;
    for (const SlotKind& kind : slot_kinds()) index.emplace(Key{kind.site, kind.role}, &kind);
    return index;
  }();
  return roles;
}

Site site_of(const Slot& slot) {
  if (slot.component == vision) return slot.layer < 0 ? Site::vision : Site::vision_block;
  if (slot.component == mtp && slot.layer < 0) return Site::mtp;
  return slot.layer < 0 ? Site::text : Site::block;
}

bool has_block(const SlotKind& kind, const Slot& slot, const Config& config) {
  if (kind.mlp != Mlp::any && (kind.mlp == Mlp::experts) != config.moe) return false;
  if (slot.component == mtp) return slot.layer < kMaxMtpLayers && kind.mixer != Mixer::deltanet;
  if (slot.layer >= config.layers) return false;
  const bool attention_layer = config.full[static_cast<std::size_t>(slot.layer)];
  return kind.mixer == Mixer::any || (kind.mixer == Mixer::attention) == attention_layer;
}

}  // namespace

std::int64_t value_of(Extent extent, const Config& config) {
  static const VisionConfig no_vision;
  const VisionConfig& tower = config.vision ? *config.vision : no_vision;
  switch (extent) {
    case E::none:
    case E::one: return 1;
    case E::hidden: return config.hidden;
    case E::twice_hidden: return 2 * config.hidden;
    case E::vocab: return config.vocab;
    case E::query_rows: return config.query_rows();
    case E::kv_rows: return config.kv_heads * config.head_dim;
    case E::attention_width: return config.heads * config.head_dim;
    case E::head_dim: return config.head_dim;
    case E::conv_channels: return config.conv_channels();
    case E::value_width: return config.value_width();
    case E::value_heads: return config.value_heads;
    case E::value_dim: return config.value_dim;
    case E::conv: return config.conv;
    case E::intermediate: return config.intermediate;
    case E::experts: return config.experts;
    case E::moe_intermediate: return config.moe_intermediate;
    case E::shared_intermediate: return config.shared_intermediate;
    case E::vision_hidden: return tower.hidden;
    case E::vision_qkv: return 3 * tower.hidden;
    case E::vision_intermediate: return tower.intermediate;
    case E::vision_positions: return tower.positions;
    case E::vision_patch: return tower.patch_elements();
    case E::vision_merged: return tower.merged();
    case E::vision_out: return tower.out_hidden;
  }
  return 0;
}

const SlotKind* find_kind(Site site, std::string_view role) {
  const auto found = by_role().find({site, role});
  return found == by_role().end() ? nullptr : found->second;
}

const SlotKind* find_kind(const Slot& slot, const Config& config) {
  const Site site = site_of(slot);
  const SlotKind* kind = find_kind(site, slot.role);
  if (kind == nullptr) return nullptr;
  if (slot.component != kind->component && !(site == Site::block && slot.component == mtp)) return nullptr;
  const bool in_vision = site == Site::vision || site == Site::vision_block;
  if (in_vision ? !config.vision.has_value() : !config.text) return nullptr;
  if (site == Site::vision_block && slot.layer >= config.vision->depth) return nullptr;
  if (site == Site::block && !has_block(*kind, slot, config)) return nullptr;
  if (kind->expert != (slot.expert >= 0)) return nullptr;
  const std::int64_t experts = config.sizes_known ? config.experts : kMaxExperts;
  if (kind->expert && slot.expert >= experts) return nullptr;
  return kind;
}

const SlotKind* find_gguf_kind(Site site, std::string_view leaf, bool attention_layer, bool moe) {
  if (leaf.empty()) return nullptr;  // experts have no name of their own there
  const auto found = std::ranges::find_if(slot_kinds(), [&](const SlotKind& kind) {
    return kind.site == site && kind.gguf == leaf &&
           (kind.mixer == Mixer::any || (kind.mixer == Mixer::attention) == attention_layer) &&
           (kind.mlp == Mlp::any || (kind.mlp == Mlp::experts) == moe);
  });
  return found == slot_kinds().end() ? nullptr : &*found;
}

Slot make_slot(const SlotKind& kind, bool in_mtp, int layer, int expert) {
  Slot slot;
  slot.component = in_mtp ? mtp : kind.component;
  slot.layer = layer;
  slot.expert = expert;
  slot.role = kind.role;
  return slot;
}

Shape canonical_shape(const SlotKind& kind, const Config& config) {
  if (!config.sizes_known) throw Error(ErrorCode::unsupported, "an adapter file does not tell the sizes of its model");
  if (kind.rows == Extent::none) return Shape{value_of(kind.columns, config)};
  return Shape{value_of(kind.rows, config), value_of(kind.columns, config)};
}

std::vector<std::int64_t> squeezed(const Shape& shape) {
  std::vector<std::int64_t> dims;
  std::ranges::copy_if(shape.dims, std::back_inserter(dims), [](std::int64_t dim) { return dim != 1; });
  return dims;
}

bool fits(const SlotKind& kind, const Config& config, const Shape& shape) {
  if (!config.sizes_known) return shape.rank() > 0 && shape.checked_elements().has_value();
  if (kind.form == Form::patch) {
    const VisionConfig& tower = *config.vision;
    const Shape spread{tower.hidden, tower.channels, tower.patch, tower.patch};
    if (squeezed(shape) == squeezed(spread)) return true;
  }
  return squeezed(shape) == squeezed(canonical_shape(kind, config));
}

}  // namespace regauge::qwen3_5
