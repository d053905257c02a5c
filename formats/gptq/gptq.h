#pragma once

#include "formats/format.h"

namespace regauge {

/// GPTQ checkpoints (v1, v2, planar) and serialised Marlin ones, with or without EoRA factors; read only.
extern const Format kGptqFormat;

/// Opens a GPTQ or Marlin checkpoint, a directory or a single file: one Grouped tensor `<module>.weight` per quantized module,
/// everything else as open_safetensors() gives it. Opening reads headers, configs and, to tell the zero point convention, a
/// few kilobytes of qzeros (formats/gptq/zeros.h); OpenOptions::zeros overrules that. Throws Error{malformed|unsupported|io}.
Checkpoint open_gptq(const Source& source, const OpenOptions& options = {});

}  // namespace regauge
