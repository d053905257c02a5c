#include "tests/support/deep_gguf.h"

#include <cstddef>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/half.h"
#include "formats/format.h"

namespace regauge::testing {
namespace {

constexpr int kInterval = 4;  // every fourth block has attention
constexpr std::int64_t kHidden = 256;
constexpr std::int64_t kHeadDim = 32;
constexpr std::int64_t kHeads = 4;

std::vector<std::byte> random_values(const ArrayPlan& plan, std::uint32_t& random) {
  std::vector<std::byte> bytes(plan.bytes());
  const bool wide = std::get<DType>(plan.element) == DType::f32;
  for (std::size_t at = 0; at < bytes.size(); at += wide ? 4 : 2) {
    float value = 0;
    for (int i = 0; i < 3; ++i) {
      random = random * 1664525U + 1013904223U;  // Numerical Recipes' generator
      value += static_cast<float>(random >> 16U) / 65536.0F - 0.5F;
    }
    if (random % 509 == 0) value *= 12;  // outliers, which weights have
    if (wide) {
      store_le(bytes.data() + at, value);
    } else {
      store_le(bytes.data() + at, f32_to_bf16(0.04F * value));
    }
  }
  return bytes;
}

Metadata deep_keys(const DeepShape& shape) {
  const auto number = [](std::int64_t value) { return static_cast<std::uint32_t>(value); };
  Metadata keys;
  keys.set("general.architecture", std::string("qwen35"));
  keys.set("general.file_type", std::uint32_t{32});
  keys.set("qwen35.block_count", number(shape.layers + 1));
  keys.set("qwen35.nextn_predict_layers", std::uint32_t{1});
  keys.set("qwen35.context_length", std::uint32_t{4096});
  keys.set("qwen35.embedding_length", number(kHidden));
  keys.set("qwen35.feed_forward_length", number(kHidden));
  keys.set("qwen35.vocab_size", std::uint32_t{512});
  keys.set("qwen35.attention.head_count", number(kHeads));
  keys.set("qwen35.attention.head_count_kv", number(shape.kv_heads));
  keys.set("qwen35.attention.key_length", number(kHeadDim));
  keys.set("qwen35.attention.value_length", number(kHeadDim));
  keys.set("qwen35.attention.layer_norm_rms_epsilon", 1e-6F);
  keys.set("qwen35.rope.dimension_sections", MetaArray{MetaType::i32, std::vector<std::int32_t>{2, 1, 1, 0}});
  keys.set("qwen35.rope.dimension_count", std::uint32_t{8});
  keys.set("qwen35.rope.freq_base", 1e7F);
  keys.set("qwen35.ssm.conv_kernel", std::uint32_t{4});
  keys.set("qwen35.ssm.state_size", std::uint32_t{64});
  keys.set("qwen35.ssm.group_count", std::uint32_t{2});
  keys.set("qwen35.ssm.time_step_rank", std::uint32_t{6});
  keys.set("qwen35.ssm.inner_size", std::uint32_t{384});
  keys.set("qwen35.full_attention_interval", number(kInterval));
  return keys;
}

std::vector<ArrayPlan> deep_arrays(const DeepShape& shape) {
  std::vector<ArrayPlan> plans;
  const auto matrix = [&](const std::string& name, std::int64_t rows, std::int64_t columns) {
    plans.push_back({name, DType::bf16, {rows, columns}});
  };
  const auto vector = [&](const std::string& name, std::int64_t size) {
    plans.push_back({name, DType::f32, Shape{size}});
  };
  if (!shape.tied) matrix("output.weight", 512, kHidden);
  matrix("token_embd.weight", 512, kHidden);
  vector("output_norm.weight", kHidden);
  for (int layer = 0; layer <= shape.layers; ++layer) {
    const std::string block = fmt::format("blk.{}.", layer);
    const bool is_mtp = layer == shape.layers;
    vector(block + "attn_norm.weight", kHidden);
    vector(block + "post_attention_norm.weight", kHidden);
    for (const char* name : {"ffn_down.weight", "ffn_gate.weight", "ffn_up.weight"})
      matrix(block + name, kHidden, kHidden);
    if (is_mtp || layer % kInterval == kInterval - 1) {
      matrix(block + "attn_q.weight", 2 * kHeads * kHeadDim, kHidden);
      matrix(block + "attn_k.weight", shape.kv_heads * kHeadDim, kHidden);
      matrix(block + "attn_v.weight", shape.kv_heads * kHeadDim, kHidden);
      matrix(block + "attn_output.weight", kHidden, kHeads * kHeadDim);
      vector(block + "attn_q_norm.weight", kHeadDim);
      vector(block + "attn_k_norm.weight", kHeadDim);
    } else {
      matrix(block + "attn_qkv.weight", 640, kHidden);
      matrix(block + "attn_gate.weight", 384, kHidden);
      matrix(block + "ssm_alpha.weight", 6, kHidden);
      matrix(block + "ssm_beta.weight", 6, kHidden);
      matrix(block + "ssm_out.weight", kHidden, 384);
      plans.push_back({block + "ssm_conv1d.weight", DType::f32, {640, 4}});
      vector(block + "ssm_a", 6);
      vector(block + "ssm_dt.bias", 6);
      vector(block + "ssm_norm.weight", 64);
    }
    if (is_mtp) {
      matrix(block + "nextn.eh_proj.weight", kHidden, 2 * kHidden);
      for (const char* name : {"nextn.enorm.weight", "nextn.hnorm.weight", "nextn.shared_head_norm.weight"})
        vector(block + name, kHidden);
    }
  }
  return plans;
}

}  // namespace

void write_deep_gguf(const std::filesystem::path& out, const DeepShape& shape) {
  const std::vector<ArrayPlan> plans = deep_arrays(shape);
  const auto writer = find_format("gguf")->create(out, {.overwrite = true});
  writer->begin(deep_keys(shape), plans);
  std::uint32_t random = 1;
  for (std::size_t i = 0; i < plans.size(); ++i) writer->put(i, 0, random_values(plans[i], random));
  writer->finish();
}

}  // namespace regauge::testing
