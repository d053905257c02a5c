#pragma once

#include <string_view>

#include "base/json.h"

namespace regauge::safetensors {

/// A config.json without what quantizers put into it: `quantization` and `quantization_config`, at the top and in
/// text_config. Throws Error{invalid} when it is no object.
Json without_quantization(const Json& config);

/// Adds a key that `object` has not: in its place where the keys are sorted, as transformers and mlx-lm write them, else at
/// the end.
void set_sorted(Json& object, std::string_view key, Json value);

}  // namespace regauge::safetensors
