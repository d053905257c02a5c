#include <algorithm>

#include <fmt/format.h>

#include "models/qwen3_5/names.h"

namespace regauge::qwen3_5 {
namespace {

std::optional<Target> checked(const Config& config, Target target) {
  if (target.kind == nullptr) return std::nullopt;
  if (find_kind(make_slot(*target.kind, target.in_mtp, target.layer, target.expert), config) == nullptr) {
    return std::nullopt;
  }
  return target;
}

/// MTP blocks are counted on from the decoder's last one.
std::optional<Target> parse_block(const Config& config, std::string_view rest) {
  if (!config.text) return std::nullopt;
  const auto block = take_index(rest, config.layers + kMaxMtpLayers);
  if (!block) return std::nullopt;
  Target target;
  target.in_mtp = *block >= config.layers;
  target.layer = target.in_mtp ? *block - static_cast<int>(config.layers) : *block;
  const bool attention = target.in_mtp || config.full[static_cast<std::size_t>(target.layer)];
  if (const Bundle* bundle = find_bundle(Dialect::gguf, rest, attention, config.moe)) {
    target.what = Target::What::bundle;
    target.bundle = bundle;
    return target;
  }
  target.kind = find_gguf_kind(Site::block, rest, attention, config.moe);
  if (target.kind == nullptr && target.in_mtp && target.layer == 0) {
    target.kind = find_gguf_kind(Site::mtp, rest, attention, config.moe);
    target.layer = -1;
  }
  return checked(config, target);
}

}  // namespace

std::optional<Target> parse_gguf_name(const Config& config, std::string_view name) {
  constexpr std::string_view kBlock = "blk.";
  if (name.starts_with(kBlock)) return parse_block(config, name.substr(kBlock.size()));
  constexpr std::string_view kVisionBlock = "v.blk.";
  Target target;
  if (name.starts_with(kVisionBlock)) {
    if (!config.vision) return std::nullopt;
    std::string_view rest = name.substr(kVisionBlock.size());
    const auto block = take_index(rest, config.vision->depth);
    if (!block) return std::nullopt;
    target.layer = *block;
    target.kind = find_gguf_kind(Site::vision_block, rest, false, config.moe);
    return checked(config, target);
  }
  target.kind = find_gguf_kind(Site::text, name, false, config.moe);
  if (target.kind == nullptr) target.kind = find_gguf_kind(Site::vision, name, false, config.moe);
  return checked(config, target);
}

std::optional<Placement> place_gguf(const Config& config, const SlotKind& kind, const Slot& slot) {
  const std::int64_t block =
      slot.component == Component::mtp ? config.layers + std::max(slot.layer, 0) : std::int64_t{slot.layer};
  if (kind.expert) {
    const Bundle* bundle = preferred_bundle(Dialect::gguf, kind.role);
    return place_in_bundle(config, *bundle, slot, fmt::format("blk.{}.{}", block, bundle->leaf));
  }
  std::string name(kind.gguf);
  if (kind.site == Site::block || kind.site == Site::mtp) name = fmt::format("blk.{}.{}", block, kind.gguf);
  if (kind.site == Site::vision_block) name = fmt::format("v.blk.{}.{}", block, kind.gguf);
  if (kind.form == Form::patch) {
    const VisionConfig& tower = *config.vision;
    return place_alone(config, kind, slot, std::move(name),
                       Shape{tower.hidden, tower.channels, tower.patch, tower.patch});
  }
  return place_alone(config, kind, slot, std::move(name));
}

}  // namespace regauge::qwen3_5
