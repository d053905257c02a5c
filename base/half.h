#pragma once

#include <bit>
#include <cstdint>

namespace regauge {

// Conversions between f32 and the small float types, one value at a time. All are pure integer work: no rounding mode, no
// flush-to-zero setting and no CPU feature can change a bit. Source of every corner: facts of the format owners, as
// docs/decoding.md lists them; tested over every bit pattern.

namespace half_corners {
/// What is not a normal number before and after.
float f16_to_f32(std::uint16_t bits) noexcept;
std::uint16_t f32_to_f16(float value) noexcept;
}  // namespace half_corners

/// binary16 to f32, exact. A signalling NaN comes out quiet with its payload kept, as F16C hardware does.
inline float f16_to_f32(std::uint16_t bits) noexcept {
  const std::uint32_t magnitude = bits & 0x7FFFU;
  if (magnitude - 0x0400U >= 0x7C00U - 0x0400U) return half_corners::f16_to_f32(bits);
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000U) << 16;
  return std::bit_cast<float>(sign | ((magnitude << 13) + (112U << 23)));
}

/// f32 to binary16, round to nearest even, subnormals kept, overflow to infinity, every NaN to sign | 0x7E00 (as ggml).
inline std::uint16_t f32_to_f16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude - 0x38800000U >= 0x477FF000U - 0x38800000U) return half_corners::f32_to_f16(value);
  // The bits dropped round by a carry that ripples into the exponent.
  const std::uint32_t rebased = magnitude - (112U << 23);
  return static_cast<std::uint16_t>((bits >> 16 & 0x8000U) | ((rebased + 0xFFFU + ((rebased >> 13) & 1U)) >> 13));
}

/// bfloat16 to f32, exact; the bits are the upper half.
inline float bf16_to_f32(std::uint16_t bits) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}
/// f32 to bfloat16, round to nearest even; NaN keeps its upper payload and becomes quiet (as ggml).
inline std::uint16_t f32_to_bf16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

/// Who reads the corner bytes of the 8-bit types, where the owners disagree.
enum class F8Flavour : std::uint8_t {
  ocp,   ///< e4m3 0x7F and 0xFF are NaN; e8m0 255 is NaN
  mlx,   ///< e4m3 0x7F and 0xFF are +-480; e8m0 255 is +infinity
  ggml,  ///< NVFP4 scale e4m3: sign ignored, 0x7F is 0, 0xFF is 480; e8m0 255 is 2^128 that overflows only after halving
};

/// e4m3fn (bias 7). `ocp` and `mlx` read the sign; `ggml` ignores bit 7 and gives 0 for exactly 0x7F.
float f8_e4m3_to_f32(std::uint8_t bits, F8Flavour flavour = F8Flavour::ocp) noexcept;
/// e4m3fnuz (bias 8, no negative zero, 0x80 is NaN).
float f8_e4m3fnuz_to_f32(std::uint8_t bits) noexcept;
/// e5m2 (bias 15, IEEE-like with infinities and NaN).
float f8_e5m2_to_f32(std::uint8_t bits) noexcept;
/// e5m2fnuz (bias 16, no infinities, 0x80 is NaN).
float f8_e5m2fnuz_to_f32(std::uint8_t bits) noexcept;
/// e8m0: 2^(bits - 127); 0 is the f32 subnormal 2^-127. 255: NaN (`ocp`) or +infinity (`mlx`).
float f8_e8m0_to_f32(std::uint8_t bits, F8Flavour flavour = F8Flavour::ocp) noexcept;
/// ggml's MXFP4 scale: 2^(bits - 128), so that it pairs with doubled e2m1 values. 255 gives 2^127, no NaN.
float f8_e8m0_half_to_f32(std::uint8_t bits) noexcept;
/// e2m1, low four bits: 0 0.5 1 1.5 2 3 4 6 and their negatives; 8 is -0.
float f4_e2m1_to_f32(std::uint8_t bits) noexcept;
/// e2m3 and e3m2, low six bits, no infinities and no NaN (OCP MX).
float f6_e2m3_to_f32(std::uint8_t bits) noexcept;
float f6_e3m2_to_f32(std::uint8_t bits) noexcept;

}  // namespace regauge
