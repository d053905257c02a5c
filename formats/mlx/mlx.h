#pragma once

#include "formats/format.h"

namespace regauge {

/// MLX checkpoints, quantized in any mode or dense, with or without an adapter; written as directories.
extern const Format kMlxFormat;

/// Opens an MLX checkpoint, a directory or a single file: one Grouped tensor `<module>.weight` per quantized module,
/// everything else as open_safetensors() gives it. Headers and configs only. Throws Error{malformed|unsupported|io}.
Checkpoint open_mlx(const Source& source, const OpenOptions& options = {});

}  // namespace regauge
