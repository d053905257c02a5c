#include "base/half.h"

namespace regauge {
namespace {

constexpr std::uint32_t kF32Infinity = 0x7F800000U;
constexpr std::uint32_t kF32QuietNan = 0x7FC00000U;

/// A small float without special values: sign, `exponent_bits` biased by `bias`, `mantissa_bits`, subnormals. The result
/// is exact because every such number is a normal f32.
float small_float(std::uint32_t bits, int exponent_bits, int mantissa_bits, int bias) noexcept {
  const std::uint32_t mantissa_mask = (1U << mantissa_bits) - 1;
  const std::uint32_t exponent_mask = (1U << exponent_bits) - 1;
  const std::uint32_t sign = (bits >> (exponent_bits + mantissa_bits)) & 1U;
  std::uint32_t mantissa = bits & mantissa_mask;
  int exponent = static_cast<int>((bits >> mantissa_bits) & exponent_mask);
  std::uint32_t out = sign << 31;
  if (exponent == 0) {
    if (mantissa == 0) return std::bit_cast<float>(out);
    exponent = 1;
    while ((mantissa & (1U << mantissa_bits)) == 0) {
      mantissa <<= 1;
      --exponent;
    }
    mantissa &= mantissa_mask;
  }
  out |= static_cast<std::uint32_t>(exponent - bias + 127) << 23;
  out |= mantissa << (23 - mantissa_bits);
  return std::bit_cast<float>(out);
}

}  // namespace

float half_corners::f16_to_f32(std::uint16_t bits) noexcept {
  if ((bits & 0x7C00U) == 0) return small_float(bits, 5, 10, 15);
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000U) << 16;
  const std::uint32_t mantissa = static_cast<std::uint32_t>(bits & 0x3FFU) << 13;
  return std::bit_cast<float>(sign | kF32Infinity | mantissa | (mantissa != 0 ? 0x00400000U : 0U));
}

std::uint16_t half_corners::f32_to_f16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > kF32Infinity) return static_cast<std::uint16_t>(sign | 0x7E00U);
  // 65520 is halfway between the largest half and 2^16; the tie goes to even, which is infinity.
  if (magnitude >= 0x477FF000U) return static_cast<std::uint16_t>(sign | 0x7C00U);
  const int exponent = static_cast<int>(magnitude >> 23) - 127;
  if (exponent < -25) return sign;
  // Below 2^-14 the step stays 2^-24, so fewer of the mantissa's bits are kept.
  const std::uint32_t mantissa = (magnitude & 0x7FFFFFU) | 0x800000U;
  const int drop = -1 - exponent;
  const std::uint32_t kept = mantissa >> drop;
  const std::uint32_t rest = mantissa & ((1U << drop) - 1);
  const std::uint32_t half = 1U << (drop - 1);
  return static_cast<std::uint16_t>(sign | (kept + ((rest > half || (rest == half && (kept & 1U) != 0)) ? 1U : 0U)));
}

float f8_e4m3_to_f32(std::uint8_t bits, F8Flavour flavour) noexcept {
  if (flavour == F8Flavour::ggml) {
    if (bits == 0x7F) return 0.0F;
    return small_float(bits & 0x7FU, 4, 3, 7);
  }
  if (flavour == F8Flavour::ocp && (bits & 0x7FU) == 0x7FU) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits & 0x80U) << 24 | kF32QuietNan);
  }
  return small_float(bits, 4, 3, 7);
}

float f8_e4m3fnuz_to_f32(std::uint8_t bits) noexcept {
  if (bits == 0x80) return std::bit_cast<float>(kF32QuietNan);
  return small_float(bits, 4, 3, 8);
}

float f8_e5m2_to_f32(std::uint8_t bits) noexcept { return f16_to_f32(static_cast<std::uint16_t>(bits << 8)); }

float f8_e5m2fnuz_to_f32(std::uint8_t bits) noexcept {
  if (bits == 0x80) return std::bit_cast<float>(kF32QuietNan);
  return small_float(bits, 5, 2, 16);
}

float f8_e8m0_to_f32(std::uint8_t bits, F8Flavour flavour) noexcept {
  if (bits == 0) return std::bit_cast<float>(0x00400000U);
  if (bits == 255 && flavour != F8Flavour::mlx) return std::bit_cast<float>(kF32QuietNan);
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 23);
}

float f8_e8m0_half_to_f32(std::uint8_t bits) noexcept {
  if (bits < 2) return std::bit_cast<float>(0x00200000U << bits);
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits - 1) << 23);
}

float f4_e2m1_to_f32(std::uint8_t bits) noexcept { return small_float(bits & 0xFU, 2, 1, 1); }
float f6_e2m3_to_f32(std::uint8_t bits) noexcept { return small_float(bits & 0x3FU, 2, 3, 1); }
float f6_e3m2_to_f32(std::uint8_t bits) noexcept { return small_float(bits & 0x3FU, 3, 2, 3); }

}  // namespace regauge
