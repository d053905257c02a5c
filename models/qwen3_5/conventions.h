#pragma once

#include "ir/axis_map.h"
#include "ir/view.h"
#include "models/qwen3_5/config.h"
#include "models/qwen3_5/slots.h"

namespace regauge::qwen3_5 {

/// Hugging Face keeps value heads with their key head (head g * ratio + j serves key head g); GGUF files tile them, so
/// that head h there is served by key head h mod key_heads. The map from the first order to the second: `lead` elements
/// stay in front, then each head is a run of `unit`. Source: ggml-org/llama.cpp conversion/qwen.py,
/// _LinearAttentionVReorderBase.
AxisMap tile_value_heads(std::int64_t key_heads, std::int64_t value_heads, std::int64_t unit, std::int64_t lead = 0);

/// From the canonical matrix to a GGUF file's. Throws Error{unsupported} where the heads are not known.
View gguf_convention(const SlotKind& kind, const Config& config);

/// mlx-lm and mlx-vlm store the norms as 1 + w and nothing else differently, axes of length 1 aside.
/// Source: ml-explore/mlx-lm mlx_lm/models/qwen3_5.py, sanitize.
View mlx_convention(const SlotKind& kind);

}  // namespace regauge::qwen3_5
