#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "formats/format.h"

namespace regauge {

/// One safetensors file, or a Hugging Face directory of them.
extern const Format kSafetensorsFormat;

/// Opens a file or directory into stored arrays and one Dense tensor per array (Opaque where a row is no whole number
/// of bytes): what the gptq and mlx readers build on. Arrays come in file order, and by offset within a file; `tensors`
/// and `arrays` run in parallel. Headers only. Throws Error{malformed|unsupported|not_found|io}.
Checkpoint open_safetensors(const Source& source, const OpenOptions& options = {});

/// What the headers alone tell, for bids.
struct SafetensorsGlance {
  bool is_safetensors = false;     ///< by name or first bytes; what is wrong with it comes out when it is opened
  std::optional<Json> config;      ///< config.json of a directory, when it is a readable object
  std::vector<std::string> names;  ///< of all arrays of all shards; empty when a header is broken
};

/// Looks without judging: throws nothing for a broken file, which is left for open_safetensors to explain.
SafetensorsGlance glance(const Source& source);

}  // namespace regauge
