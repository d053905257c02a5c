#pragma once

#include <vector>

#include "models/architecture.h"
#include "models/qwen3_5/config.h"

namespace regauge::qwen3_5 {

/// Every weight that a model of these sizes has: text in layer order, then MTP, then the vision tower. Empty when the
/// sizes are not known. An mmproj file is expected to hold its tower, every other checkpoint may do without.
std::vector<ExpectedSlot> expected_slots(const Config& config);

}  // namespace regauge::qwen3_5
