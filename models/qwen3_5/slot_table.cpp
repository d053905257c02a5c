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
    {.role = "embed_tokens.weight", .gguf = "token_embd.weight", .site = Site::text, .component = embedding,
     .rows = E::vocab, .columns = E::hidden},
    {.role = "norm.weight", .gguf = "output_norm.weight", .site = Site::text, .component = norm, .rows = E::none,
     .columns = E::hidden, .change = kAddOne},
    {.role = "lm_head.weight", .gguf = "output.weight", .site = Site::text, .component = head, .rows = E::vocab,
     .columns = E::hidden, .linear = true, .presence = Presence::untied},

    // Every block.
    {.role = "input_layernorm.weight", .gguf = "attn_norm.weight", .site = Site::block, .component = norm,
     .rows = E::none, .columns = E::hidden, .change = kAddOne},
    {.role = "post_attention_layernorm.weight", .gguf = "post_attention_norm.weight", .site = Site::block,
     .component = norm, .rows = E::none, .columns = E::hidden, .change = kAddOne},

    // Gated DeltaNet.
    {.role = "linear_attn.in_proj_qkv.weight", .gguf = "attn_qkv.weight", .site = Site::block, .component = deltanet,
     .rows = E::conv_channels, .columns = E::hidden, .mixer = Mixer::deltanet, .value_heads = ValueHeads::qkv_rows,
     .linear = true},
    {.role = "linear_attn.in_proj_z.weight", .gguf = "attn_gate.weight", .site = Site::block, .component = deltanet,
     .rows = E::value_width, .columns = E::hidden, .mixer = Mixer::deltanet, .value_heads = ValueHeads::rows,
     .linear = true},
    {.role = "linear_attn.in_proj_b.weight", .gguf = "ssm_beta.weight", .site = Site::block, .component = deltanet,
     .rows = E::value_heads, .columns = E::hidden, .mixer = Mixer::deltanet, .value_heads = ValueHeads::single_rows,
     .linear = true},
    {.role = "linear_attn.in_proj_a.weight", .gguf = "ssm_alpha.weight", .site = Site::block, .component = deltanet,
     .rows = E::value_heads, .columns = E::hidden, .mixer = Mixer::deltanet, .value_heads = ValueHeads::single_rows,
     .linear = true},
    {.role = "linear_attn.conv1d.weight", .gguf = "ssm_conv1d.weight", .site = Site::block, .component = deltanet,
     .rows = E::conv_channels, .columns = E::conv, .mixer = Mixer::deltanet, .value_heads = ValueHeads::qkv_rows,
     .form = Form::convolution, .single_precision = true},
    {.role = "linear_attn.A_log", .gguf = "ssm_a", .site = Site::block, .component = deltanet, .rows = E::none,
     .columns = E::value_heads, .mixer = Mixer::deltanet, .value_heads = ValueHeads::vector,
     .change = Elementwise::neg_exp, .usual = DType::f32},
    {.role = "linear_attn.dt_bias", .gguf = "ssm_dt.bias", .site = Site::block, .component = deltanet,
     .rows = E::none, .columns = E::value_heads, .mixer = Mixer::deltanet, .value_heads = ValueHeads::vector},
    {.role = "linear_attn.norm.weight", .gguf = "ssm_norm.weight", .site = Site::block, .component = norm,
     .rows = E::none, .columns = E::value_dim, .mixer = Mixer::deltanet, .usual = DType::f32},
    {.role = "linear_attn.out_proj.weight", .gguf = "ssm_out.weight", .site = Site::block, .component = deltanet,
     .rows = E::hidden, .columns = E::value_width, .mixer = Mixer::deltanet, .value_heads = ValueHeads::columns,
     .linear = true},

    // Gated full attention.
    {.role = "self_attn.q_proj.weight", .gguf = "attn_q.weight", .site = Site::block, .component = attention,
     .rows = E::query_rows, .columns = E::hidden, .mixer = Mixer::attention, .linear = true},
    {.role = "self_attn.k_proj.weight", .gguf = "attn_k.weight", .site = Site::block, .component = attention,
     .rows = E::kv_rows, .columns = E::hidden, .mixer = Mixer::attention, .linear = true},
    {.role = "self_attn.v_proj.weight", .gguf = "attn_v.weight", .site = Site::block, .component = attention,
     .rows = E::kv_rows, .columns = E::hidden, .mixer = Mixer::attention, .linear = true},
    {.role = "self_attn.o_proj.weight", .gguf = "attn_output.weight", .site = Site::block, .component = attention,
     .rows = E::hidden, .columns = E::attention_width, .mixer = Mixer::attention, .linear = true},
    {.role = "self_attn.q_norm.weight", .gguf = "attn_q_norm.weight", .site = Site::block, .component = norm,
     .rows = E::none, .columns = E::head_dim, .mixer = Mixer::attention, .change = kAddOne},
    {.role = "self_attn.k_norm.weight", .gguf = "attn_k_norm.weight", .site = Site::block, .component = norm,
     .rows = E::none, .columns = E::head_dim, .mixer = Mixer::attention, .change = kAddOne},

    // Dense MLP.
    {.role = "mlp.gate_proj.weight", .gguf = "ffn_gate.weight", .site = Site::block, .component = mlp,
     .rows = E::intermediate, .columns = E::hidden, .mlp = Mlp::dense, .linear = true},
    {.role = "mlp.up_proj.weight", .gguf = "ffn_up.weight", .site = Site::block, .component = mlp,
     .rows = E::intermediate, .columns = E::hidden, .mlp = Mlp::dense, .linear = true},
    {.role = "mlp.down_proj.weight", .gguf = "ffn_down.weight", .site = Site::block, .component = mlp,
     .rows = E::hidden, .columns = E::intermediate, .mlp = Mlp::dense, .linear = true},

    // Mixture of experts.
    {.role = "mlp.gate.weight", .gguf = "ffn_gate_inp.weight", .site = Site::block, .component = router,
     .rows = E::experts, .columns = E::hidden, .mlp = Mlp::experts, .single_precision = true},
    {.role = "mlp.experts.gate_proj.weight", .gguf = "", .site = Site::block, .component = experts,
     .rows = E::moe_intermediate, .columns = E::hidden, .mlp = Mlp::experts, .linear = true, .expert = true},
    {.role = "mlp.experts.up_proj.weight", .gguf = "", .site = Site::block, .component = experts,
     .rows = E::moe_intermediate, .columns = E::hidden, .mlp = Mlp::experts, .linear = true, .expert = true},
    {.role = "mlp.experts.down_proj.weight", .gguf = "", .site = Site::block, .component = experts,
     .rows = E::hidden, .columns = E::moe_intermediate, .mlp = Mlp::experts, .linear = true, .expert = true},
    {.role = "mlp.shared_expert.gate_proj.weight", .gguf = "ffn_gate_shexp.weight", .site = Site::block,
     .component = experts, .rows = E::shared_intermediate, .columns = E::hidden, .mlp = Mlp::experts, .linear = true},
    {.role = "mlp.shared_expert.up_proj.weight", .gguf = "ffn_up_shexp.weight", .site = Site::block,
     .component = experts, .rows = E::shared_intermediate, .columns = E::hidden, .mlp = Mlp::experts, .linear = true},
    {.role = "mlp.shared_expert.down_proj.weight", .gguf = "ffn_down_shexp.weight", .site = Site::block,
     .component = experts, .rows = E::hidden, .columns = E::shared_intermediate, .mlp = Mlp::experts, .linear = true},
    {.role = "mlp.shared_expert_gate.weight", .gguf = "ffn_gate_inp_shexp.weight", .site = Site::block,
     .component = router, .rows = E::one, .columns = E::hidden, .mlp = Mlp::experts, .single_precision = true},

    // Multi-token prediction, outside of its block. GGUF files keep these in the first MTP block.
    {.role = "fc.weight", .gguf = "nextn.eh_proj.weight", .site = Site::mtp, .component = mtp, .rows = E::hidden,
     .columns = E::twice_hidden, .linear = true},
    {.role = "pre_fc_norm_embedding.weight", .gguf = "nextn.enorm.weight", .site = Site::mtp, .component = mtp,
     .rows = E::none, .columns = E::hidden, .change = kAddOne},
    {.role = "pre_fc_norm_hidden.weight", .gguf = "nextn.hnorm.weight", .site = Site::mtp, .component = mtp,
     .rows = E::none, .columns = E::hidden, .change = kAddOne},
    {.role = "norm.weight", .gguf = "nextn.shared_head_norm.weight", .site = Site::mtp, .component = mtp,
     .rows = E::none, .columns = E::hidden, .change = kAddOne},
    {.role = "embed_tokens.weight", .gguf = "nextn.embed_tokens.weight", .site = Site::mtp, .component = mtp,
     .rows = E::vocab, .columns = E::hidden, .presence = Presence::foreign},
    {.role = "lm_head.weight", .gguf = "nextn.shared_head_head.weight", .site = Site::mtp, .component = mtp,
     .rows = E::vocab, .columns = E::hidden, .linear = true, .presence = Presence::foreign},

    // Vision tower, outside of its blocks. The norms are ordinary: weight and bias as they are.
    {.role = "patch_embed.proj.weight.0", .gguf = "v.patch_embd.weight", .site = Site::vision, .component = vision,
     .rows = E::vision_hidden, .columns = E::vision_patch, .form = Form::patch, .single_precision = true},
    {.role = "patch_embed.proj.weight.1", .gguf = "v.patch_embd.weight.1", .site = Site::vision, .component = vision,
     .rows = E::vision_hidden, .columns = E::vision_patch, .form = Form::patch, .single_precision = true},
    {.role = "patch_embed.proj.bias", .gguf = "v.patch_embd.bias", .site = Site::vision, .component = vision,
     .rows = E::none, .columns = E::vision_hidden},
    {.role = "pos_embed.weight", .gguf = "v.position_embd.weight", .site = Site::vision, .component = vision,
     .rows = E::vision_positions, .columns = E::vision_hidden, .single_precision = true},
    {.role = "merger.norm.weight", .gguf = "v.post_ln.weight", .site = Site::vision, .component = vision,
     .rows = E::none, .columns = E::vision_hidden},
    {.role = "merger.norm.bias", .gguf = "v.post_ln.bias", .site = Site::vision, .component = vision,
     .rows = E::none, .columns = E::vision_hidden},
    {.role = "merger.linear_fc1.weight", .gguf = "mm.0.weight", .site = Site::vision, .component = vision,
     .rows = E::vision_merged, .columns = E::vision_merged},
    {.role = "merger.linear_fc1.bias", .gguf = "mm.0.bias", .site = Site::vision, .component = vision,
     .rows = E::none, .columns = E::vision_merged},
    {.role = "merger.linear_fc2.weight", .gguf = "mm.2.weight", .site = Site::vision, .component = vision,
     .rows = E::vision_out, .columns = E::vision_merged},
    {.role = "merger.linear_fc2.bias", .gguf = "mm.2.bias", .site = Site::vision, .component = vision,
     .rows = E::none, .columns = E::vision_out},

    // Vision blocks.
    {.role = "norm1.weight", .gguf = "ln1.weight", .site = Site::vision_block, .component = vision, .rows = E::none,
     .columns = E::vision_hidden},
    {.role = "norm1.bias", .gguf = "ln1.bias", .site = Site::vision_block, .component = vision, .rows = E::none,
     .columns = E::vision_hidden},
    {.role = "norm2.weight", .gguf = "ln2.weight", .site = Site::vision_block, .component = vision, .rows = E::none,
     .columns = E::vision_hidden},
    {.role = "norm2.bias", .gguf = "ln2.bias", .site = Site::vision_block, .component = vision, .rows = E::none,
     .columns = E::vision_hidden},
    {.role = "attn.qkv.weight", .gguf = "attn_qkv.weight", .site = Site::vision_block, .component = vision,
     .rows = E::vision_qkv, .columns = E::vision_hidden},
    {.role = "attn.qkv.bias", .gguf = "attn_qkv.bias", .site = Site::vision_block, .component = vision,
     .rows = E::none, .columns = E::vision_qkv},
    {.role = "attn.proj.weight", .gguf = "attn_out.weight", .site = Site::vision_block, .component = vision,
     .rows = E::vision_hidden, .columns = E::vision_hidden},
    {.role = "attn.proj.bias", .gguf = "attn_out.bias", .site = Site::vision_block, .component = vision,
     .rows = E::none, .columns = E::vision_hidden},
    {.role = "mlp.linear_fc1.weight", .gguf = "ffn_up.weight", .site = Site::vision_block, .component = vision,
     .rows = E::vision_intermediate, .columns = E::vision_hidden},
    {.role = "mlp.linear_fc1.bias", .gguf = "ffn_up.bias", .site = Site::vision_block, .component = vision,
     .rows = E::none, .columns = E::vision_intermediate},
    {.role = "mlp.linear_fc2.weight", .gguf = "ffn_down.weight", .site = Site::vision_block, .component = vision,
     .rows = E::vision_hidden, .columns = E::vision_intermediate},
    {.role = "mlp.linear_fc2.bias", .gguf = "ffn_down.bias", .site = Site::vision_block, .component = vision,
     .rows = E::none, .columns = E::vision_hidden},
};
// clang-format on

}  // namespace

std::span<const SlotKind> slot_kinds() { return kTable; }

}  // namespace regauge::qwen3_5
