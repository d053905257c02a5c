#pragma once

#include "convert/plan.h"

namespace regauge {

/// The keys of a planned GGUF output: those of the source when it is a GGUF itself (its split keys and alignment taken
/// out, its file type set anew), else what the architecture makes of the configuration and the files beside it.
Metadata gguf_keys(const Checkpoint& source, const Architecture* architecture, const PlannedOutput& output,
                   int mtp_layers, const ConvertOptions& options, Findings& findings);

/// general.file_type by the most common type among matrices. Source: ggml-org/llama.cpp include/llama.h, llama_ftype.
std::uint32_t gguf_file_type(const PlannedOutput& output);

/// A title made of a path's last component, as llama.cpp's converter falls back to: hyphens become spaces and words of
/// lower-case letters get a capital.
std::string title_from_path(const std::filesystem::path& path);

}  // namespace regauge
