#include <algorithm>
#include <array>
#include <map>

#include <fmt/format.h>

#include "base/error.h"
#include "models/gguf_general.h"
#include "models/hf_tokenizer.h"
#include "models/qwen3_5/hf_config.h"

namespace regauge::qwen3_5 {
namespace {

/// Keys in alphabetical order, as transformers saves them; nothing when there is nothing to say.
std::optional<TextFile> generation_config(const HfSource& source, Findings& findings) {
  constexpr std::string_view kGeneration = "generation_config.json";
  std::map<std::string, Json> entries;
  const Json sampling = sampling_entries(source.keys, findings);
  for (const auto& [key, value] : sampling.get_ref<const Json::object_t&>()) entries[key] = value;
  if (!entries.empty()) {
    const auto temperature = entries.find("temperature");
    entries["do_sample"] = temperature == entries.end() || temperature->second > 0.0;
    note_guess(findings, Severity::note, "config-guessed", "no key says it: sampling parameters are there to be used",
               kGeneration, "do_sample");
  }
  if (Json ids = source.end_ids(); !ids.is_null()) {
    if (ids.is_array()) {
      note_guess(findings, Severity::note, "config-guessed",
                 "<|endoftext|> ends a text beside the key's token, as in published files", kGeneration,
                 "eos_token_id");
    }
    entries["eos_token_id"] = std::move(ids);
  }
  for (const std::string_view type : {"bos", "pad"}) {
    const SpecialId* special = source.find_special(type);
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

void note_left_out(const HfSource& source, const Checkpoint& model, Findings& findings) {
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
  const bool dedicated = facts.mtp_layers > 0 && has_dedicated_embeddings(model);
  const HfSource source{config, vision, vocabulary, model.metadata, facts, dedicated};
  std::vector<TextFile> files;
  // Indented as the published file, of which this is the exact image.
  files.push_back({"config.json", render_json(hf_config(source, findings), 4)});
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
