#pragma once

#include <cstddef>
#include <vector>

#include "formats/format.h"

namespace regauge::safetensors {

// EoRA: factors of rank r that correct a quantized weight, W = decode + B * A with A [r, K] and B [N, r]. They come in three
// places: an adapter directory (adapter_config.json beside adapter_model.safetensors, in PEFT's names), inside the model as
// `<module>.lora_A` [K, r] and `<module>.lora_B` [r, N], or a file of NVlabs' original with PEFT's names and no config.
// Sources: ModelCloud/GPTQModel gptqmodel/adapter/adapter.py, gptqmodel/adapter/peft.py and
// gptqmodel/nn_modules/qlinear/__init__.py; NVlabs/EoRA.

/// Appends the files, arrays and tensors of the adapter that `options` name, or of the one that lies inside the directory
/// (in a folder of its own, or beside the shards), to `checkpoint`, and what adapter_config.json says to its findings.
/// Throws Error{not_found} when the named adapter is none, Error{unsupported} for DoRA and other adapters that are no plain
/// product.
void append_adapter(Checkpoint& checkpoint, const Source& source, const OpenOptions& options);

/// Attaches low-rank factors to the weights of `checkpoint` that they correct: those of append_adapter() and those among its
/// own arrays become parts lowrank_a and lowrank_b. Names are matched by suffix and without regard to case; orientation
/// goes by shape, and by suffix where the shapes allow both. A checkpoint of factors alone stays as it is. Throws
/// Error{malformed} for factors whose ranks or sizes do not fit, or half a pair; and as append_adapter().
void attach_low_rank(Checkpoint& checkpoint, const Source& source, const OpenOptions& options);

}  // namespace regauge::safetensors
