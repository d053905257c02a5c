#pragma once

#include <vector>

#include "models/hf_files.h"
#include "models/qwen3_5/config.h"

namespace regauge::qwen3_5 {

/// See Architecture::hf_files. `config` is that of the keys; `vision` is what facts.vision says, null without it.
std::vector<TextFile> make_hf_files(const Config& config, const VisionConfig* vision, const Checkpoint& model,
                                    const HfFacts& facts, Findings& findings);

/// preprocessor_config.json and video_preprocessor_config.json. Throws Error{malformed} when mmproj has no usable
/// clip.vision.image_mean or image_std.
void append_processor_files(const VisionConfig& vision, const Checkpoint& mmproj, std::vector<TextFile>& files,
                            Findings& findings);

}  // namespace regauge::qwen3_5
