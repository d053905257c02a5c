#pragma once

#include "base/error.h"
#include "base/half.h"
#include "ir/dtype.h"

namespace regauge {

/// rint() in the default rounding mode, halves to even, as two additions: no mode of the processor and no libm decides.
inline float round_half_even(float value) noexcept {
  constexpr float kWhole = 8388608.0F;  // 2^23: from here on every float is whole, and adding it drops the fraction
  const float magnitude = value < 0 ? -value : value;
  if (!(magnitude < kWhole)) return value;  // NaN too
  const float rounded = (magnitude + kWhole) - kWhole;
  return value < 0 ? -rounded : rounded;
}

/// round(): halves away from zero.
inline float round_half_away(float value) noexcept {
  const float magnitude = value < 0 ? -value : value;
  if (!(magnitude < 8388608.0F)) return value;
  const auto whole = static_cast<float>(static_cast<int>(magnitude));
  const float rounded = magnitude - whole >= 0.5F ? whole + 1.0F : whole;
  return value < 0 ? -rounded : rounded;
}

/// The nearest number of F32, F16 or BF16, halves to even. Throws Error{unsupported} for another type.
inline float rounded_to(DType dtype, float value) {
  switch (dtype) {
    case DType::f32: return value;
    case DType::f16: return f16_to_f32(f32_to_f16(value));
    case DType::bf16: return bf16_to_f32(f32_to_bf16(value));
    default: throw Error(ErrorCode::unsupported, "arithmetic is done in F32, F16 or BF16, not in {}", name(dtype));
  }
}

}  // namespace regauge
