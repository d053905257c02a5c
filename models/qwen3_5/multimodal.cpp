#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "base/error.h"
#include "models/qwen3_5/qwen3_5.h"

namespace regauge::qwen3_5 {
namespace {

// What the multimodal class has at the root of config.json; every other key of the text class is one of its text_config. Source:
// Qwen/Qwen3.5-27B config.json.
constexpr std::array<std::string_view, 10> kOfTheRoot{
    "architectures",  "model_type",          "transformers_version", "quantization_config",   "quantization",
    "image_token_id", "language_model_only", "video_token_id",       "vision_start_token_id", "vision_end_token_id"};

}  // namespace

Json multimodal_config(const Json& text_class) {
  const bool object = text_class.is_object() && !text_class.contains("text_config");
  const std::string type = object ? get_string(text_class, "model_type").value_or("") : "";
  const bool moe = type == "qwen3_5_moe_text" || type == "qwen3_5_moe";
  if (!moe && type != "qwen3_5_text" && type != "qwen3_5") {
    throw Error(ErrorCode::invalid, "model_type '{}' is none of a text class of Qwen3.5", type)
        .tensor("model_type")
        .at("config.json");
  }
  const std::string family = moe ? "qwen3_5_moe" : "qwen3_5";
  Json text = Json::object();
  text["model_type"] = family + "_text";
  for (const auto& [key, value] : text_class.items()) {
    if (std::ranges::find(kOfTheRoot, key) == kOfTheRoot.end()) text[key] = value;
  }
  Json root = Json::object();
  root["architectures"] = Json::array({moe ? "Qwen3_5MoeForConditionalGeneration" : "Qwen3_5ForConditionalGeneration"});
  root["model_type"] = family;
  root["text_config"] = std::move(text);
  // Readers differ in where they look for this one; published files have it in either place.
  root["tie_word_embeddings"] = get_bool(text_class, "tie_word_embeddings").value_or(false);
  for (const std::string_view key : kOfTheRoot) {
    const std::string name(key);
    if (!root.contains(name) && text_class.contains(name)) root[name] = text_class[name];
  }
  return root;
}

}  // namespace regauge::qwen3_5
