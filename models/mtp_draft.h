#pragma once

#include "ir/checkpoint.h"
#include "models/architecture.h"

namespace regauge {

/// Whether any tensor of `checkpoint` is of an MTP layer, whatever its configuration announces. Goes by names and
/// shapes.
bool has_mtp_tensors(const Checkpoint& checkpoint, const Architecture& architecture);

/// Whether `checkpoint` is a draft file: a GGUF with MTP blocks, the embedding, final norm and head that they share
/// with the model, and none of the model's own blocks. llama.cpp loads such a file beside the model's. Source:
/// ggml-org/llama.cpp conversion/qwen.py (--mtp) and src/models/qwen35.cpp.
bool is_mtp_draft(const Checkpoint& checkpoint, const Architecture& architecture);

}  // namespace regauge
