#pragma once

#include <optional>
#include <string_view>

#include "ir/metadata.h"

namespace regauge {

/// The type in which llama.cpp insists on a number of a Qwen3.5 file, whose architecture's keys begin with `prefix`
/// ("qwen35"); nothing for other keys. Per-layer arrays are not meant.
std::optional<MetaType> gguf_key_type(std::string_view prefix, std::string_view key);

/// `value` in another type of number, when that holds it exactly, or for f32 the nearest one to an f64; else nothing.
std::optional<MetaValue> as_key_type(const MetaValue& value, MetaType type);

}  // namespace regauge
