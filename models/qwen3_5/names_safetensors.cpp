#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

#include <fmt/format.h>

#include "models/qwen3_5/names.h"

namespace regauge::qwen3_5 {
namespace {

enum class Root : std::uint8_t { text, mtp, vision };

struct Prefix {
  std::string_view text;
  Root root;
  bool raw_name = false;
};

// Tried in order, so longer ones stand before those that they start with. Hugging Face saves "model.language_model.",
// "model." (text only), "model.visual." and "mtp."; mlx-lm and mlx-vlm write "language_model.model." and
// "vision_tower.", MTP side files "language_model.mtp.".
constexpr std::array kPrefixes{
    Prefix{"model.language_model.visual.", Root::vision},
    Prefix{"model.language_model.mtp.", Root::mtp, true},
    Prefix{"model.language_model.", Root::text},
    Prefix{"language_model.model.visual.", Root::vision},
    Prefix{"language_model.model.", Root::text},
    Prefix{"language_model.mtp.", Root::mtp},
    Prefix{"model.visual.", Root::vision},
    Prefix{"model.mtp.", Root::mtp, true},
    Prefix{"model.", Root::text},
    Prefix{"visual.", Root::vision},
    Prefix{"vision_tower.", Root::vision},
    Prefix{"mtp.", Root::mtp, true},
};

constexpr std::string_view kHead = "lm_head.weight";
constexpr std::array<std::string_view, 4> kHeadPrefixes{"", "language_model.", "model.", "model.language_model."};

constexpr std::string_view kExperts = "mlp.experts.";
constexpr std::string_view kPatchKernel = "patch_embed.proj.weight";

std::optional<Target> checked(const Config& config, Target target, Site site, std::string_view role) {
  target.kind = find_kind(site, role);
  if (target.kind == nullptr) return std::nullopt;
  if (find_kind(make_slot(*target.kind, target.in_mtp, target.layer, target.expert), config) == nullptr) {
    return std::nullopt;
  }
  return target;
}

bool block_exists(const Config& config, const Target& target) {
  return config.text && (target.in_mtp ? target.layer < kMaxMtpLayers : target.layer < config.layers);
}

/// `leaf` is what follows "layers.N.".
std::optional<Target> parse_block(const Config& config, Target target, std::string_view leaf) {
  if (!block_exists(config, target)) return std::nullopt;
  const bool attention = target.in_mtp || config.full[static_cast<std::size_t>(target.layer)];
  for (const Dialect dialect : {Dialect::hf, Dialect::mlx}) {
    if (const Bundle* bundle = find_bundle(dialect, leaf, attention, config.moe)) {
      target.what = Target::What::bundle;
      target.bundle = bundle;
      return target;
    }
  }
  if (leaf.starts_with(kExperts)) {
    std::string_view rest = leaf.substr(kExperts.size());
    const auto expert = take_index(rest, kMaxExperts);
    if (!expert) return std::nullopt;
    target.expert = *expert;
    return checked(config, target, Site::block, std::string(kExperts) + std::string(rest));
  }
  return checked(config, target, Site::block, leaf);
}

std::optional<Target> parse_vision(const Config& config, Target target, std::string_view rest) {
  if (!config.vision) return std::nullopt;
  if (rest == kPatchKernel) {
    target.what = Target::What::patch_kernel;
    return target;
  }
  constexpr std::string_view kBlocks = "blocks.";
  if (!rest.starts_with(kBlocks)) return checked(config, target, Site::vision, rest);
  rest.remove_prefix(kBlocks.size());
  const auto block = take_index(rest, config.vision->depth);
  if (!block) return std::nullopt;
  target.layer = *block;
  return checked(config, target, Site::vision_block, rest);
}

std::optional<Target> parse_below(const Config& config, const Prefix& prefix, std::string_view rest) {
  Target target;
  target.raw_name = prefix.raw_name;
  if (prefix.root == Root::vision) return parse_vision(config, target, rest);
  target.in_mtp = prefix.root == Root::mtp;
  constexpr std::string_view kLayers = "layers.";
  if (rest.starts_with(kLayers)) {
    rest.remove_prefix(kLayers.size());
    const auto layer = take_index(rest, kMaxLayers);
    if (!layer) return std::nullopt;
    target.layer = *layer;
    return parse_block(config, target, rest);
  }
  if (rest == kHead && !target.in_mtp) return std::nullopt;  // parse_safetensors_name() has looked for it already
  return checked(config, target, target.in_mtp ? Site::mtp : Site::text, rest);
}

std::string text_prefix(HfVariant variant) {
  return variant == HfVariant::multimodal ? "model.language_model." : "model.";
}

/// "layers.3.mlp.experts.7.gate_proj.weight": the name inside of its root, the number of an expert put in.
std::string inner_name(const Slot& slot, std::string_view blocks) {
  std::string leaf = slot.role;
  if (slot.expert >= 0) leaf.insert(kExperts.size(), std::to_string(slot.expert) + ".");
  return slot.layer < 0 ? leaf : fmt::format("{}.{}.{}", blocks, slot.layer, leaf);
}

/// The prefix of a slot's block and the block's number: "model.language_model.layers.3.".
std::string block_prefix(std::string_view text, std::string_view mtp, const Slot& slot) {
  return fmt::format("{}layers.{}.", slot.component == Component::mtp ? mtp : text, slot.layer);
}

}  // namespace

std::optional<int> take_index(std::string_view& text, std::int64_t limit) {
  const std::size_t dot = text.find('.');
  if (dot == std::string_view::npos || dot == 0 || dot > 9) return std::nullopt;
  const std::string_view digits = text.substr(0, dot);
  if (!std::ranges::all_of(digits, [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
  if (digits.size() > 1 && digits.front() == '0') return std::nullopt;
  int value = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (value >= limit) return std::nullopt;
  text.remove_prefix(dot + 1);
  return value;
}

std::optional<Target> parse_safetensors_name(const Config& config, std::string_view name) {
  if (name.ends_with(kHead)) {
    const std::string_view before = name.substr(0, name.size() - kHead.size());
    if (std::ranges::find(kHeadPrefixes, before) != kHeadPrefixes.end()) {
      return checked(config, Target{}, Site::text, kHead);
    }
  }
  const auto prefix = std::ranges::find_if(kPrefixes, [&](const Prefix& one) { return name.starts_with(one.text); });
  if (prefix == kPrefixes.end()) return std::nullopt;
  return parse_below(config, *prefix, name.substr(prefix->text.size()));
}

std::optional<FactorName> parse_factor_name(Dialect dialect, std::string_view name) {
  const auto ends_with = [name](std::string_view suffix) {
    if (name.size() < suffix.size()) return false;
    // GPTQModel lowers the case of its keys, PEFT does not.
    return std::ranges::equal(name.substr(name.size() - suffix.size()), suffix,
                              [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == b; });
  };
  if (dialect == Dialect::gguf) {
    if (!ends_with(".lora_a") && !ends_with(".lora_b")) return std::nullopt;
    return FactorName{std::string(name.substr(0, name.size() - 7)), ends_with(".lora_a") ? Factor::a : Factor::b};
  }
  if (!ends_with(".lora_a.weight") && !ends_with(".lora_b.weight")) return std::nullopt;
  const Factor factor = ends_with(".lora_a.weight") ? Factor::a : Factor::b;
  name.remove_suffix(std::string_view(".lora_a.weight").size());
  constexpr std::string_view kPeft = "base_model.model.";
  if (name.starts_with(kPeft)) name.remove_prefix(kPeft.size());
  return FactorName{std::string(name) + ".weight", factor};
}

std::string hf_name(HfVariant variant, const Slot& slot) {
  switch (slot.component) {
    case Component::vision: return "model.visual." + inner_name(slot, "blocks");
    case Component::mtp: return "mtp." + inner_name(slot, "layers");
    case Component::head: return slot.role;
    default: return text_prefix(variant) + inner_name(slot, "layers");
  }
}

std::optional<Placement> place_hf(const Config& config, HfVariant variant, const SlotKind& kind, const Slot& slot,
                                  ExpertLayout experts) {
  if (kind.expert && experts == ExpertLayout::fused) {
    const Bundle* bundle = preferred_bundle(Dialect::hf, kind.role);
    const std::string prefix = block_prefix(text_prefix(variant), "mtp.", slot);
    return place_in_bundle(config, *bundle, slot, prefix + std::string(bundle->leaf));
  }
  if (kind.form == Form::convolution) {
    return place_alone(config, kind, slot, hf_name(variant, slot),
                       Shape{value_of(kind.rows, config), 1, value_of(kind.columns, config)});
  }
  if (kind.form == Form::patch) {
    const VisionConfig& tower = *config.vision;
    Placement placement = place_alone(config, kind, slot, "model.visual." + std::string(kPatchKernel),
                                      Shape{tower.hidden, tower.channels, kTemporalPatch, tower.patch, tower.patch});
    placement.columns *= kTemporalPatch;
    placement.piece.columns = hf_patch_columns(tower, slot.role.back() - '0');
    return placement;
  }
  return place_alone(config, kind, slot, hf_name(variant, slot));
}

std::optional<Placement> place_mlx(const Config& config, const SlotKind& kind, const Slot& slot) {
  constexpr std::string_view kText = "language_model.model.";
  constexpr std::string_view kMtp = "language_model.mtp.";
  if (kind.expert) {
    const Bundle* bundle = preferred_bundle(Dialect::mlx, kind.role);
    return place_in_bundle(config, *bundle, slot, block_prefix(kText, kMtp, slot) + std::string(bundle->leaf));
  }
  if (slot.component == Component::vision) {
    if (kind.form != Form::patch) {
      return place_alone(config, kind, slot, "vision_tower." + inner_name(slot, "blocks"));
    }
    const VisionConfig& tower = *config.vision;
    Placement placement = place_alone(config, kind, slot, "vision_tower." + std::string(kPatchKernel),
                                      Shape{tower.hidden, kTemporalPatch, tower.patch, tower.patch, tower.channels});
    placement.columns *= kTemporalPatch;
    placement.piece.columns = mlx_patch_columns(tower, slot.role.back() - '0');
    return placement;
  }
  std::string name = std::string(slot.component == Component::mtp ? kMtp : kText) + inner_name(slot, "layers");
  if (slot.component == Component::head) name = "language_model." + slot.role;
  if (kind.form == Form::convolution) {
    return place_alone(config, kind, slot, std::move(name),
                       Shape{value_of(kind.rows, config), value_of(kind.columns, config), 1});
  }
  return place_alone(config, kind, slot, std::move(name));
}

}  // namespace regauge::qwen3_5
