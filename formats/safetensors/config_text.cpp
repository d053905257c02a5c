#include "formats/safetensors/config_text.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace regauge::safetensors {

Json without_quantization(const Json& config) {
  if (!config.is_object()) throw Error(ErrorCode::invalid, "config.json is no object");
  Json out = config;
  const auto strip = [](Json& object) {
    object.erase("quantization");
    object.erase("quantization_config");
  };
  strip(out);
  if (const auto text = out.find("text_config"); text != out.end() && text->is_object()) strip(*text);
  return out;
}

void set_sorted(Json& object, std::string_view key, Json value) {
  Json::object_t sorted;
  bool is_sorted = true;
  std::string_view last;
  for (const auto& item : object.items()) {
    is_sorted = is_sorted && last <= item.key();
    last = item.key();
  }
  bool is_placed = false;
  for (auto& item : object.items()) {
    if (is_sorted && !is_placed && item.key() > key) {
      sorted.emplace_back(std::string(key), std::move(value));
      is_placed = true;
    }
    sorted.emplace_back(item.key(), std::move(item.value()));
  }
  if (!is_placed) sorted.emplace_back(std::string(key), std::move(value));
  object = Json(std::move(sorted));
}

}  // namespace regauge::safetensors
