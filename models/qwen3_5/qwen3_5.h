#pragma once

#include <memory>

#include "models/architecture.h"
#include "models/qwen3_5/config.h"
#include "models/qwen3_5/names.h"
#include "models/vision_files.h"

namespace regauge::qwen3_5 {

/// The architecture when `checkpoint` names this family: a model_type or architectures entry of config.json, or
/// general.architecture qwen35, qwen35moe or (a tower without DeepStack) clip. See regauge::recognise().
std::unique_ptr<const Architecture> recognise(const Checkpoint& checkpoint);

/// See regauge::recognise_by_data().
std::unique_ptr<const Architecture> recognise_by_data(const Checkpoint& checkpoint, Findings& findings);

/// See regauge::vision_files().
VisionFiles vision_files(const Checkpoint& mmproj, bool moe, Findings& findings);

/// See regauge::multimodal_config().
Json multimodal_config(const Json& text_class);

}  // namespace regauge::qwen3_5
