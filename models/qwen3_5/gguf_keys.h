#pragma once

#include "base/finding.h"
#include "ir/checkpoint.h"
#include "ir/metadata.h"
#include "models/architecture.h"
#include "models/qwen3_5/config.h"

namespace regauge::qwen3_5 {

/// See Architecture::gguf_metadata. Sources of keys, types and order: ggml-org/llama.cpp conversion/base.py,
/// conversion/qwen.py, conversion/qwen3vl.py, gguf-py/gguf/metadata.py.
Metadata make_gguf_keys(const Config& config, const Checkpoint& source, OutputKind kind, const GgufFacts& facts,
                        Findings& findings);

/// The keys that only a vision tower's file has, from clip.has_vision_encoder on. Throws Error{not_found} without a
/// preprocessor_config.json or processor_config.json.
void append_mmproj_keys(const Config& config, const Checkpoint& source, Metadata& keys);

}  // namespace regauge::qwen3_5
