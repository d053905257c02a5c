#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "models/qwen3_5/config.h"

namespace regauge::qwen3_5 {

/// What tells the published models apart; what all of them share is not here.
struct PublishedSize {
  std::string_view label;  ///< "27B", "35B-A3B"
  bool moe;
  std::int64_t layers;
  std::int64_t hidden;
  std::int64_t intermediate;  ///< of the dense MLP, or of one expert
  std::int64_t heads;
  std::int64_t kv_heads;
  std::int64_t value_heads;
  std::int64_t experts;
};

/// Qwen3.5, smallest first; Qwen3.6 and 3.8 repeat some of the sizes.
std::span<const PublishedSize> published_sizes();

/// The published size with exactly these dimensions, or null.
const PublishedSize* find_published(const Config& config);

}  // namespace regauge::qwen3_5
