#include "models/qwen3_5/hf_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "base/error.h"
#include "models/gguf_general.h"
#include "models/gguf_vocabulary.h"
#include "models/hf_tokenizer.h"

namespace regauge::qwen3_5 {
namespace {

constexpr std::string_view kFile = "config.json";
constexpr std::string_view kGuessed = "config-guessed";
constexpr std::string_view kEndOfText = "<|endoftext|>";

std::string_view architecture_of(const Config& config) { return config.moe ? "qwen35moe" : "qwen35"; }

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

/// What makes one configuration: the sizes, the tokens, and what will be written beside it.
struct Source {
  const Config& config;
  const VisionConfig* vision;
  const std::optional<GgufVocabulary>& vocabulary;
  const Metadata& keys;
  const HfFacts& facts;
  bool dedicated_embeddings;  ///< an MTP layer brings an embedding of its own
};

std::optional<std::int64_t> added_id(const Source& source, std::string_view text) {
  const AddedToken* token = source.vocabulary ? source.vocabulary->find_added(text) : nullptr;
  return token == nullptr ? std::nullopt : std::optional(token->id);
}

/// The ids that end a text: the chat's and the document's. Null without a tokenizer.
Json end_ids(const Source& source) {
  const SpecialId* eos = source.vocabulary ? source.vocabulary->find_special("eos") : nullptr;
  if (eos == nullptr) return nullptr;
  const auto document = added_id(source, kEndOfText);
  if (document && *document != eos->id) return Json::array({eos->id, *document});
  return eos->id;
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
std::map<std::string, Json> config_ids(const Source& source) {
  std::map<std::string, Json> ids;
  if (!source.vocabulary) return ids;
  for (const SpecialId& special : source.vocabulary->special_ids) {
    const std::string key = fmt::format("{}_token_id", special.type);
    if (special.in_config) {
      ids[key] = special.id;
    } else if (special.type == "eos") {
      // Published configurations end a document here, while tokenizer_config.json ends a chat's turn.
      ids[key] = added_id(source, kEndOfText).value_or(special.id);
    }
  }
  return ids;
}

// Names, order and constants: Qwen/Qwen3.5-27B and Qwen/Qwen3.5-35B-A3B config.json.
Json text_config(const Source& source) {
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

Json vision_config(const VisionConfig& vision, bool moe) {
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

/// Puts the id of an added token, which only its text tells.
void put_token_id(const Source& source, std::string_view key, std::string_view text, Json& root, Findings& findings) {
  if (const auto id = added_id(source, text)) {
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
Json flat_config(const Source& source) {
  Json root = Json::object();
  root["architectures"] = Json::array({class_name(source.config, "CausalLM")});
  const Json text = text_config(source);
  for (const auto& [key, value] : text.get_ref<const Json::object_t&>()) root[key] = value;
  root["tie_word_embeddings"] = source.config.tied;
  root["transformers_version"] = kTransformers;
  return root;
}

Json nested_config(const Source& source, Findings& findings) {
  const Config& config = source.config;
  Json root = Json::object();
  root["architectures"] = Json::array({class_name(config, "ConditionalGeneration")});
  if (source.facts.target == Dialect::mlx) {
    // mlx-lm takes the ids that end a text from here. Source: ml-explore/mlx-lm mlx_lm/utils.py, load_config.
    if (Json ids = end_ids(source); !ids.is_null()) root["eos_token_id"] = std::move(ids);
  }
  put_token_id(source, "image_token_id", "<|image_pad|>", root, findings);
  root["model_type"] = config.moe ? "qwen3_5_moe" : "qwen3_5";
  root["text_config"] = text_config(source);
  root["tie_word_embeddings"] = config.tied;
  root["transformers_version"] = kTransformers;
  put_token_id(source, "video_token_id", "<|video_pad|>", root, findings);
  if (source.vision != nullptr) root["vision_config"] = vision_config(*source.vision, config.moe);
  put_token_id(source, "vision_end_token_id", "<|vision_end|>", root, findings);
  put_token_id(source, "vision_start_token_id", "<|vision_start|>", root, findings);
  return root;
}

void note_config_guesses(const Source& source, Findings& findings) {
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
  const SpecialId* eos = source.vocabulary ? source.vocabulary->find_special("eos") : nullptr;
  if (eos != nullptr && !eos->in_config && added_id(source, kEndOfText).value_or(eos->id) != eos->id) {
    note_guess(findings, Severity::note, kGuessed,
               "the id of <|endoftext|> is written, as published; the key's end of a chat's turn is in "
               "tokenizer_config.json",
               kFile, "eos_token_id");
  }
}

/// Keys in alphabetical order, as transformers saves them; nothing when there is nothing to say.
std::optional<TextFile> generation_config(const Source& source, Findings& findings) {
  constexpr std::string_view kGeneration = "generation_config.json";
  std::map<std::string, Json> entries;
  const Json sampling = sampling_entries(source.keys, findings);
  for (const auto& [key, value] : sampling.get_ref<const Json::object_t&>()) entries[key] = value;
  if (!entries.empty()) {
    const auto temperature = entries.find("temperature");
    entries["do_sample"] = temperature == entries.end() || temperature->second > 0.0;
    note_guess(findings, Severity::note, kGuessed, "no key says it: sampling parameters are there to be used",
               kGeneration, "do_sample");
  }
  if (Json ids = end_ids(source); !ids.is_null()) {
    if (ids.is_array()) {
      note_guess(findings, Severity::note, kGuessed,
                 "<|endoftext|> ends a text beside the key's token, as in published files", kGeneration,
                 "eos_token_id");
    }
    entries["eos_token_id"] = std::move(ids);
  }
  for (const std::string_view type : {"bos", "pad"}) {
    const SpecialId* special = source.vocabulary ? source.vocabulary->find_special(type) : nullptr;
    if (special != nullptr) entries[fmt::format("{}_token_id", type)] = special->id;
  }
  if (entries.empty()) return std::nullopt;
  Json json = Json::object();
  for (auto& [key, value] : entries) json[key] = std::move(value);
  return TextFile{std::string(kGeneration), render_json(json, 2) + "\n"};
}

bool is_general_key(std::string_view key) {
  constexpr std::array<std::string_view, 7> kMadeAnew{
      "general.architecture",         "general.type",     "general.name", "general.size_label", "general.file_type",
      "general.quantization_version", "general.alignment"};
  return std::ranges::find(kMadeAnew, key) != kMadeAnew.end() || key.starts_with("general.sampling.");
}

/// Every key that config_from_gguf() reads, behind the architecture's name.
bool is_model_key(std::string_view leaf) {
  constexpr std::array<std::string_view, 32> kRead{"block_count",
                                                   "context_length",
                                                   "embedding_length",
                                                   "feed_forward_length",
                                                   "attention.head_count",
                                                   "attention.head_count_kv",
                                                   "attention.key_length",
                                                   "attention.value_length",
                                                   "attention.layer_norm_rms_epsilon",
                                                   "attention.recurrent_layers",
                                                   "rope.dimension_sections",
                                                   "rope.dimension_count",
                                                   "rope.freq_base",
                                                   "rope.scaling.type",
                                                   "rope.scaling.factor",
                                                   "rope.scaling.original_context_length",
                                                   "rope.scaling.yarn_ext_factor",
                                                   "rope.scaling.yarn_attn_factor",
                                                   "rope.scaling.yarn_beta_fast",
                                                   "rope.scaling.yarn_beta_slow",
                                                   "expert_count",
                                                   "expert_used_count",
                                                   "expert_feed_forward_length",
                                                   "expert_shared_feed_forward_length",
                                                   "nextn_predict_layers",
                                                   "ssm.conv_kernel",
                                                   "ssm.state_size",
                                                   "ssm.group_count",
                                                   "ssm.time_step_rank",
                                                   "ssm.inner_size",
                                                   "full_attention_interval",
                                                   "vocab_size"};
  return std::ranges::find(kRead, leaf) != kRead.end();
}

bool is_tower_key(std::string_view key) {
  constexpr std::array<std::string_view, 17> kRead{"clip.has_vision_encoder",
                                                   "clip.projector_type",
                                                   "clip.use_gelu",
                                                   "clip.vision.projection_dim",
                                                   "clip.vision.image_size",
                                                   "clip.vision.image_min_pixels",
                                                   "clip.vision.image_max_pixels",
                                                   "clip.vision.patch_size",
                                                   "clip.vision.embedding_length",
                                                   "clip.vision.feed_forward_length",
                                                   "clip.vision.block_count",
                                                   "clip.vision.attention.head_count",
                                                   "clip.vision.attention.layer_norm_epsilon",
                                                   "clip.vision.image_mean",
                                                   "clip.vision.image_std",
                                                   "clip.vision.spatial_merge_size",
                                                   "clip.vision.is_deepstack_layers"};
  return std::ranges::find(kRead, key) != kRead.end();
}

void note_left_out(const Source& source, const Checkpoint& model, Findings& findings) {
  const std::string prefix = std::string(architecture_of(source.config)) + ".";
  note_left_out_keys(
      model,
      [&prefix](std::string_view key) {
        if (key.starts_with(prefix)) return is_model_key(key.substr(prefix.size()));
        return is_general_key(key) || is_tokenizer_key(key);
      },
      findings);
  if (source.facts.vision == nullptr) return;
  note_left_out_keys(
      *source.facts.vision, [](std::string_view key) { return is_general_key(key) || is_tower_key(key); }, findings);
}

bool has_dedicated_embeddings(const Checkpoint& model) {
  return std::ranges::any_of(
      model.arrays, [](const std::string& name) { return name.ends_with(".nextn.embed_tokens.weight"); },
      &StoredArray::name);
}

}  // namespace

std::vector<TextFile> make_hf_files(const Config& config, const VisionConfig* vision, const Checkpoint& model,
                                    const HfFacts& facts, Findings& findings) {
  if (facts.mtp_layers < 0 || facts.mtp_layers > kMaxMtpLayers || config.layers + facts.mtp_layers > kMaxLayers) {
    throw Error(ErrorCode::internal, "{} MTP layers", facts.mtp_layers);
  }
  const std::optional<GgufVocabulary> vocabulary = read_gguf_vocabulary(model, "qwen35", findings);
  const Source source{config,         vision, vocabulary,
                      model.metadata, facts,  facts.mtp_layers > 0 && has_dedicated_embeddings(model)};
  const bool flat = facts.target == Dialect::hf && vision == nullptr;
  std::vector<TextFile> files;
  // Indented as the published file, of which this is the exact image.
  files.push_back({std::string(kFile), render_json(flat ? flat_config(source) : nested_config(source, findings), 4)});
  note_config_guesses(source, findings);
  if (auto generation = generation_config(source, findings)) files.push_back(*std::move(generation));
  if (vocabulary) {
    for (TextFile& file : hf_tokenizer_files(model, *vocabulary, facts.target, config.context, findings)) {
      files.push_back(std::move(file));
    }
  }
  if (vision != nullptr) append_processor_files(*vision, *facts.vision, files, findings);
  note_left_out(source, model, findings);
  std::ranges::sort(files, {}, &TextFile::name);
  return files;
}

}  // namespace regauge::qwen3_5
