#pragma once

#include <cstdint>
#include <span>

#include "convert/encode/mlx.h"
#include "convert/route/mlx_module.h"
#include "convert/route/repack_gptq.h"
#include "convert/route/row_maker.h"

namespace regauge {

// Routes that choose new codes: rows are decoded through the reference, brought into the target's convention, encoded as the
// target format's own quantizer does, and measured while they are hot. `target` must outlive the results.

/// ggml blocks, as convert/encode/ggml.h makes them. `importance` is empty, or has a weight for each column, of stacked
/// experts for each column of each expert; it must outlive the result. Throws Error{internal} when it has another size.
RowMakerPtr make_block_encoder(const Target& target, BlockType type, std::span<const float> importance = {});

/// The arrays weight, scales and biases of an affine MLX module. Values are rounded to the type of the scales first, as
/// mlx-lm casts a model before it quantizes it.
RowMakerPtr make_mlx_affine_encoder(const Target& target, const MlxAffine& module, MlxRule rule);

/// The arrays weight and scales of a module in one of MLX's float modes, from values of `dtype`, in which MLX calculates.
RowMakerPtr make_mlx_float_encoder(const Target& target, FloatBlocks mode, DType dtype, MlxRule rule);

/// The arrays of a GPTQ module, rounded to the nearest: `module` has its layout, bits, sym, group_size, index and groups.
RowMakerPtr make_gptq_encoder(const Target& target, GptqRepack module);

/// A module of contiguous groups of `group` columns (-1: all) that some quantizer is still to fill.
GptqRepack empty_gptq_module(GptqLayout layout, int bits, std::int64_t group, bool symmetric, std::int64_t columns);

}  // namespace regauge
