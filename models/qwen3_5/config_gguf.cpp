#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "models/qwen3_5/config.h"

namespace regauge::qwen3_5 {
namespace {

constexpr std::uint64_t kLargest = std::uint64_t{1} << 31;

class Keys {
 public:
  Keys(const Metadata& metadata, std::string_view prefix) : metadata_(metadata), prefix_(prefix) {}

  std::string full(std::string_view key) const { return prefix_ + "." + std::string(key); }

  std::optional<std::int64_t> integer(std::string_view key) const {
    const auto found = metadata_.get_uint(full(key));
    if (!found) return std::nullopt;
    if (*found > kLargest) throw Error(ErrorCode::malformed, "'{}' is {}", full(key), *found).tensor(full(key));
    return static_cast<std::int64_t>(*found);
  }
  std::int64_t required(std::string_view key, std::int64_t max) const {
    const auto found = integer(key);
    if (!found) throw Error(ErrorCode::malformed, "key '{}' is missing", full(key)).tensor(full(key));
    return bounded(*found, full(key), max);
  }
  std::optional<double> number(std::string_view key) const { return metadata_.get_float(full(key)); }
  std::optional<std::string> text(std::string_view key) const { return metadata_.get_string(full(key)); }
  const MetaArray* array(std::string_view key) const { return metadata_.get_array(full(key)); }
  const MetaValue* value(std::string_view key) const { return metadata_.find(full(key)); }

 private:
  const Metadata& metadata_;
  std::string prefix_;
};

/// Array elements of any integer type, or booleans, as numbers. Throws Error{malformed} naming `key` for floats and
/// strings.
std::vector<std::int64_t> integers(const MetaArray& array, std::string_view key) {
  return std::visit(
      [&](const auto& values) -> std::vector<std::int64_t> {
        using Element = typename std::decay_t<decltype(values)>::value_type;
        if constexpr (std::is_integral_v<Element>) {
          std::vector<std::int64_t> out;
          out.reserve(values.size());
          for (const Element value : values) out.push_back(static_cast<std::int64_t>(value));
          return out;
        } else {
          throw Error(ErrorCode::malformed, "'{}' is no array of whole numbers", key).tensor(key);
        }
      },
      array.values);
}

/// Some writers give one number per layer; the family has the same in all of them.
std::int64_t head_count(const Keys& keys, std::string_view key, std::int64_t max) {
  const MetaValue* value = keys.value(key);
  if (value == nullptr || !std::holds_alternative<MetaArray>(*value)) return keys.required(key, max);
  const std::vector<std::int64_t> all = integers(*keys.array(key), keys.full(key));
  if (all.empty() || std::ranges::any_of(all, [&](std::int64_t one) { return one != all.front(); })) {
    throw Error(ErrorCode::unsupported, "'{}' differs from layer to layer", keys.full(key)).tensor(keys.full(key));
  }
  return bounded(all.front(), keys.full(key), max);
}

void read_layers(const Keys& keys, Config& config) {
  const std::int64_t blocks = keys.required("block_count", kMaxLayers);
  const std::int64_t mtp = keys.integer("nextn_predict_layers").value_or(0);
  if (mtp > kMaxMtpLayers || mtp >= blocks) {
    throw Error(ErrorCode::malformed, "{} MTP blocks out of {}", mtp, blocks).tensor(keys.full("nextn_predict_layers"));
  }
  config.mtp_layers = mtp;
  config.layers = blocks - mtp;
  const auto interval = keys.integer("full_attention_interval");
  // Source: ggml-org/llama.cpp src/models/qwen35.cpp: every fourth layer unless the keys say otherwise.
  config.interval = interval ? bounded(*interval, keys.full("full_attention_interval"), kMaxLayers) : 4;
  if (const MetaArray* recurrent = keys.array("attention.recurrent_layers")) {
    const std::string key = keys.full("attention.recurrent_layers");
    if (recurrent->size() != static_cast<std::size_t>(blocks)) {
      throw Error(ErrorCode::malformed, "'{}' has {} entries for {} blocks", key, recurrent->size(), blocks)
          .tensor(key);
    }
    const std::vector<std::int64_t> flags = integers(*recurrent, key);
    for (std::int64_t i = 0; i < config.layers; ++i) config.full.push_back(flags[static_cast<std::size_t>(i)] == 0);
  } else {
    for (std::int64_t i = 0; i < config.layers; ++i) config.full.push_back((i + 1) % config.interval == 0);
  }
}

/// Source: ggml-org/llama.cpp gguf-py/gguf/constants.py, Keys.Rope.
void read_rope_scaling(const Keys& keys, RopeScaling& scaling) {
  const std::string type = keys.text("rope.scaling.type").value_or("none");
  if (type == "none") return;
  scaling.type = type;
  scaling.factor = keys.number("rope.scaling.factor");
  scaling.original_context = keys.integer("rope.scaling.original_context_length");
  scaling.extrapolation_factor = keys.number("rope.scaling.yarn_ext_factor");
  scaling.attention_factor = keys.number("rope.scaling.yarn_attn_factor");
  scaling.beta_fast = keys.number("rope.scaling.yarn_beta_fast");
  scaling.beta_slow = keys.number("rope.scaling.yarn_beta_slow");
}

/// The vocabulary is as long as the token list; files without a tokenizer say it in a key of their own.
std::int64_t vocabulary(const Keys& keys, const Checkpoint& checkpoint) {
  if (const MetaArray* tokens = checkpoint.metadata.get_array("tokenizer.ggml.tokens"); tokens && tokens->size() > 0) {
    return bounded(static_cast<std::int64_t>(tokens->size()), "tokenizer.ggml.tokens", std::int64_t{1} << 24);
  }
  return keys.required("vocab_size", std::int64_t{1} << 24);
}

void read_text(const Checkpoint& checkpoint, std::string_view architecture, Config& config) {
  const Keys keys(checkpoint.metadata, architecture);
  constexpr std::int64_t kMaxWidth = std::int64_t{1} << 20;
  constexpr std::int64_t kMaxHeads = std::int64_t{1} << 12;
  constexpr std::int64_t kMaxHeadDim = std::int64_t{1} << 14;
  read_layers(keys, config);
  config.context = keys.required("context_length", std::int64_t{1} << 31);
  config.hidden = keys.required("embedding_length", kMaxWidth);
  config.heads = head_count(keys, "attention.head_count", kMaxHeads);
  config.kv_heads = keys.value("attention.head_count_kv") == nullptr
                        ? config.heads
                        : head_count(keys, "attention.head_count_kv", kMaxHeads);
  const std::int64_t head_dim = keys.integer("attention.key_length").value_or(config.hidden / config.heads);
  config.head_dim = bounded(head_dim, keys.full("attention.key_length"), kMaxHeadDim);
  if (keys.integer("attention.value_length").value_or(head_dim) != head_dim) {
    throw Error(ErrorCode::unsupported, "keys and values of different head sizes")
        .tensor(keys.full("attention.value_length"));
  }
  config.conv = keys.required("ssm.conv_kernel", 1024);
  config.key_dim = keys.required("ssm.state_size", kMaxHeadDim);
  config.key_heads = keys.required("ssm.group_count", kMaxHeads);
  config.value_heads = keys.required("ssm.time_step_rank", kMaxHeads);
  const std::int64_t inner = keys.required("ssm.inner_size", kMaxHeads * kMaxHeadDim);
  if (inner % config.value_heads != 0) {
    throw Error(ErrorCode::malformed, "an inner size of {} cannot be split into {} value heads", inner,
                config.value_heads)
        .tensor(keys.full("ssm.inner_size"));
  }
  config.value_dim = bounded(inner / config.value_heads, keys.full("ssm.inner_size"), kMaxHeadDim);
  if (config.moe) {
    config.experts = keys.required("expert_count", kMaxExperts);
    config.experts_used = keys.required("expert_used_count", kMaxExperts);
    config.moe_intermediate = keys.required("expert_feed_forward_length", kMaxWidth);
    config.shared_intermediate = keys.required("expert_shared_feed_forward_length", kMaxWidth);
  } else {
    config.intermediate = keys.required("feed_forward_length", kMaxWidth);
  }
  config.vocab = vocabulary(keys, checkpoint);
  config.eps = keys.number("attention.layer_norm_rms_epsilon").value_or(config.eps);
  config.theta = keys.number("rope.freq_base").value_or(config.theta);
  if (const auto rotary = keys.integer("rope.dimension_count")) {
    config.partial_rotary = static_cast<double>(*rotary) / static_cast<double>(config.head_dim);
  }
  if (const MetaArray* sections = keys.array("rope.dimension_sections")) {
    if (sections->size() > 4) {
      throw Error(ErrorCode::malformed, "{} rotary sections", sections->size())
          .tensor(keys.full("rope.dimension_sections"));
    }
    config.mrope = integers(*sections, keys.full("rope.dimension_sections"));
  }
  read_rope_scaling(keys, config.scaling);
  config.tied = checkpoint.find_array("output.weight") == nullptr;
}

void read_vision(const Checkpoint& checkpoint, Config& config) {
  const Keys keys(checkpoint.metadata, "clip.vision");
  constexpr std::int64_t kMaxWidth = std::int64_t{1} << 20;
  VisionConfig tower;
  tower.depth = keys.required("block_count", kMaxLayers);
  tower.hidden = keys.required("embedding_length", kMaxWidth);
  tower.intermediate = keys.required("feed_forward_length", kMaxWidth);
  tower.heads = keys.required("attention.head_count", std::int64_t{1} << 12);
  tower.patch = keys.required("patch_size", 256);
  tower.out_hidden = keys.required("projection_dim", kMaxWidth);
  tower.image_size = keys.required("image_size", std::int64_t{1} << 16);
  const std::int64_t side = *tower.image_size / tower.patch;
  tower.positions = bounded(side * side, keys.full("image_size"), std::int64_t{1} << 24);
  if (const auto merge = keys.integer("spatial_merge_size")) {
    tower.merge = bounded(*merge, keys.full("spatial_merge_size"), 16);
  }
  config.vision = tower;
  config.hidden = tower.out_hidden;
}

/// The block number in "blk.12.attn_q.weight", when it is one.
std::optional<std::int64_t> block_of(std::string_view array) {
  if (!array.starts_with("blk.")) return std::nullopt;
  array.remove_prefix(4);
  std::int64_t block = -1;
  const auto [end, fault] = std::from_chars(array.data(), array.data() + array.size(), block);
  if (fault != std::errc{} || end == array.data() + array.size() || *end != '.') return std::nullopt;
  if (block < 0 || block >= kMaxLayers) return std::nullopt;
  return block;
}

/// An adapter tells no sizes: what can be known of its base are the blocks that it touches and what they consist of.
void read_adapter(const Checkpoint& checkpoint, Config& config) {
  config.sizes_known = false;
  for (const StoredArray& array : checkpoint.arrays) {
    const auto block = block_of(array.name);
    if (!block) continue;
    config.layers = std::max(config.layers, *block + 1);
    config.full.resize(static_cast<std::size_t>(config.layers));
    for (const std::string_view leaf : {".attn_q.", ".attn_k.", ".attn_v.", ".attn_output."}) {
      if (array.name.find(leaf) != std::string::npos) config.full[static_cast<std::size_t>(*block)] = true;
    }
  }
}

}  // namespace

Config config_from_gguf(const Checkpoint& checkpoint, std::string_view architecture) {
  Config config;
  config.moe = architecture == "qwen35moe";
  try {
    if (architecture == "clip") {
      config.text = false;
      read_vision(checkpoint, config);
    } else if (checkpoint.metadata.get_string("general.type") == "adapter") {
      read_adapter(checkpoint, config);
    } else {
      read_text(checkpoint, architecture, config);
    }
    check_consistent(config);
  } catch (Error& error) {
    error.at(checkpoint.files.empty() ? checkpoint.path : checkpoint.files.front().name);
    throw;
  }
  return config;
}

}  // namespace regauge::qwen3_5
