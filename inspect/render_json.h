#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "inspect/map.h"
#include "inspect/report.h"
#include "inspect/stats.h"
#include "ir/checkpoint.h"

namespace regauge::inspect {

/// What goes into the document beside the report itself.
struct JsonExtras {
  std::string_view pattern;  ///< only tensors that match are listed; empty for all
  const PrecisionMap* map = nullptr;
  const TensorStats* stats = nullptr;
};

/// One document of schema "regauge.inspect/1", ending in a line feed; docs/json.md describes every field. Text that is not
/// UTF-8 is escaped as json_text() does (base/render.h).
std::string render_json(const Checkpoint& checkpoint, const Report& report, const JsonExtras& extras);

}  // namespace regauge::inspect
