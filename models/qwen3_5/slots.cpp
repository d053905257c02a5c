#include "models/qwen3_5/slots.h"

#include <algorithm>
#include <map>

#include "base/error.h"

namespace regauge::qwen3_5 {
namespace {

using enum Component;
using E = Extent;

// Names and shapes: Hugging Face's are those of the published safetensors indexes, GGUF's those of ggml-org/llama.cpp
// gguf-py/gguf/tensor_mapping.py and src/models/qwen35.cpp. add_one marks the norms that multiply by 1 + w: every norm of
// the decoder but the gated one inside linear_attn, and both norms in front of mtp.fc (conversion/qwen.py adds one to what
// ends in norm.weight, and after renaming to those two).
const std::vector<SlotKind>& table() {
  constexpr Elementwise kAddOne = Elementwise::add_one;
  static const std::vector<SlotKind> kTable{
      // Outside of blocks.
      {.site = Site::text,
       .component = embedding,
       .role = "embed_tokens.weight",
       .gguf = "token_embd.weight",
       .rows = E::vocab,
       .columns = E::hidden},
      {.site = Site::text,
       .component = norm,
       .role = "norm.weight",
       .gguf = "output_norm.weight",
       .rows = E::none,
       .columns = E::hidden,
       .change = kAddOne},
      {.site = Site::text,
       .component = head,
       .role = "lm_head.weight",
       .gguf = "output.weight",
       .rows = E::vocab,
       .columns = E::hidden,
       .linear = true,
       .presence = Presence::untied},

      // Every block.
      {.site = Site::block,
       .component = norm,
       .role = "input_layernorm.weight",
       .gguf = "attn_norm.weight",
       .rows = E::none,
       .columns = E::hidden,
       .change = kAddOne},
      {.site = Site::block,
       .component = norm,
       .role = "post_attention_layernorm.weight",
       .gguf = "post_attention_norm.weight",
       .rows = E::none,
       .columns = E::hidden,
       .change = kAddOne},

      // Gated DeltaNet.
      {.site = Site::block,
       .component = deltanet,
       .role = "linear_attn.in_proj_qkv.weight",
       .gguf = "attn_qkv.weight",
       .rows = E::conv_channels,
       .columns = E::hidden,
       .mixer = Mixer::deltanet,
       .value_heads = ValueHeads::qkv_rows,
       .linear = true},
      {.site = Site::block,
       .component = deltanet,
       .role = "linear_attn.in_proj_z.weight",
       .gguf = "attn_gate.weight",
       .rows = E::value_width,
       .columns = E::hidden,
       .mixer = Mixer::deltanet,
       .value_heads = ValueHeads::rows,
       .linear = true},
      {.site = Site::block,
       .component = deltanet,
       .role = "linear_attn.in_proj_b.weight",
       .gguf = "ssm_beta.weight",
       .rows = E::value_heads,
       .columns = E::hidden,
       .mixer = Mixer::deltanet,
       .value_heads = ValueHeads::single_rows,
       .linear = true},
      {.site = Site::block,
       .component = deltanet,
       .role = "linear_attn.in_proj_a.weight",
       .gguf = "ssm_alpha.weight",
       .rows = E::value_heads,
       .columns = E::hidden,
       .mixer = Mixer::deltanet,
       .value_heads = ValueHeads::single_rows,
       .linear = true},
      {.site = Site::block,
       .component = deltanet,
       .role = "linear_attn.conv1d.weight",
       .gguf = "ssm_conv1d.weight",
       .rows = E::conv_channels,
       .columns = E::conv,
       .mixer = Mixer::deltanet,
       .value_heads = ValueHeads::qkv_rows,
       .form = Form::convolution,
       .single_precision = true},
      {.site = Site::block,
       .component = deltanet,
       .role = "linear_attn.A_log",
       .gguf = "ssm_a",
       .rows = E::none,
       .columns = E::value_heads,
       .mixer = Mixer::deltanet,
       .value_heads = ValueHeads::vector,
       .change = Elementwise::neg_exp,
       .usual = DType::f32},
      {.site = Site::block,
       .component = deltanet,
       .role = "linear_attn.dt_bias",
       .gguf = "ssm_dt.bias",
       .rows = E::none,
       .columns = E::value_heads,
       .mixer = Mixer::deltanet,
       .value_heads = ValueHeads::vector},
      {.site = Site::block,
       .component = norm,
       .role = "linear_attn.norm.weight",
       .gguf = "ssm_norm.weight",
       .rows = E::none,
       .columns = E::value_dim,
       .mixer = Mixer::deltanet,
       .usual = DType::f32},
      {.site = Site::block,
       .component = deltanet,
       .role = "linear_attn.out_proj.weight",
       .gguf = "ssm_out.weight",
       .rows = E::hidden,
       .columns = E::value_width,
       .mixer = Mixer::deltanet,
       .value_heads = ValueHeads::columns,
       .linear = true},

      // Gated full attention.
      {.site = Site::block,
       .component = attention,
       .role = "self_attn.q_proj.weight",
       .gguf = "attn_q.weight",
       .rows = E::query_rows,
       .columns = E::hidden,
       .mixer = Mixer::attention,
       .linear = true},
      {.site = Site::block,
       .component = attention,
       .role = "self_attn.k_proj.weight",
       .gguf = "attn_k.weight",
       .rows = E::kv_rows,
       .columns = E::hidden,
       .mixer = Mixer::attention,
       .linear = true},
      {.site = Site::block,
       .component = attention,
       .role = "self_attn.v_proj.weight",
       .gguf = "attn_v.weight",
       .rows = E::kv_rows,
       .columns = E::hidden,
       .mixer = Mixer::attention,
       .linear = true},
      {.site = Site::block,
       .component = attention,
       .role = "self_attn.o_proj.weight",
       .gguf = "attn_output.weight",
       .rows = E::hidden,
       .columns = E::attention_width,
       .mixer = Mixer::attention,
       .linear = true},
      {.site = Site::block,
       .component = norm,
       .role = "self_attn.q_norm.weight",
       .gguf = "attn_q_norm.weight",
       .rows = E::none,
       .columns = E::head_dim,
       .mixer = Mixer::attention,
       .change = kAddOne},
      {.site = Site::block,
       .component = norm,
       .role = "self_attn.k_norm.weight",
       .gguf = "attn_k_norm.weight",
       .rows = E::none,
       .columns = E::head_dim,
       .mixer = Mixer::attention,
       .change = kAddOne},

      // Dense MLP.
      {.site = Site::block,
       .component = mlp,
       .role = "mlp.gate_proj.weight",
       .gguf = "ffn_gate.weight",
       .rows = E::intermediate,
       .columns = E::hidden,
       .mlp = Mlp::dense,
       .linear = true},
      {.site = Site::block,
       .component = mlp,
       .role = "mlp.up_proj.weight",
       .gguf = "ffn_up.weight",
       .rows = E::intermediate,
       .columns = E::hidden,
       .mlp = Mlp::dense,
       .linear = true},
      {.site = Site::block,
       .component = mlp,
       .role = "mlp.down_proj.weight",
       .gguf = "ffn_down.weight",
       .rows = E::hidden,
       .columns = E::intermediate,
       .mlp = Mlp::dense,
       .linear = true},

      // Mixture of experts.
      {.site = Site::block,
       .component = router,
       .role = "mlp.gate.weight",
       .gguf = "ffn_gate_inp.weight",
       .rows = E::experts,
       .columns = E::hidden,
       .mlp = Mlp::experts,
       .single_precision = true},
      {.site = Site::block,
       .component = experts,
       .role = "mlp.experts.gate_proj.weight",
       .gguf = "",
       .rows = E::moe_intermediate,
       .columns = E::hidden,
       .mlp = Mlp::experts,
       .linear = true,
       .expert = true},
      {.site = Site::block,
       .component = experts,
       .role = "mlp.experts.up_proj.weight",
       .gguf = "",
       .rows = E::moe_intermediate,
       .columns = E::hidden,
       .mlp = Mlp::experts,
       .linear = true,
       .expert = true},
      {.site = Site::block,
       .component = experts,
       .role = "mlp.experts.down_proj.weight",
       .gguf = "",
       .rows = E::hidden,
       .columns = E::moe_intermediate,
       .mlp = Mlp::experts,
       .linear = true,
       .expert = true},
      {.site = Site::block,
       .component = experts,
       .role = "mlp.shared_expert.gate_proj.weight",
       .gguf = "ffn_gate_shexp.weight",
       .rows = E::shared_intermediate,
       .columns = E::hidden,
       .mlp = Mlp::experts,
       .linear = true},
      {.site = Site::block,
       .component = experts,
       .role = "mlp.shared_expert.up_proj.weight",
       .gguf = "ffn_up_shexp.weight",
       .rows = E::shared_intermediate,
       .columns = E::hidden,
       .mlp = Mlp::experts,
       .linear = true},
      {.site = Site::block,
       .component = experts,
       .role = "mlp.shared_expert.down_proj.weight",
       .gguf = "ffn_down_shexp.weight",
       .rows = E::hidden,
       .columns = E::shared_intermediate,
       .mlp = Mlp::experts,
       .linear = true},
      {.site = Site::block,
       .component = router,
       .role = "mlp.shared_expert_gate.weight",
       .gguf = "ffn_gate_inp_shexp.weight",
       .rows = E::one,
       .columns = E::hidden,
       .mlp = Mlp::experts,
       .single_precision = true},

      // Multi-token prediction, outside of its block. GGUF files keep these in the first MTP block.
      {.site = Site::mtp,
       .component = mtp,
       .role = "fc.weight",
       .gguf = "nextn.eh_proj.weight",
       .rows = E::hidden,
       .columns = E::twice_hidden,
       .linear = true},
      {.site = Site::mtp,
       .component = mtp,
       .role = "pre_fc_norm_embedding.weight",
       .gguf = "nextn.enorm.weight",
       .rows = E::none,
       .columns = E::hidden,
       .change = kAddOne},
      {.site = Site::mtp,
       .component = mtp,
       .role = "pre_fc_norm_hidden.weight",
       .gguf = "nextn.hnorm.weight",
       .rows = E::none,
       .columns = E::hidden,
       .change = kAddOne},
      {.site = Site::mtp,
       .component = mtp,
       .role = "norm.weight",
       .gguf = "nextn.shared_head_norm.weight",
       .rows = E::none,
       .columns = E::hidden,
       .change = kAddOne},
      {.site = Site::mtp,
       .component = mtp,
       .role = "embed_tokens.weight",
       .gguf = "nextn.embed_tokens.weight",
       .rows = E::vocab,
       .columns = E::hidden,
       .presence = Presence::foreign},
      {.site = Site::mtp,
       .component = mtp,
       .role = "lm_head.weight",
       .gguf = "nextn.shared_head_head.weight",
       .rows = E::vocab,
       .columns = E::hidden,
       .linear = true,
       .presence = Presence::foreign},

      // Vision tower, outside of its blocks. The norms are ordinary: weight and bias as they are.
      {.site = Site::vision,
       .component = vision,
       .role = "patch_embed.proj.weight.0",
       .gguf = "v.patch_embd.weight",
       .rows = E::vision_hidden,
       .columns = E::vision_patch,
       .form = Form::patch,
       .single_precision = true},
      {.site = Site::vision,
       .component = vision,
       .role = "patch_embed.proj.weight.1",
       .gguf = "v.patch_embd.weight.1",
       .rows = E::vision_hidden,
       .columns = E::vision_patch,
       .form = Form::patch,
       .single_precision = true},
      {.site = Site::vision,
       .component = vision,
       .role = "patch_embed.proj.bias",
       .gguf = "v.patch_embd.bias",
       .rows = E::none,
       .columns = E::vision_hidden},
      {.site = Site::vision,
       .component = vision,
       .role = "pos_embed.weight",
       .gguf = "v.position_embd.weight",
       .rows = E::vision_positions,
       .columns = E::vision_hidden,
       .single_precision = true},
      {.site = Site::vision,
       .component = vision,
       .role = "merger.norm.weight",
       .gguf = "v.post_ln.weight",
       .rows = E::none,
       .columns = E::vision_hidden},
      {.site = Site::vision,
       .component = vision,
       .role = "merger.norm.bias",
       .gguf = "v.post_ln.bias",
       .rows = E::none,
       .columns = E::vision_hidden},
      {.site = Site::vision,
       .component = vision,
       .role = "merger.linear_fc1.weight",
       .gguf = "mm.0.weight",
       .rows = E::vision_merged,
       .columns = E::vision_merged},
      {.site = Site::vision,
       .component = vision,
       .role = "merger.linear_fc1.bias",
       .gguf = "mm.0.bias",
       .rows = E::none,
       .columns = E::vision_merged},
      {.site = Site::vision,
       .component = vision,
       .role = "merger.linear_fc2.weight",
       .gguf = "mm.2.weight",
       .rows = E::vision_out,
       .columns = E::vision_merged},
      {.site = Site::vision,
       .component = vision,
       .role = "merger.linear_fc2.bias",
       .gguf = "mm.2.bias",
       .rows = E::none,
       .columns = E::vision_out},

      // Vision blocks.
      {.site = Site::vision_block,
       .component = vision,
       .role = "norm1.weight",
       .gguf = "ln1.weight",
       .rows = E::none,
       .columns = E::vision_hidden},
      {.site = Site::vision_block,
       .component = vision,
       .role = "norm1.bias",
       .gguf = "ln1.bias",
       .rows = E::none,
       .columns = E::vision_hidden},
      {.site = Site::vision_block,
       .component = vision,
       .role = "norm2.weight",
       .gguf = "ln2.weight",
       .rows = E::none,
       .columns = E::vision_hidden},
      {.site = Site::vision_block,
       .component = vision,
       .role = "norm2.bias",
       .gguf = "ln2.bias",
       .rows = E::none,
       .columns = E::vision_hidden},
      {.site = Site::vision_block,
       .component = vision,
       .role = "attn.qkv.weight",
       .gguf = "attn_qkv.weight",
       .rows = E::vision_qkv,
       .columns = E::vision_hidden},
      {.site = Site::vision_block,
       .component = vision,
       .role = "attn.qkv.bias",
       .gguf = "attn_qkv.bias",
       .rows = E::none,
       .columns = E::vision_qkv},
      {.site = Site::vision_block,
       .component = vision,
       .role = "attn.proj.weight",
       .gguf = "attn_out.weight",
       .rows = E::vision_hidden,
       .columns = E::vision_hidden},
      {.site = Site::vision_block,
       .component = vision,
       .role = "attn.proj.bias",
       .gguf = "attn_out.bias",
       .rows = E::none,
       .columns = E::vision_hidden},
      {.site = Site::vision_block,
       .component = vision,
       .role = "mlp.linear_fc1.weight",
       .gguf = "ffn_up.weight",
       .rows = E::vision_intermediate,
       .columns = E::vision_hidden},
      {.site = Site::vision_block,
       .component = vision,
       .role = "mlp.linear_fc1.bias",
       .gguf = "ffn_up.bias",
       .rows = E::none,
       .columns = E::vision_intermediate},
      {.site = Site::vision_block,
       .component = vision,
       .role = "mlp.linear_fc2.weight",
       .gguf = "ffn_down.weight",
       .rows = E::vision_hidden,
       .columns = E::vision_intermediate},
      {.site = Site::vision_block,
       .component = vision,
       .role = "mlp.linear_fc2.bias",
       .gguf = "ffn_down.bias",
       .rows = E::none,
       .columns = E::vision_hidden},
  };
  return kTable;
}

using Key = std::pair<Site, std::string_view>;

/// A conversion asks for kinds many times per tensor, and a large MoE model has a hundred thousand of those.
const std::map<Key, const SlotKind*>& by_role() {
  static const std::map<Key, const SlotKind*> kIndex = [] {
    std::map<Key, const SlotKind*> index;
    for (const SlotKind& kind : table()) index.emplace(Key{kind.site, kind.role}, &kind);
    return index;
  }();
  return kIndex;
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

std::span<const SlotKind> slot_kinds() { return table(); }

std::int64_t value_of(Extent extent, const Config& config) {
  static const VisionConfig kNoVision;
  const VisionConfig& tower = config.vision ? *config.vision : kNoVision;
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
  const auto found = std::ranges::find_if(table(), [&](const SlotKind& kind) {
    return kind.site == site && kind.gguf == leaf &&
           (kind.mixer == Mixer::any || (kind.mixer == Mixer::attention) == attention_layer) &&
           (kind.mlp == Mlp::any || (kind.mlp == Mlp::experts) == moe);
  });
  return found == table().end() ? nullptr : &*found;
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
