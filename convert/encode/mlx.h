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

}  // namespace regauge
