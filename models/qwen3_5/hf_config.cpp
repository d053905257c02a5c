#include "models/qwen3_5/hf_config.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "base/error.h"

namespace regauge::qwen3_5 {
namespace {

constexpr std::string_view kFile = "config.json";
constexpr std::string_view kGuessed = "config-guessed";

/// As torch and config.json call it.
std::string_view torch_name(DType dtype) {
  switch (dtype) {
    case DType::bf16: return "bfloat16";
    case DType::f16: return "float16";
    case DType::f32: return "float32";
    default: throw Error(ErrorCode::internal, "no configuration says dtype {}", name(dtype));
  }
}

/// Numbers that are whole are written so: 10000000.
Json number(double value) {
  constexpr double kExact = 9007199254740992.0;  // 2^53
  if (std::abs(value) < kExact && std::trunc(value) == value) return static_cast<std::int64_t>(value);
  return value;
}

/// Bounds of config_from_json(), so that what is written here opens again.
Json mrope_sections(const Config& config) {
  std::vector<std::int64_t> sections = config.mrope;
  if (sections.size() == 4 && sections.back() == 0) sections.pop_back();  // the converter pads to four
  constexpr std::int64_t kMaxSection = std::int64_t{1} << 14;
  if (std::ranges::any_of(sections, [](std::int64_t one) { return one < 0 || one > kMaxSection; })) {
    throw Error(ErrorCode::malformed, "the rotary sections are no small whole numbers")
        .tensor(fmt::format("{}.rope.dimension_sections", architecture_of(config)));
  }
  return sections;
}

/// The factor from which int(head_dim * factor) is the number of dimensions again.
double partial_rotary(const Config& config) {
  const auto width = static_cast<double>(config.head_dim);
  const double rotated = std::floor(width * config.partial_rotary + 0.5);
  double factor = config.partial_rotary;
  while (std::floor(width * factor) < rotated) factor = std::nextafter(factor, 2.0);
  return factor;
}

void append_rope_scaling(const RopeScaling& scaling, std::string_view architecture, Json& rope) {
  if (scaling.type.empty()) return;
  const auto key = [architecture](std::string_view leaf) {
    return fmt::format("{}.rope.scaling.{}", architecture, leaf);
  };
  if (scaling.type != "linear" && scaling.type != "yarn") {
    throw Error(ErrorCode::unsupported, "rope scaling of another kind than linear and yarn").tensor(key("type"));
  }
  const auto put = [&](std::string_view json, std::string_view leaf, const std::optional<double>& value) {
    if (value) rope[std::string(json)] = decimal(*value, key(leaf));
  };
  rope["rope_type"] = scaling.type;
  put("factor", "factor", scaling.factor);
  if (scaling.original_context) rope["original_max_position_embeddings"] = *scaling.original_context;
  put("extrapolation_factor", "yarn_ext_factor", scaling.extrapolation_factor);
  put("attention_factor", "yarn_attn_factor", scaling.attention_factor);
  put("beta_fast", "yarn_beta_fast", scaling.beta_fast);
  put("beta_slow", "yarn_beta_slow", scaling.beta_slow);
}

Json rope_parameters(const Config& config) {
  Json rope = Json::object();
  rope["mrope_interleaved"] = true;
  if (!config.mrope.empty()) rope["mrope_section"] = mrope_sections(config);
  rope["rope_type"] = "default";
  rope["rope_theta"] = number(decimal(config.theta, "rope.freq_base"));
  rope["partial_rotary_factor"] = partial_rotary(config);
  append_rope_scaling(config.scaling, architecture_of(config), rope);
  return rope;
}

Json layer_types(const Config& config) {
  Json types = Json::array();
  for (const bool full : config.full) types.push_back(full ? "full_attention" : "linear_attention");
  return types;
}

/// The ids that text_config gives: where the document ends, and those of tokens that only config.json can name.
std::map<std::string, Json> config_ids(const HfSource& source) {
  std::map<std::string, Json> ids;
  if (!source.vocabulary) return ids;
  for (const SpecialId& special : source.vocabulary->special_ids) {
    const std::string key = fmt::format("{}_token_id", special.type);
    if (special.in_config) {
      ids[key] = special.id;
    } else if (special.type == "eos") {
      // Published configurations end a document here, while tokenizer_config.json ends a chat's turn.
      ids[key] = source.added_id(kEndOfText).value_or(special.id);
    }
  }
  return ids;
}

// Names, order and constants: Qwen/Qwen3.5-27B and Qwen/Qwen3.5-35B-A3B config.json.
Json text_config(const HfSource& source) {
  const Config& config = source.config;
  std::map<std::string, Json> ids = config_ids(source);
  Json text = Json::object();
  const auto put_id = [&](const std::string& key) {
    if (const auto found = ids.find(key); found != ids.end()) text[key] = found->second;
    ids.erase(key);
  };
  text["attention_bias"] = false;
  text["attention_dropout"] = 0.0;
  text["attn_output_gate"] = config.output_gate;
  put_id("bos_token_id");
  text["dtype"] = torch_name(source.facts.dtype);
  put_id("eos_token_id");
  text["full_attention_interval"] = config.interval;
  text["head_dim"] = config.head_dim;
  text["hidden_act"] = "silu";
  text["hidden_size"] = config.hidden;
  text["initializer_range"] = 0.02;
  if (!config.moe) text["intermediate_size"] = config.intermediate;
  text["layer_types"] = layer_types(config);
  text["linear_conv_kernel_dim"] = config.conv;
  text["linear_key_head_dim"] = config.key_dim;
  text["linear_num_key_heads"] = config.key_heads;
  text["linear_num_value_heads"] = config.value_heads;
  text["linear_value_head_dim"] = config.value_dim;
  put_id("mask_token_id");
  text["max_position_embeddings"] = config.context;
  text["mlp_only_layers"] = Json::array();
  text["model_type"] = config.moe ? "qwen3_5_moe_text" : "qwen3_5_text";
  if (config.moe) text["moe_intermediate_size"] = config.moe_intermediate;
  text["mtp_num_hidden_layers"] = source.facts.mtp_layers;
  text["mtp_use_dedicated_embeddings"] = source.dedicated_embeddings;
  text["num_attention_heads"] = config.heads;
  if (config.moe) text["num_experts"] = config.experts;
  if (config.moe) text["num_experts_per_tok"] = config.experts_used;
  text["num_hidden_layers"] = config.layers;
  text["num_key_value_heads"] = config.kv_heads;
  put_id("pad_token_id");
  text["rms_norm_eps"] = decimal(config.eps, "rms_norm_eps");
  if (config.moe) text["router_aux_loss_coef"] = 0.001;
  put_id("sep_token_id");
  if (config.moe) text["shared_expert_intermediate_size"] = config.shared_intermediate;
  // Some loaders look for it here and not at the root.
  if (config.tied) text["tie_word_embeddings"] = true;
  put_id("unk_token_id");
  text["use_cache"] = true;
  text["vocab_size"] = config.vocab;
  text["mamba_ssm_dtype"] = "float32";
  text["rope_parameters"] = rope_parameters(config);
  return text;
}

/// Puts the id of an added token, which only its text tells.
void put_token_id(const HfSource& source, std::string_view key, std::string_view text, Json& root, Findings& findings) {
  if (const auto id = source.added_id(text)) {
    root[std::string(key)] = *id;
  } else if (source.vision != nullptr) {
    note_guess(findings, Severity::warning, "config-incomplete",
               fmt::format("there is no added token '{}' whose id it could be: left out, and readers take the "
                           "published models' one",
                           text),
               kFile, key);
  }
}

std::string class_name(const Config& config, std::string_view task) {
  return fmt::format("{}For{}", config.moe ? "Qwen3_5Moe" : "Qwen3_5", task);
}

/// The version that the published files name: the first that can read this layout.
constexpr std::string_view kTransformers = "4.57.0.dev0";

/// The text class keeps everything at the root.
Json flat_config(const HfSource& source) {
  Json root = Json::object();
  root["architectures"] = Json::array({class_name(source.config, "CausalLM")});
  const Json text = text_config(source);
  for (const auto& [key, value] : text.get_ref<const Json::object_t&>()) root[key] = value;
  root["tie_word_embeddings"] = source.config.tied;
  root["transformers_version"] = kTransformers;
  return root;
}

Json nested_config(const HfSource& source, Findings& findings) {
  const Config& config = source.config;
  Json root = Json::object();
  root["architectures"] = Json::array({class_name(config, "ConditionalGeneration")});
  if (source.facts.target == Dialect::mlx) {
    // mlx-lm takes the ids that end a text from here. Source: ml-explore/mlx-lm mlx_lm/utils.py, load_config.
    if (Json ids = source.end_ids(); !ids.is_null()) root["eos_token_id"] = std::move(ids);
  }
  put_token_id(source, "image_token_id", "<|image_pad|>", root, findings);
  root["model_type"] = config.moe ? "qwen3_5_moe" : "qwen3_5";
  root["text_config"] = text_config(source);
  root["tie_word_embeddings"] = config.tied;
  root["transformers_version"] = kTransformers;
  put_token_id(source, "video_token_id", "<|video_pad|>", root, findings);
  if (source.vision != nullptr) root["vision_config"] = hf_vision_config(*source.vision, config.moe);
  put_token_id(source, "vision_end_token_id", "<|vision_end|>", root, findings);
  put_token_id(source, "vision_start_token_id", "<|vision_start|>", root, findings);
  return root;
}

void note_config_guesses(const HfSource& source, Findings& findings) {
  std::string constants =
      "attention_bias, attention_dropout, hidden_act, initializer_range, mamba_ssm_dtype, mlp_only_layers, "
      "mrope_interleaved, transformers_version, use_cache";
  if (source.config.moe) constants += ", router_aux_loss_coef";
  if (source.vision != nullptr) constants += "; of the tower: hidden_act, in_channels, initializer_range";
  note_guess(findings, Severity::note, kGuessed, "no key says it, written as published: " + constants, kFile);

  const auto missing = [&](std::string_view leaf, std::string_view entry, std::string_view what) {
    const std::string key = fmt::format("{}.{}", architecture_of(source.config), leaf);
    if (source.keys.find(key) != nullptr) return;
    note_guess(findings, Severity::warning, kGuessed, fmt::format("key '{}' is missing: {}", key, what), kFile, entry);
  };
  missing("rope.freq_base", "rope_theta", "10000000 is written, as published; llama.cpp takes 10000");
  missing("rope.dimension_count", "partial_rotary_factor",
          "0.25 is written, as published; llama.cpp rotates the whole head");
  missing("rope.dimension_sections", "mrope_section", "left out, and readers take 11, 11, 10");
  missing("attention.layer_norm_rms_epsilon", "rms_norm_eps", "1e-06 is written, as published");
  const SpecialId* eos = source.find_special("eos");
  if (eos != nullptr && !eos->in_config && source.added_id(kEndOfText).value_or(eos->id) != eos->id) {
    note_guess(findings, Severity::note, kGuessed,
               "the id of <|endoftext|> is written, as published; the key's end of a chat's turn is in "
               "tokenizer_config.json",
               kFile, "eos_token_id");
  }
}

}  // namespace

Json hf_vision_config(const VisionConfig& vision, bool moe) {
  Json json = Json::object();
  json["deepstack_visual_indexes"] = Json::array();
  json["depth"] = vision.depth;
  json["hidden_act"] = "gelu_pytorch_tanh";
  json["hidden_size"] = vision.hidden;
  // The converter's int(sqrt(positions) * patch) gives the size where the configuration has none, as published ones.
  const auto side = std::sqrt(static_cast<double>(vision.positions)) * static_cast<double>(vision.patch);
  if (vision.image_size && *vision.image_size != static_cast<std::int64_t>(side)) {
    json["image_size"] = *vision.image_size;
  }
  json["in_channels"] = vision.channels;
  json["initializer_range"] = 0.02;
  json["intermediate_size"] = vision.intermediate;
  json["model_type"] = moe ? "qwen3_5_moe" : "qwen3_5";
  json["num_heads"] = vision.heads;
  json["num_position_embeddings"] = vision.positions;
  json["out_hidden_size"] = vision.out_hidden;
  json["patch_size"] = vision.patch;
  json["spatial_merge_size"] = vision.merge;
  json["temporal_patch_size"] = kTemporalPatch;
  return json;
}

std::string_view architecture_of(const Config& config) { return config.moe ? "qwen35moe" : "qwen35"; }

std::optional<std::int64_t> HfSource::added_id(std::string_view text) const {
  const AddedToken* token = vocabulary ? vocabulary->find_added(text) : nullptr;
  return token == nullptr ? std::nullopt : std::optional(token->id);
}

Json HfSource::end_ids() const {
  const SpecialId* eos = find_special("eos");
  if (eos == nullptr) return nullptr;
  const auto document = added_id(kEndOfText);
  if (document && *document != eos->id) return Json::array({eos->id, *document});
  return eos->id;
}

Json hf_config(const HfSource& source, Findings& findings) {
  note_config_guesses(source, findings);
  const bool flat = source.facts.target == Dialect::hf && source.vision == nullptr;
  return flat ? flat_config(source) : nested_config(source, findings);
}

}  // namespace regauge::qwen3_5
