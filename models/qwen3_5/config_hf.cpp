#include <fmt/format.h>

#include "base/error.h"
#include "models/qwen3_5/config.h"

namespace regauge::qwen3_5 {
namespace {

constexpr std::string_view kConfigFile = "config.json";

// Bounds of single sizes, a hundred times what is published: products of two with a layer count stay far inside int64.
constexpr std::int64_t kMaxWidth = std::int64_t{1} << 20;
constexpr std::int64_t kMaxVocab = std::int64_t{1} << 24;
constexpr std::int64_t kMaxHeads = std::int64_t{1} << 12;
constexpr std::int64_t kMaxHeadDim = std::int64_t{1} << 14;
constexpr std::int64_t kMaxContext = std::int64_t{1} << 31;

/// `text_config` over the root object, as llama.cpp's converter and transformers read it.
class Fields {
 public:
  explicit Fields(const Json& root) : root_(root), text_(get_object(root, "text_config")) {}

  const Json* value(std::string_view key) const {
    if (text_ != nullptr) {
      if (const Json* found = find(*text_, key)) return found;
    }
    return find(root_, key);
  }
  std::optional<std::int64_t> integer(std::string_view key) const { return get_int(holder(key), key); }
  std::optional<double> number(std::string_view key) const { return get_double(holder(key), key); }
  std::optional<bool> boolean(std::string_view key) const { return get_bool(holder(key), key); }
  const Json* array(std::string_view key) const { return get_array(holder(key), key); }
  const Json* object(std::string_view key) const { return get_object(holder(key), key); }

  std::int64_t required(std::string_view key, std::int64_t max) const {
    const auto found = integer(key);
    if (!found) throw Error(ErrorCode::malformed, "'{}' is missing", key).tensor(key);
    return bounded(*found, key, max);
  }

 private:
  const Json& holder(std::string_view key) const {
    return text_ != nullptr && find(*text_, key) != nullptr ? *text_ : root_;
  }

  const Json& root_;
  const Json* text_;
};

void note_guess(Config& config, Severity severity, std::string_view key, std::string value) {
  Finding finding;
  finding.severity = severity;
  finding.code = "config-default";
  finding.message = fmt::format("'{}' is missing; {} taken, as in every published size", key, std::move(value));
  finding.file = kConfigFile;
  finding.tensor = key;
  config.guesses.push_back(std::move(finding));
}

/// A size that all published models share, so that old or trimmed configurations leave it out.
std::int64_t family_size(const Fields& fields, std::string_view key, std::int64_t max, std::int64_t published,
                         Config& config) {
  if (const auto found = fields.integer(key)) return bounded(*found, key, max);
  note_guess(config, Severity::note, key, std::to_string(published));
  return published;
}

void read_layer_types(const Fields& fields, Config& config) {
  const Json* types = fields.array("layer_types");
  const auto given_interval = fields.integer("full_attention_interval");
  // Source: huggingface/transformers src/transformers/models/qwen3_5/configuration_qwen3_5.py, default 4.
  config.interval = given_interval ? bounded(*given_interval, "full_attention_interval", kMaxLayers) : 4;
  const auto by_interval = [&config](std::int64_t interval) {
    std::vector<bool> full;
    for (std::int64_t i = 0; i < config.layers; ++i) full.push_back((i + 1) % interval == 0);
    return full;
  };
  if (types == nullptr) {
    config.full = by_interval(config.interval);
    return;
  }
  if (types->size() != static_cast<std::size_t>(config.layers)) {
    throw Error(ErrorCode::malformed, "'layer_types' has {} entries for {} layers", types->size(), config.layers)
        .tensor("layer_types");
  }
  for (const Json& type : *types) {
    if (type == "full_attention") {
      config.full.push_back(true);
    } else if (type == "linear_attention") {
      config.full.push_back(false);
    } else {
      throw Error(ErrorCode::malformed, "'layer_types' holds something other than full_attention and linear_attention")
          .tensor("layer_types");
    }
  }
  if (given_interval) return;
  // Loaders that know no list go by the interval, so take one that says the same where there is one.
  for (std::int64_t interval = 1; interval <= config.layers; ++interval) {
    if (by_interval(interval) == config.full) {
      config.interval = interval;
      return;
    }
  }
}

void read_rope(const Fields& fields, Config& config) {
  const Json* rope = fields.object("rope_parameters");
  if (rope == nullptr) rope = fields.object("rope_scaling");
  static const Json none = Json::object();
  const Json& parameters = rope != nullptr ? *rope : none;

  auto theta = get_double(parameters, "rope_theta");
  if (!theta) theta = fields.number("rope_theta");
  if (theta) {
    config.theta = *theta;
  } else {
    note_guess(config, Severity::warning, "rope_theta", "10000000");
  }
  auto partial = get_double(parameters, "partial_rotary_factor");
  if (!partial) partial = fields.number("partial_rotary_factor");
  if (partial) {
    config.partial_rotary = *partial;
  } else {
    note_guess(config, Severity::note, "partial_rotary_factor", "0.25");
  }
  if (const Json* sections = get_array(parameters, "mrope_section")) {
    if (sections->empty() || sections->size() > 4) {
      throw Error(ErrorCode::malformed, "'mrope_section' has {} entries", sections->size()).tensor("mrope_section");
    }
    for (const Json& section : *sections) {
      if (!section.is_number_integer() || section < 0 || section > kMaxHeadDim) {
        throw Error(ErrorCode::malformed, "'mrope_section' holds something other than small whole numbers")
            .tensor("mrope_section");
      }
      config.mrope.push_back(section.get<std::int64_t>());
    }
  }
  auto type = get_string(parameters, "rope_type");
  if (!type) type = get_string(parameters, "type");
  if (!type || *type == "default" || *type == "mrope") return;
  RopeScaling& scaling = config.scaling;
  scaling.type = *type;
  scaling.factor = get_double(parameters, "factor");
  scaling.original_context = get_int(parameters, "original_max_position_embeddings");
  scaling.extrapolation_factor = get_double(parameters, "extrapolation_factor");
  scaling.attention_factor = get_double(parameters, "attention_factor");
  if (!scaling.attention_factor) scaling.attention_factor = get_double(parameters, "attn_factor");
  scaling.beta_fast = get_double(parameters, "beta_fast");
  scaling.beta_slow = get_double(parameters, "beta_slow");
}

void read_mlp(const Fields& fields, Config& config) {
  if (!config.moe) {
    config.intermediate = fields.required("intermediate_size", kMaxWidth);
    return;
  }
  config.experts = fields.required("num_experts", kMaxExperts);
  config.experts_used = fields.required("num_experts_per_tok", kMaxExperts);
  config.moe_intermediate = fields.required("moe_intermediate_size", kMaxWidth);
  config.shared_intermediate = fields.required("shared_expert_intermediate_size", kMaxWidth);
  const Json* dense = fields.array("mlp_only_layers");
  if (dense != nullptr && !dense->empty()) {
    throw Error(ErrorCode::unsupported, "dense layers in a MoE model").tensor("mlp_only_layers");
  }
}

void read_text(const Fields& fields, Config& config) {
  config.layers = fields.required("num_hidden_layers", kMaxLayers);
  config.hidden = fields.required("hidden_size", kMaxWidth);
  config.vocab = fields.required("vocab_size", kMaxVocab);
  config.heads = fields.required("num_attention_heads", kMaxHeads);
  config.kv_heads = fields.required("num_key_value_heads", kMaxHeads);
  config.head_dim = family_size(fields, "head_dim", kMaxHeadDim, 256, config);
  config.output_gate = fields.boolean("attn_output_gate").value_or(true);
  config.key_heads = family_size(fields, "linear_num_key_heads", kMaxHeads, 16, config);
  config.value_heads = fields.required("linear_num_value_heads", kMaxHeads);
  config.key_dim = family_size(fields, "linear_key_head_dim", kMaxHeadDim, 128, config);
  config.value_dim = family_size(fields, "linear_value_head_dim", kMaxHeadDim, 128, config);
  config.conv = family_size(fields, "linear_conv_kernel_dim", 1024, 4, config);
  config.context = family_size(fields, "max_position_embeddings", kMaxContext, 262144, config);
  if (const auto eps = fields.number("rms_norm_eps")) {
    config.eps = *eps;
  } else {
    note_guess(config, Severity::note, "rms_norm_eps", "1e-06");
  }
  config.tied = fields.boolean("tie_word_embeddings").value_or(false);
  const std::int64_t mtp = fields.integer("mtp_num_hidden_layers").value_or(0);
  config.mtp_layers = mtp == 0 ? 0 : bounded(mtp, "mtp_num_hidden_layers", kMaxMtpLayers);
  read_layer_types(fields, config);
  read_rope(fields, config);
  read_mlp(fields, config);
}

void read_vision(const Json& root, Config& config) {
  const Json* vision = get_object(root, "vision_config");
  if (vision == nullptr || get_bool(root, "language_model_only").value_or(false)) return;
  const auto size = [vision](std::string_view key, std::int64_t max, std::optional<std::int64_t> fallback) {
    const auto found = get_int(*vision, key);
    if (!found && !fallback) throw Error(ErrorCode::malformed, "'vision_config.{}' is missing", key).tensor(key);
    return bounded(found ? *found : *fallback, key, max);
  };
  // The fallbacks are the defaults of huggingface/transformers
  // src/transformers/models/qwen3_5/configuration_qwen3_5.py, except for out_hidden_size, which has to be the decoder's
  // width whatever that class says.
  VisionConfig tower;
  tower.depth = size("depth", kMaxLayers, std::nullopt);
  tower.hidden = size("hidden_size", kMaxWidth, std::nullopt);
  tower.intermediate = size("intermediate_size", kMaxWidth, 4304);
  tower.heads = size("num_heads", kMaxHeads, 16);
  tower.channels = size("in_channels", 16, 3);
  tower.patch = size("patch_size", 256, 16);
  tower.merge = size("spatial_merge_size", 16, 2);
  tower.positions = size("num_position_embeddings", kMaxVocab, 2304);
  tower.out_hidden = size("out_hidden_size", kMaxWidth, config.hidden);
  if (const auto pixels = get_int(*vision, "image_size")) tower.image_size = bounded(*pixels, "image_size", kMaxVocab);
  if (const auto frames = get_int(*vision, "temporal_patch_size"); frames && *frames != kTemporalPatch) {
    throw Error(ErrorCode::unsupported, "patches of {} frames", *frames).tensor("temporal_patch_size");
  }
  const Json* deepstack = get_array(*vision, "deepstack_visual_indexes");
  tower.deepstack = deepstack != nullptr && !deepstack->empty();
  config.vision = tower;
}

}  // namespace

Config config_from_json(const Json& json, bool moe) {
  Config config;
  config.moe = moe;
  try {
    read_text(Fields(json), config);
    read_vision(json, config);
    check_consistent(config);
  } catch (Error& error) {
    error.at(kConfigFile);
    throw;
  }
  return config;
}

}  // namespace regauge::qwen3_5
