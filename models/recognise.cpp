#include "models/architecture.h"
#include "models/qwen3_5/qwen3_5.h"
#include "models/vision_files.h"

namespace regauge {

std::string_view name(OutputKind kind) {
  switch (kind) {
    case OutputKind::model: return "model";
    case OutputKind::mmproj: return "mmproj";
    case OutputKind::mtp: return "mtp";
    case OutputKind::adapter: return "adapter";
  }
  return "?";
}

VisionFiles vision_files(const Checkpoint& mmproj, bool moe, Findings& findings) {
  return qwen3_5::vision_files(mmproj, moe, findings);
}

Json multimodal_config(const Json& text_class) { return qwen3_5::multimodal_config(text_class); }

// A new architecture adds its line here and a folder of its own.
std::unique_ptr<const Architecture> recognise(const Checkpoint& checkpoint) { return qwen3_5::recognise(checkpoint); }

}  // namespace regauge
