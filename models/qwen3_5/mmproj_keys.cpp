#include <cmath>

#include "base/error.h"
#include "base/limits.h"
#include "models/gguf_general.h"
#include "models/qwen3_5/gguf_keys.h"

namespace regauge::qwen3_5 {
namespace {

/// Mean or deviation per colour, which the loader requires and no configuration of the model tells.
MetaArray colours(const Json& processor, std::string_view key, std::string_view file) {
  const Json* values = get_array(processor, key);
  if (values == nullptr) throw Error(ErrorCode::not_found, "'{}' is missing", key).at(file).tensor(key);
  if (values->size() != 3) {
    throw Error(ErrorCode::malformed, "'{}' has {} entries where 3 are expected", key, values->size())
        .at(file)
        .tensor(key);
  }
  std::vector<float> numbers;
  for (const Json& value : *values) {
    if (!value.is_number()) {
      throw Error(ErrorCode::malformed, "'{}' holds something other than numbers", key).at(file).tensor(key);
    }
    numbers.push_back(to_f32(value.get<double>(), key));
  }
  return MetaArray{MetaType::f32, std::move(numbers)};
}

struct Processor {
  Json json;
  std::string_view file;
};

/// preprocessor_config.json, or what newer transformers saves in its place: processor_config.json with the same object
/// one level down.
Processor read_processor(const Checkpoint& source) {
  constexpr std::string_view kOwn = "preprocessor_config.json";
  constexpr std::string_view kJoint = "processor_config.json";
  if (auto own = json_sidecar(source, kOwn, kMaxConfigBytes)) return {*std::move(own), kOwn};
  if (auto joint = json_sidecar(source, kJoint, kMaxConfigBytes)) {
    const Json* inner = get_object(*joint, "image_processor");
    return {inner == nullptr ? *std::move(joint) : Json(*inner), kJoint};
  }
  throw Error(ErrorCode::not_found,
              "the vision tower's file needs the means and deviations of {}; --drop vision leaves the tower out", kOwn)
      .at(kOwn);
}

}  // namespace

void append_mmproj_keys(const Config& config, const Checkpoint& source, Metadata& keys) {
  if (!config.vision) throw Error(ErrorCode::invalid, "the configuration describes no vision tower").at("config.json");
  const VisionConfig& tower = *config.vision;
  if (tower.deepstack) {
    throw Error(ErrorCode::unsupported, "a vision tower with DeepStack mergers")
        .at("config.json")
        .tensor("deepstack_visual_indexes");
  }
  const Processor processor = read_processor(source);
  const auto u32 = [&keys](std::string_view key, std::int64_t value) {
    const std::string name = "clip.vision." + std::string(key);
    keys.set(name, to_u32(value, name));
  };
  // The converter's int(sqrt(positions) * patch), where the configuration gives no size.
  const auto side = std::sqrt(static_cast<double>(tower.positions)) * static_cast<double>(tower.patch);

  keys.set("clip.has_vision_encoder", true);
  u32("projection_dim", config.hidden);
  u32("image_size", tower.image_size.value_or(static_cast<std::int64_t>(side)));
  u32("patch_size", tower.patch);
  u32("embedding_length", tower.hidden);
  u32("feed_forward_length", tower.intermediate);
  u32("block_count", tower.depth);
  u32("attention.head_count", tower.heads);
  keys.set("clip.vision.image_mean", colours(processor.json, "image_mean", processor.file));
  keys.set("clip.vision.image_std", colours(processor.json, "image_std", processor.file));
  keys.set("clip.projector_type", std::string("qwen3vl_merger"));
  keys.set("clip.use_gelu", true);
  u32("spatial_merge_size", tower.merge);
  keys.set("clip.vision.attention.layer_norm_epsilon", to_f32(config.eps, "rms_norm_eps"));
  keys.set("clip.vision.is_deepstack_layers",
           MetaArray{MetaType::boolean, std::vector<std::uint8_t>(static_cast<std::size_t>(tower.depth))});
}

}  // namespace regauge::qwen3_5
