#pragma once

#include "formats/format.h"

namespace regauge {

/// GGUF files of llama.cpp: models, adapters, mmproj, imatrix and vocabulary files, whole or split.
extern const Format kGgufFormat;

/// Opens a GGUF file, or all shards of a split one whichever of them is named: headers only. Shapes come out row-major;
/// keys are those of the first shard, `split.*` and `general.alignment` included. Data of big endian files comes out as
/// little endian. Throws Error{malformed|unsupported|not_found|io}.
Checkpoint open_gguf(const Source& source);

}  // namespace regauge
