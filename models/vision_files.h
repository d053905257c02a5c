#pragma once

#include <vector>

#include "base/finding.h"
#include "base/json.h"
#include "ir/checkpoint.h"
#include "models/hf_files.h"

namespace regauge {

/// What a Hugging Face or MLX directory says of a vision tower.
struct VisionFiles {
  Json config;                  ///< `vision_config`
  std::vector<TextFile> files;  ///< of the processors
};

/// The config.json of the multimodal class made of that of the text class, still without a vision_config. Throws Error{invalid} for
/// a class that has no such counterpart.
Json multimodal_config(const Json& text_class);

/// That of the tower in an mmproj file. Throws Error{invalid} for a tower that is none of ours, Error{malformed} for one
/// without usable image statistics. What no key says is appended to `findings`.
VisionFiles vision_files(const Checkpoint& mmproj, bool moe, Findings& findings);

}  // namespace regauge
