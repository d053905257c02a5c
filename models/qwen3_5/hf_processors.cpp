#include "base/error.h"
#include "models/qwen3_5/hf_config.h"

namespace regauge::qwen3_5 {
namespace {

constexpr std::string_view kImages = "preprocessor_config.json";
constexpr std::string_view kVideos = "video_preprocessor_config.json";

Json colours(const Metadata& keys, std::string_view key) {
  const MetaArray* array = keys.get_array(key);
  const auto* values = array == nullptr ? nullptr : std::get_if<std::vector<float>>(&array->values);
  if (values == nullptr || values->size() != 3) {
    throw Error(ErrorCode::malformed, "'{}' is no array of three numbers", key).tensor(key);
  }
  Json out = Json::array();
  for (const float value : *values) out.push_back(decimal(static_cast<double>(value), key));
  return out;
}

/// Pixels of a resized image. Both files of every published model of the family have these limits.
struct Pixels {
  std::int64_t longest;
  std::int64_t shortest;
};
constexpr Pixels kImagePixels{16'777'216, 65'536};
constexpr Pixels kVideoPixels{25'165'824, 4'096};
constexpr std::uint64_t kMaxPixels = std::uint64_t{1} << 32;

/// Newer converters write the limits of images for some projectors; the loader takes them for any.
/// Source: ggml-org/llama.cpp tools/mtmd/clip-impl.h, KEY_IMAGE_MIN_PIXELS and KEY_IMAGE_MAX_PIXELS.
Pixels image_pixels(const Metadata& keys, Findings& findings) {
  const auto longest = keys.get_uint("clip.vision.image_max_pixels");
  const auto shortest = keys.get_uint("clip.vision.image_min_pixels");
  if (!longest || !shortest) {
    note_guess(findings, Severity::note, "config-guessed",
               "no key gives the sizes between which images are resized; written as published", kImages, "size");
    return kImagePixels;
  }
  const auto checked = [](std::uint64_t value, std::string_view key) {
    if (value > kMaxPixels) throw Error(ErrorCode::malformed, "'{}' is {}", key, value).tensor(key);
    return static_cast<std::int64_t>(value);
  };
  return {checked(*longest, "clip.vision.image_max_pixels"), checked(*shortest, "clip.vision.image_min_pixels")};
}

Json processor(const VisionConfig& vision, const Metadata& keys, const Pixels& pixels) {
  return {{"size", {{"longest_edge", pixels.longest}, {"shortest_edge", pixels.shortest}}},
          {"patch_size", vision.patch},
          {"temporal_patch_size", kTemporalPatch},
          {"merge_size", vision.merge},
          {"image_mean", colours(keys, "clip.vision.image_mean")},
          {"image_std", colours(keys, "clip.vision.image_std")},
          {"processor_class", "Qwen3VLProcessor"}};
}

/// What the tower's keys may say and no configuration can.
void note_fixed_values(const Metadata& keys, Findings& findings) {
  constexpr std::string_view kGelu = "clip.use_gelu";
  constexpr std::string_view kEpsilon = "clip.vision.attention.layer_norm_epsilon";
  if (!keys.get_bool(kGelu).value_or(true)) {
    note_guess(findings, Severity::warning, "config-guessed",
               "the key names another activation than GELU, which is all that the family's tower has", "config.json",
               kGelu);
  }
  // Source: huggingface/transformers src/transformers/models/qwen3_vl/modeling_qwen3_vl.py, LayerNorm(eps=1e-6).
  constexpr float kFamilyEpsilon = 1e-6F;
  const double epsilon = keys.get_float(kEpsilon).value_or(static_cast<double>(kFamilyEpsilon));
  if (epsilon != static_cast<double>(kFamilyEpsilon) && epsilon != 1e-6) {
    note_guess(findings, Severity::warning, "config-guessed",
               "the key's epsilon has no entry in a configuration: readers take 1e-06", "config.json", kEpsilon);
  }
}

}  // namespace

// Order, indentation and constants are those of the published files: for the tower of the large models both come out byte
// for byte.
void append_processor_files(const VisionConfig& vision, const Checkpoint& mmproj, std::vector<TextFile>& files,
                            Findings& findings) {
  try {
    note_fixed_values(mmproj.metadata, findings);
    Json images = processor(vision, mmproj.metadata, image_pixels(mmproj.metadata, findings));
    images["image_processor_type"] = "Qwen2VLImageProcessorFast";
    Json videos = processor(vision, mmproj.metadata, kVideoPixels);
    videos["video_processor_type"] = "Qwen3VLVideoProcessor";
    note_guess(findings, Severity::note, "config-guessed",
               "no key gives the sizes between which frames are resized; written as published", kVideos, "size");
    files.push_back({std::string(kImages), render_json(images, 4)});
    files.push_back({std::string(kVideos), render_json(videos, 4)});
  } catch (Error& error) {
    error.at(mmproj.files.empty() ? mmproj.path : mmproj.files.front().name);
    throw;
  }
}

}  // namespace regauge::qwen3_5
