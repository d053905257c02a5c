#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "convert/route/repack_fp.h"
#include "convert/route/row_maker.h"

namespace regauge {

/// Width and parameters of an affine MLX module.
struct MlxAffine {
  int bits = 4;
  std::int64_t group = 64;
  DType dtype = DType::bf16;  ///< of scales and biases
};

/// Stores `values` as F32, F16 or BF16, rounding to nearest even; `out` holds exactly those.
void store_floats(DType dtype, std::span<const float> values, std::span<std::byte> out);

/// The values of whole rows of an affine module from its arrays weight, scales, biases; `out` holds rows * columns.
void decode_mlx_affine(const MlxAffine& module, std::int64_t columns, StoredBuffers stored, Scratch& scratch,
                       std::span<float> out);

/// The same for the float modes, from weight and scales.
void decode_mlx_floats(FloatBlocks mode, std::int64_t columns, StoredBuffers stored, Scratch& scratch,
                       std::span<float> out);

}  // namespace regauge
