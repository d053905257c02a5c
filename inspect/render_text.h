#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "inspect/map.h"
#include "inspect/report.h"
#include "inspect/stats.h"
#include "ir/checkpoint.h"

namespace regauge::inspect {

enum class Colour : std::uint8_t { none, ansi };

/// How wide and how colourful text may be.
struct TextStyle {
  std::size_t width = 100;
  Colour colour = Colour::none;
};

/// The one screen: what it is, how large, how precise, the table of components and the findings.
std::string render_summary(const Report& report, const TextStyle& style);

/// Tensors whose names match; `pattern` is as NamePattern takes it, empty for all.
std::uint64_t count_matches(const Checkpoint& checkpoint, std::string_view pattern);

/// One line for each tensor that matches, then their sum.
std::string render_tensors(const Checkpoint& checkpoint, const Report& report, std::string_view pattern);

/// The grid of blocks and kinds of weight.
std::string render_map(const PrecisionMap& map, const TextStyle& style);

/// Numbers and bars of one tensor.
std::string render_stats(const Checkpoint& checkpoint, const TensorStats& stats);

}  // namespace regauge::inspect
