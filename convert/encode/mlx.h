#pragma once

#include <cstdint>
#include <span>

#include "ir/dtype.h"

namespace regauge {

// What mx.quantize makes of weights. MLX has two sets of rules that differ in corners, by the device it runs on: proved
// against MLX's own output is the first only.
// Sources: ml-explore/mlx mlx/ops.cpp, mlx/backend/cpu/quantized.cpp, mlx/backend/metal/kernels/quantized.h,
// fp_quantized.h, fp4.h, fp8.h (commit 846d176).
enum class MlxRule : std::uint8_t {
  cpu,    ///< halves to even; bit-equal to MLX 0.32.2 on x86-64
  metal,  ///< what the GPU kernels say: halves away from zero, a range that includes 0. By reading, never compared.
};

/// Whether mx.quantize takes them: bits 2, 3, 4, 5, 6 or 8, groups of 32, 64 or 128.
bool mlx_affine_is_legal(int bits, std::int64_t group) noexcept;

/// Quantizes whole groups to codes q, scales s and biases b with weight = s * q + b. `dtype` (F32, F16, BF16) is the type of
/// the weights, which hold it exactly already, and of scales and biases, which come out rounded to it; codes are chosen
/// with both unrounded. One code a byte, one scale and bias a group. A scale is never 0 unless it underflows `dtype`; it may
/// be negative, and infinite where the range of a group is. Throws Error{unsupported} for NaN and infinities, whose
/// code MLX leaves undefined, and for bits, groups and types that MLX does not take; Error{internal} when the spans do not
/// belong together. Safe from any number of threads.
void encode_mlx_affine(int bits, std::int64_t group, DType dtype, std::span<const float> values,
                       std::span<std::uint8_t> codes, std::span<float> scales, std::span<float> biases,
                       MlxRule rule = MlxRule::cpu);

enum class MlxFloatMode : std::uint8_t {
  mxfp4,  ///< e2m1 codes, an e8m0 scale for 32
  mxfp8,  ///< e4m3 codes, an e8m0 scale for 32
  nvfp4,  ///< e2m1 codes, an e4m3 scale for 16
};

/// Weights that share a scale: 32 or 16.
std::int64_t mlx_float_group(MlxFloatMode mode) noexcept;

/// Quantizes whole groups to small floats, one code and for each group one scale a byte. `dtype` (F32, F16, BF16) is the
/// type of the weights, which hold it exactly already: on a CPU, MLX calculates in it. There a power of two is the nearest
/// to largest / 6 (largest / 448) by a logarithm that is itself rounded to `dtype`, and below 2^-127 its byte wraps round to
/// a huge scale, as MLX's own does; MLX's versions after 0.32.2 and its GPU kernels choose others. Throws Error{unsupported}
/// for NaN and infinities and for other types; Error{internal} when the spans do not belong together. Safe from any number
/// of threads.
void encode_mlx_float(MlxFloatMode mode, DType dtype, std::span<const float> values, std::span<std::uint8_t> codes,
                      std::span<std::uint8_t> scales, MlxRule rule = MlxRule::cpu);

/// The nearest e4m3 as MLX encodes it: halves to even, no more than 448, NaN as 448 too.
std::uint8_t mlx_e4m3(float value) noexcept;

}  // namespace regauge
