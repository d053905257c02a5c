#include "models/qwen3_5/slots.h"

namespace regauge::qwen3_5 {
namespace {

using enum Component;
using E = Extent;

constexpr Elementwise kAddOne = Elementwise::add_one;

// Names and shapes: Hugging Face's are those of the published safetensors indexes, GGUF's those of ggml-org/llama.cpp
// gguf-py/gguf/tensor_mapping.py and src/models/qwen35.cpp. add_one marks the norms that multiply by 1 + w: every norm
// of the decoder but the gated one inside linear_attn, and both norms in front of mtp.fc (conversion/qwen.py adds one
// to what ends in norm.weight, and after renaming to those two).
//
// clang-format off: one kind a paragraph reads as a table, one field a line does not.
constexpr SlotKind kTable[] = {
    // Outside of blocks.
    {.site = Site::text, .component = embedding, .role = "embed_tokens.weight", .gguf = "token_embd.weight",
     .rows = E::vocab, .columns = E::hidden},
    {.site = Site::text, .component = norm, .role = "norm.weight", .gguf = "output_norm.weight", .rows = E::none,
     .columns = E::hidden, .change = kAddOne},
    {.site = Site::text, .component = head, .role = "lm_head.weight", .gguf = "output.weight", .rows = E::vocab,
     .columns = E::hidden, .linear = true, .presence = Presence::untied},

    // Every block.
    {.site = Site::block, .component = norm, .role = "input_layernorm.weight", .gguf = "attn_norm.weight",
     .rows = E::none, .columns = E::hidden, .change = kAddOne},
    {.site = Site::block, .component = norm, .role = "post_attention_layernorm.weight",
     .gguf = "post_attention_norm.weight", .rows = E::none, .columns = E::hidden, .change = kAddOne},

    // Gated DeltaNet.
    {.site = Site::block, .component = deltanet, .role = "linear_attn.in_proj_qkv.weight", .gguf = "attn_qkv.weight",
     .rows = E::conv_channels, .columns = E::hidden, .mixer = Mixer::deltanet, .value_heads = ValueHeads::qkv_rows,
     .linear = true},
    {.site = Site::block, .component = deltanet, .role = "linear_attn.in_proj_z.weight", .gguf = "attn_gate.weight",
     .rows = E::value_width, .columns = E::hidden, .mixer = Mixer::deltanet, .value_heads = ValueHeads::rows,
     .linear = true},
    {.site = Site::block, .component = deltanet, .role = "linear_attn.in_proj_b.weight", .gguf = "ssm_beta.weight",
     .rows = E::value_heads, .columns = E::hidden, .mixer = Mixer::deltanet, .value_heads = ValueHeads::single_rows,
     .linear = true},
    {.site = Site::block, .component = deltanet, .role = "linear_attn.in_proj_a.weight", .gguf = "ssm_alpha.weight",
     .rows = E::value_heads, .columns = E::hidden, .mixer = Mixer::deltanet, .value_heads = ValueHeads::single_rows,
     .linear = true},
    {.site = Site::block, .component = deltanet, .role = "linear_attn.conv1d.weight", .gguf = "ssm_conv1d.weight",
     .rows = E::conv_channels, .columns = E::conv, .mixer = Mixer::deltanet, .value_heads = ValueHeads::qkv_rows,
     .form = Form::convolution, .single_precision = true},
    {.site = Site::block, .component = deltanet, .role = "linear_attn.A_log", .gguf = "ssm_a", .rows = E::none,
     .columns = E::value_heads, .mixer = Mixer::deltanet, .value_heads = ValueHeads::vector,
     .change = Elementwise::neg_exp, .usual = DType::f32},
    {.site = Site::block, .component = deltanet, .role = "linear_attn.dt_bias", .gguf = "ssm_dt.bias",
     .rows = E::none, .columns = E::value_heads, .mixer = Mixer::deltanet, .value_heads = ValueHeads::vector},
    {.site = Site::block, .component = norm, .role = "linear_attn.norm.weight", .gguf = "ssm_norm.weight",
     .rows = E::none, .columns = E::value_dim, .mixer = Mixer::deltanet, .usual = DType::f32},
    {.site = Site::block, .component = deltanet, .role = "linear_attn.out_proj.weight", .gguf = "ssm_out.weight",
     .rows = E::hidden, .columns = E::value_width, .mixer = Mixer::deltanet, .value_heads = ValueHeads::columns,
     .linear = true},

    // Gated full attention.
    {.site = Site::block, .component = attention, .role = "self_attn.q_proj.weight", .gguf = "attn_q.weight",
     .rows = E::query_rows, .columns = E::hidden, .mixer = Mixer::attention, .linear = true},
    {.site = Site::block, .component = attention, .role = "self_attn.k_proj.weight", .gguf = "attn_k.weight",
     .rows = E::kv_rows, .columns = E::hidden, .mixer = Mixer::attention, .linear = true},
    {.site = Site::block, .component = attention, .role = "self_attn.v_proj.weight", .gguf = "attn_v.weight",
     .rows = E::kv_rows, .columns = E::hidden, .mixer = Mixer::attention, .linear = true},
    {.site = Site::block, .component = attention, .role = "self_attn.o_proj.weight", .gguf = "attn_output.weight",
     .rows = E::hidden, .columns = E::attention_width, .mixer = Mixer::attention, .linear = true},
    {.site = Site::block, .component = norm, .role = "self_attn.q_norm.weight", .gguf = "attn_q_norm.weight",
     .rows = E::none, .columns = E::head_dim, .mixer = Mixer::attention, .change = kAddOne},
    {.site = Site::block, .component = norm, .role = "self_attn.k_norm.weight", .gguf = "attn_k_norm.weight",
     .rows = E::none, .columns = E::head_dim, .mixer = Mixer::attention, .change = kAddOne},

    // Dense MLP.
    {.site = Site::block, .component = mlp, .role = "mlp.gate_proj.weight", .gguf = "ffn_gate.weight",
     .rows = E::intermediate, .columns = E::hidden, .mlp = Mlp::dense, .linear = true},
    {.site = Site::block, .component = mlp, .role = "mlp.up_proj.weight", .gguf = "ffn_up.weight",
     .rows = E::intermediate, .columns = E::hidden, .mlp = Mlp::dense, .linear = true},
    {.site = Site::block, .component = mlp, .role = "mlp.down_proj.weight", .gguf = "ffn_down.weight",
     .rows = E::hidden, .columns = E::intermediate, .mlp = Mlp::dense, .linear = true},

    // Mixture of experts.
    {.site = Site::block, .component = router, .role = "mlp.gate.weight", .gguf = "ffn_gate_inp.weight",
     .rows = E::experts, .columns = E::hidden, .mlp = Mlp::experts, .single_precision = true},
    {.site = Site::block, .component = experts, .role = "mlp.experts.gate_proj.weight", .gguf = "",
     .rows = E::moe_intermediate, .columns = E::hidden, .mlp = Mlp::experts, .linear = true, .expert = true},
    {.site = Site::block, .component = experts, .role = "mlp.experts.up_proj.weight", .gguf = "",
     .rows = E::moe_intermediate, .columns = E::hidden, .mlp = Mlp::experts, .linear = true, .expert = true},
    {.site = Site::block, .component = experts, .role = "mlp.experts.down_proj.weight", .gguf = "",
     .rows = E::hidden, .columns = E::moe_intermediate, .mlp = Mlp::experts, .linear = true, .expert = true},
    {.site = Site::block, .component = experts, .role = "mlp.shared_expert.gate_proj.weight",
     .gguf = "ffn_gate_shexp.weight", .rows = E::shared_intermediate, .columns = E::hidden, .mlp = Mlp::experts,
     .linear = true},
    {.site = Site::block, .component = experts, .role = "mlp.shared_expert.up_proj.weight",
     .gguf = "ffn_up_shexp.weight", .rows = E::shared_intermediate, .columns = E::hidden, .mlp = Mlp::experts,
     .linear = true},
    {.site = Site::block, .component = experts, .role = "mlp.shared_expert.down_proj.weight",
     .gguf = "ffn_down_shexp.weight", .rows = E::hidden, .columns = E::shared_intermediate, .mlp = Mlp::experts,
     .linear = true},
    {.site = Site::block, .component = router, .role = "mlp.shared_expert_gate.weight",
     .gguf = "ffn_gate_inp_shexp.weight", .rows = E::one, .columns = E::hidden, .mlp = Mlp::experts,
     .single_precision = true},

    // Multi-token prediction, outside of its block. GGUF files keep these in the first MTP block.
    {.site = Site::mtp, .component = mtp, .role = "fc.weight", .gguf = "nextn.eh_proj.weight", .rows = E::hidden,
     .columns = E::twice_hidden, .linear = true},
    {.site = Site::mtp, .component = mtp, .role = "pre_fc_norm_embedding.weight", .gguf = "nextn.enorm.weight",
     .rows = E::none, .columns = E::hidden, .change = kAddOne},
    {.site = Site::mtp, .component = mtp, .role = "pre_fc_norm_hidden.weight", .gguf = "nextn.hnorm.weight",
     .rows = E::none, .columns = E::hidden, .change = kAddOne},
    {.site = Site::mtp, .component = mtp, .role = "norm.weight", .gguf = "nextn.shared_head_norm.weight",
     .rows = E::none, .columns = E::hidden, .change = kAddOne},
    {.site = Site::mtp, .component = mtp, .role = "embed_tokens.weight", .gguf = "nextn.embed_tokens.weight",
     .rows = E::vocab, .columns = E::hidden, .presence = Presence::foreign},
    {.site = Site::mtp, .component = mtp, .role = "lm_head.weight", .gguf = "nextn.shared_head_head.weight",
     .rows = E::vocab, .columns = E::hidden, .linear = true, .presence = Presence::foreign},

    // Vision tower, outside of its blocks. The norms are ordinary: weight and bias as they are.
    {.site = Site::vision, .component = vision, .role = "patch_embed.proj.weight.0", .gguf = "v.patch_embd.weight",
     .rows = E::vision_hidden, .columns = E::vision_patch, .form = Form::patch, .single_precision = true},
    {.site = Site::vision, .component = vision, .role = "patch_embed.proj.weight.1", .gguf = "v.patch_embd.weight.1",
     .rows = E::vision_hidden, .columns = E::vision_patch, .form = Form::patch, .single_precision = true},
    {.site = Site::vision, .component = vision, .role = "patch_embed.proj.bias", .gguf = "v.patch_embd.bias",
     .rows = E::none, .columns = E::vision_hidden},
    {.site = Site::vision, .component = vision, .role = "pos_embed.weight", .gguf = "v.position_embd.weight",
     .rows = E::vision_positions, .columns = E::vision_hidden, .single_precision = true},
    {.site = Site::vision, .component = vision, .role = "merger.norm.weight", .gguf = "v.post_ln.weight",
     .rows = E::none, .columns = E::vision_hidden},
    {.site = Site::vision, .component = vision, .role = "merger.norm.bias", .gguf = "v.post_ln.bias",
     .rows = E::none, .columns = E::vision_hidden},
    {.site = Site::vision, .component = vision, .role = "merger.linear_fc1.weight", .gguf = "mm.0.weight",
     .rows = E::vision_merged, .columns = E::vision_merged},
    {.site = Site::vision, .component = vision, .role = "merger.linear_fc1.bias", .gguf = "mm.0.bias",
     .rows = E::none, .columns = E::vision_merged},
    {.site = Site::vision, .component = vision, .role = "merger.linear_fc2.weight", .gguf = "mm.2.weight",
     .rows = E::vision_out, .columns = E::vision_merged},
    {.site = Site::vision, .component = vision, .role = "merger.linear_fc2.bias", .gguf = "mm.2.bias",
     .rows = E::none, .columns = E::vision_out},

    // Vision blocks.
    {.site = Site::vision_block, .component = vision, .role = "norm1.weight", .gguf = "ln1.weight", .rows = E::none,
     .columns = E::vision_hidden},
    {.site = Site::vision_block, .component = vision, .role = "norm1.bias", .gguf = "ln1.bias", .rows = E::none,
     .columns = E::vision_hidden},
    {.site = Site::vision_block, .component = vision, .role = "norm2.weight", .gguf = "ln2.weight", .rows = E::none,
     .columns = E::vision_hidden},
    {.site = Site::vision_block, .component = vision, .role = "norm2.bias", .gguf = "ln2.bias", .rows = E::none,
     .columns = E::vision_hidden},
    {.site = Site::vision_block, .component = vision, .role = "attn.qkv.weight", .gguf = "attn_qkv.weight",
     .rows = E::vision_qkv, .columns = E::vision_hidden},
    {.site = Site::vision_block, .component = vision, .role = "attn.qkv.bias", .gguf = "attn_qkv.bias",
     .rows = E::none, .columns = E::vision_qkv},
    {.site = Site::vision_block, .component = vision, .role = "attn.proj.weight", .gguf = "attn_out.weight",
     .rows = E::vision_hidden, .columns = E::vision_hidden},
    {.site = Site::vision_block, .component = vision, .role = "attn.proj.bias", .gguf = "attn_out.bias",
     .rows = E::none, .columns = E::vision_hidden},
    {.site = Site::vision_block, .component = vision, .role = "mlp.linear_fc1.weight", .gguf = "ffn_up.weight",
     .rows = E::vision_intermediate, .columns = E::vision_hidden},
    {.site = Site::vision_block, .component = vision, .role = "mlp.linear_fc1.bias", .gguf = "ffn_up.bias",
     .rows = E::none, .columns = E::vision_intermediate},
    {.site = Site::vision_block, .component = vision, .role = "mlp.linear_fc2.weight", .gguf = "ffn_down.weight",
     .rows = E::vision_hidden, .columns = E::vision_intermediate},
    {.site = Site::vision_block, .component = vision, .role = "mlp.linear_fc2.bias", .gguf = "ffn_down.bias",
     .rows = E::none, .columns = E::vision_hidden},
};
// clang-format on

}  // namespace

std::span<const SlotKind> slot_kinds() { return kTable; }

}  // namespace regauge::qwen3_5
