#include "models/qwen3_5/gguf_keys.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include "base/error.h"
#include "models/gguf_general.h"
#include "models/qwen3_5/names.h"
#include "models/size_label.h"
#include "models/tokenizer_gguf.h"

namespace regauge::qwen3_5 {
namespace {

/// Keys of one prefix, each with the type that llama.cpp's loader insists on.
class KeyWriter {
 public:
  KeyWriter(Metadata& keys, std::string_view prefix) : keys_(keys), prefix_(prefix) {}

  void u32(std::string_view key, std::int64_t value) { keys_.set(full(key), to_u32(value, full(key))); }
  void f32(std::string_view key, double value) { keys_.set(full(key), to_f32(value, full(key))); }
  void text(std::string_view key, std::string value) { keys_.set(full(key), std::move(value)); }
  void optional_f32(std::string_view key, const std::optional<double>& value) {
    if (value) f32(key, *value);
  }
  void i32_array(std::string_view key, std::vector<std::int32_t> values) {
    keys_.set(full(key), MetaArray{MetaType::i32, std::move(values)});
  }
  void bool_array(std::string_view key, std::vector<std::uint8_t> values) {
    keys_.set(full(key), MetaArray{MetaType::boolean, std::move(values)});
  }

 private:
  std::string full(std::string_view key) const { return prefix_ + "." + std::string(key); }

  Metadata& keys_;
  std::string prefix_;
};

void add_finding(Findings& findings, Severity severity, std::string_view code, std::string message) {
  Finding finding;
  finding.severity = severity;
  finding.code = code;
  finding.message = std::move(message);
  findings.push_back(std::move(finding));
}

/// Experts of the layers that go into this file; the converter counts one of each layer's as part of the label.
std::string label_of(const Config& config, OutputKind kind, const GgufFacts& facts) {
  if (!config.moe || kind == OutputKind::mmproj) return size_label(facts.parameters);
  const std::int64_t layers = (kind == OutputKind::mtp ? 0 : config.layers) + facts.mtp_layers;
  const std::int64_t one_expert = layers * 3 * config.moe_intermediate * config.hidden;
  const std::int64_t shared = facts.parameters - config.experts * one_expert;
  if (layers == 0 || shared < 0) return size_label(facts.parameters);
  return size_label(config.experts, shared, one_expert);
}

void append_general(const Config& config, const Checkpoint& source, OutputKind kind, const GgufFacts& facts,
                    std::string_view architecture, Metadata& keys, Findings& findings) {
  keys.set("general.architecture", std::string(architecture));
  keys.set("general.type", std::string(kind == OutputKind::mmproj ? "mmproj" : "model"));
  append_sampling_keys(source, keys, findings);
  if (!facts.name.empty()) keys.set("general.name", facts.name);
  if (facts.parameters > 0) keys.set("general.size_label", label_of(config, kind, facts));
}

void append_rope_scaling(const RopeScaling& scaling, KeyWriter& keys) {
  if (scaling.type.empty()) return;
  const auto missing = [&scaling](std::string_view what) {
    return Error(ErrorCode::malformed, "rope scaling '{}' without '{}'", scaling.type, what)
        .at("config.json")
        .tensor(what);
  };
  if (scaling.type != "linear" && scaling.type != "yarn") {
    // Leaving it out would load and give other logits without a word.
    throw Error(ErrorCode::unsupported, "rope scaling '{}'", scaling.type).at("config.json").tensor("rope_type");
  }
  if (!scaling.factor) throw missing("factor");
  keys.text("rope.scaling.type", scaling.type);
  keys.f32("rope.scaling.factor", *scaling.factor);
  if (scaling.type == "linear") return;
  if (!scaling.original_context) throw missing("original_max_position_embeddings");
  keys.u32("rope.scaling.original_context_length", *scaling.original_context);
  keys.optional_f32("rope.scaling.yarn_ext_factor", scaling.extrapolation_factor);
  keys.optional_f32("rope.scaling.yarn_attn_factor", scaling.attention_factor);
  keys.optional_f32("rope.scaling.yarn_beta_fast", scaling.beta_fast);
  keys.optional_f32("rope.scaling.yarn_beta_slow", scaling.beta_slow);
}

// Required by the loader, in exactly four entries. The fallback is what transformers and the converter take.
std::vector<std::int32_t> sections_of(const Config& config) {
  std::vector<std::int32_t> sections(config.mrope.begin(), config.mrope.end());
  if (sections.empty()) sections = {11, 11, 10};
  sections.resize(4);
  return sections;
}

void append_attention(const Config& config, KeyWriter& keys, Findings& findings) {
  append_rope_scaling(config.scaling, keys);
  if (!config.mrope.empty()) keys.i32_array("rope.dimension_sections", sections_of(config));
  keys.f32("rope.freq_base", config.theta);
  keys.f32("attention.layer_norm_rms_epsilon", config.eps);
  if (config.moe) {
    keys.u32("expert_count", config.experts);
    keys.u32("expert_used_count", config.experts_used);
  }
  keys.u32("attention.key_length", config.head_dim);
  keys.u32("attention.value_length", config.head_dim);

  const std::vector<std::int32_t> sections = sections_of(config);
  const std::int64_t pairs = std::accumulate(sections.begin(), sections.end(), std::int64_t{0});
  const auto rotated = static_cast<std::int64_t>(static_cast<double>(config.head_dim) * config.partial_rotary);
  if (2 * pairs != rotated) {
    add_finding(findings, Severity::warning, "rope-sections-mismatch",
                fmt::format("the rotary sections cover {} dimensions of a head, {} are rotated", 2 * pairs, rotated));
  }
}

void append_mixers(const Config& config, std::int64_t mtp_layers, KeyWriter& keys, Findings& findings) {
  if (config.key_dim != config.value_dim) {
    // Source: ggml-org/llama.cpp src/models/qwen35.cpp takes ssm.state_size for both.
    throw Error(ErrorCode::unsupported, "key heads of {} and value heads of {}: llama.cpp takes one size for both",
                config.key_dim, config.value_dim)
        .at("config.json");
  }
  keys.u32("ssm.conv_kernel", config.conv);
  keys.u32("ssm.state_size", config.key_dim);
  keys.u32("ssm.group_count", config.key_heads);
  keys.u32("ssm.time_step_rank", config.value_heads);
  keys.u32("ssm.inner_size", config.value_width());
  std::vector<std::uint8_t> recurrent;
  bool by_interval = true;
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const bool full = config.full[static_cast<std::size_t>(i)];
    recurrent.push_back(full ? 0 : 1);
    by_interval = by_interval && full == ((i + 1) % config.interval == 0);
  }
  recurrent.resize(recurrent.size() + static_cast<std::size_t>(mtp_layers));
  keys.bool_array("attention.recurrent_layers", std::move(recurrent));
  keys.u32("full_attention_interval", config.interval);
  if (!by_interval) {
    add_finding(
        findings, Severity::warning, "layer-types-irregular",
        "no interval describes the layer types: loaders that do not know attention.recurrent_layers misread them");
  }
}

/// The loader takes the vocabulary's size from the tokens and compares it with the embedding.
void check_embedding(const Config& config, const Checkpoint& source) {
  for (const Tensor& tensor : source.tensors) {
    const auto target = parse_safetensors_name(config, tensor.name);
    if (!target || target->kind == nullptr || target->kind->component != Component::embedding || target->in_mtp)
      continue;
    if (assemble(config, *target, tensor.shape)) return;
    throw Error(ErrorCode::malformed, "the embedding is {}, the configuration says {} tokens of {}",
                to_string(tensor.shape), config.vocab, config.hidden)
        .tensor(tensor.name);
  }
  throw Error(ErrorCode::not_found, "no token embedding").tensor("model.embed_tokens.weight").at(source.path);
}

void append_model(const Config& config, const Checkpoint& source, const GgufFacts& facts, std::string_view architecture,
                  Metadata& keys, Findings& findings) {
  KeyWriter own(keys, architecture);
  own.u32("block_count", config.layers + facts.mtp_layers);
  own.u32("context_length", config.context);
  own.u32("embedding_length", config.hidden);
  if (!config.moe) own.u32("feed_forward_length", config.intermediate);
  own.u32("attention.head_count", config.heads);
  own.u32("attention.head_count_kv", config.kv_heads);
  append_attention(config, own, findings);
  keys.set("general.file_type", facts.file_type);
  if (config.moe) {
    own.u32("expert_feed_forward_length", config.moe_intermediate);
    own.u32("expert_shared_feed_forward_length", config.shared_intermediate);
  }
  if (facts.mtp_layers > 0) own.u32("nextn_predict_layers", facts.mtp_layers);
  append_mixers(config, facts.mtp_layers, own, findings);
  own.u32("rope.dimension_count",
          static_cast<std::int64_t>(static_cast<double>(config.head_dim) * config.partial_rotary));
  if (config.mrope.empty()) own.i32_array("rope.dimension_sections", sections_of(config));

  check_embedding(config, source);
  const bool tokenizer = has_tokenizer(source);
  if (!tokenizer) own.u32("vocab_size", config.vocab);
  keys.set("general.quantization_version", std::uint32_t{2});
  if (tokenizer) {
    append_tokenizer_keys(source, config.vocab, "qwen35", keys, findings);
    return;
  }
  // Loads only together with vocab_size, and then without any other tokenizer key.
  keys.set("tokenizer.ggml.model", std::string("none"));
  add_finding(findings, Severity::warning, "tokenizer-absent",
              "neither tokenizer.json nor vocab.json is there: the file is written without a tokenizer");
}

Metadata adapter_keys(const GgufFacts& facts, std::string_view architecture) {
  Metadata keys;
  keys.set("general.architecture", std::string(architecture));
  keys.set("general.type", std::string("adapter"));
  keys.set("adapter.type", std::string("lora"));
  if (!facts.name.empty()) keys.set("general.name", facts.name);
  // No adapter.lora.alpha: then every module is scaled by 1, whatever its rank.
  // Source: ggml-org/llama.cpp src/llama-adapter.h, get_scale.
  keys.set("general.quantization_version", std::uint32_t{2});
  return keys;
}

}  // namespace

Metadata make_gguf_keys(const Config& config, const Checkpoint& source, OutputKind kind, const GgufFacts& facts,
                        Findings& findings) {
  const std::string_view architecture = config.moe ? "qwen35moe" : "qwen35";
  if (kind == OutputKind::adapter) return adapter_keys(facts, architecture);
  if (facts.mtp_layers < 0 || config.layers + facts.mtp_layers > kMaxLayers) {
    throw Error(ErrorCode::internal, "{} MTP layers", facts.mtp_layers);
  }
  Metadata keys;
  if (kind == OutputKind::mmproj) {
    append_general(config, source, kind, facts, "clip", keys, findings);
    keys.set("general.file_type", facts.file_type);
    append_mmproj_keys(config, source, keys);
    keys.set("general.quantization_version", std::uint32_t{2});
    return keys;
  }
  findings.insert(findings.end(), config.guesses.begin(), config.guesses.end());
  append_general(config, source, kind, facts, architecture, keys, findings);
  append_model(config, source, facts, architecture, keys, findings);
  return keys;
}

}  // namespace regauge::qwen3_5
