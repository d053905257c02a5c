#include "models/gguf_key_types.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <type_traits>

namespace regauge {
namespace {

// llama.cpp asks for exactly these types and refuses others. Source: ggml-org/llama.cpp src/llama-model-loader.cpp
// (GKV::get_kv), src/llama-model.cpp and src/models/qwen35.cpp (the keys).
constexpr std::array<std::string_view, 21> kU32{"block_count",
                                                "context_length",
                                                "embedding_length",
                                                "feed_forward_length",
                                                "attention.head_count",
                                                "attention.head_count_kv",
                                                "attention.key_length",
                                                "attention.value_length",
                                                "rope.dimension_count",
                                                "full_attention_interval",
                                                "nextn_predict_layers",
                                                "ssm.conv_kernel",
                                                "ssm.state_size",
                                                "ssm.group_count",
                                                "ssm.time_step_rank",
                                                "ssm.inner_size",
                                                "vocab_size",
                                                "expert_count",
                                                "expert_used_count",
                                                "expert_feed_forward_length",
                                                "expert_shared_feed_forward_length"};
constexpr std::array<std::string_view, 2> kF32{"attention.layer_norm_rms_epsilon", "rope.freq_base"};

}  // namespace

std::optional<MetaType> gguf_key_type(std::string_view prefix, std::string_view key) {
  if (prefix.empty() || key.size() <= prefix.size() || !key.starts_with(prefix) || key[prefix.size()] != '.')
    return std::nullopt;
  const std::string_view rest = key.substr(prefix.size() + 1);
  if (std::ranges::find(kU32, rest) != kU32.end()) return MetaType::u32;
  if (std::ranges::find(kF32, rest) != kF32.end()) return MetaType::f32;
  return std::nullopt;
}

std::optional<MetaValue> as_key_type(const MetaValue& value, MetaType type) {
  return std::visit(
      [type](const auto& held) -> std::optional<MetaValue> {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, bool> || !std::is_arithmetic_v<Held>) {
          return std::nullopt;
        } else {
          const auto number = static_cast<double>(held);
          if (type == MetaType::f32) return MetaValue(static_cast<float>(number));
          const bool fits = type == MetaType::u32 && number >= 0 && number == std::trunc(number) &&
                            number <= static_cast<double>(std::numeric_limits<std::uint32_t>::max());
          return fits ? std::optional<MetaValue>(static_cast<std::uint32_t>(number)) : std::nullopt;
        }
      },
      value);
}

}  // namespace regauge
