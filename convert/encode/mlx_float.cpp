#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>

#include "base/error.h"
#include "base/half.h"
#include "convert/encode/mlx.h"
#include "convert/encode/range.h"
#include "convert/encode/rounding.h"

namespace regauge {
namespace {

/// 2^exponent, exact down to the smallest subnormal.
float power_of_two(int exponent) {
  if (exponent < -149) return 0.0F;
  if (exponent < -126) return std::bit_cast<float>(1U << (exponent + 149));
  return std::bit_cast<float>(static_cast<std::uint32_t>(exponent + 127) << 23);
}

/// value = mantissa * 2^exponent with a mantissa of 1 to 2, for a positive finite value.
struct Parts {
  int exponent;
  double mantissa;
};

Parts parts_of(float value) {
  // Every f32, subnormals included, is a normal f64.
  const auto bits = std::bit_cast<std::uint64_t>(static_cast<double>(value));
  const auto exponent = static_cast<int>((bits >> 52) & 0x7FF) - 1023;
  return {exponent, std::bit_cast<double>((bits & 0x000FFFFFFFFFFFFFU) | 0x3FF0000000000000U)};
}

/// 2^(2^-i) for i = 0, 1, ...: 2, sqrt(2), its root, and so on. IEEE 754 prescribes every bit of a square root.
const std::array<double, 28>& roots_of_two() {
  static const std::array<double, 28> roots = [] {
    std::array<double, 28> out{};
    out[0] = 2.0;
    for (std::size_t i = 1; i < out.size(); ++i) out[i] = std::sqrt(out[i - 1]);
    return out;
  }();
  return roots;
}

int significant_bits(DType dtype) { return dtype == DType::f32 ? 24 : dtype == DType::f16 ? 11 : 8; }

enum class Halves : std::uint8_t { to_even, away_from_zero };

/// round(log2(value)), the logarithm rounded to `dtype` first. Between k and k + 1 that is a matter of where the mantissa
/// lies beside sqrt(2), but all within half a step of `dtype` around there have the logarithm k + 1/2, a tie.
int rounded_log2(float value, DType dtype, Halves halves) {
  const auto [k, mantissa] = parts_of(value);
  if (mantissa == 1.0) return k;
  const auto& roots = roots_of_two();
  // 2 |k + 1/2| is odd; its magnitude says which step numbers of this size have.
  const int twice = k < 0 ? -2 * k - 1 : 2 * k + 1;
  const int binade = static_cast<int>(std::bit_width(static_cast<unsigned>(twice))) - 2;  // of |k + 1/2|
  const int steps = significant_bits(dtype) - binade;                                     // half a step is 2^-steps
  if (steps < 2) return mantissa > roots[1] ? k + 1 : k;  // numbers of this size are whole: no tie
  // Below 1/2 itself, the bottom of its binade, steps are half as long.
  const double outer = roots[static_cast<std::size_t>(steps)];
  const double inner = binade == -1 ? roots[static_cast<std::size_t>(steps) + 1] : outer;
  if (mantissa < roots[1] / (k < 0 ? outer : inner)) return k;
  if (mantissa > roots[1] * (k < 0 ? inner : outer)) return k + 1;
  if (halves == Halves::away_from_zero) return k < 0 ? k : k + 1;
  return k % 2 == 0 ? k : k + 1;
}

constexpr std::array<float, 8> kE2m1 = {0, 0.5F, 1, 1.5F, 2, 3, 4, 6};

/// The first of the sixteen e2m1 codes whose distance, rounded to `distance`, is the least: of two as near the smaller
/// magnitude, and never -0, which comes after 0. Where there is no distance (0 / 0), the very first.
std::uint8_t first_nearest_of_all(float value, DType distance) {
  std::uint8_t best = 0;
  float least = std::abs(rounded_to(distance, value));
  for (std::uint8_t code = 1; code < 16; ++code) {
    const float element = code < 8 ? kE2m1[code] : -kE2m1[code - 8];
    const float away = std::abs(rounded_to(distance, value - element));
    if (away < least) {
      least = away;
      best = code;
    }
  }
  return best;
}

/// The same by the two neighbours of a value: near the table, no rounding makes a third one as near. (Far away all are.)
std::uint8_t first_nearest_e2m1(float value, DType distance) {
  const float magnitude = std::abs(value);
  if (!(magnitude <= 16.0F)) return first_nearest_of_all(value, distance);
  std::size_t below = 0;
  while (below < 6 && kE2m1[below + 1] <= magnitude) ++below;
  const float to_below = rounded_to(distance, magnitude - kE2m1[below]);
  const float to_above = std::abs(rounded_to(distance, magnitude - kE2m1[below + 1]));
  const std::size_t nearest = to_above < to_below ? below + 1 : below;
  if (nearest == 0) return 0;
  return static_cast<std::uint8_t>(nearest + (value < 0 ? 8 : 0));
}

/// Metal's: halves to even, the sign kept even of 0.
/// Source: ml-explore/mlx mlx/backend/metal/kernels/fp4.h.
std::uint8_t even_nearest_e2m1(float value) {
  const float magnitude = std::abs(value);
  std::uint8_t code = 0;
  if (magnitude > 5.0F) {
    code = 7;
  } else if (magnitude >= 3.5F) {
    code = 6;
  } else if (magnitude > 2.5F) {
    code = 5;
  } else if (magnitude >= 1.75F) {
    code = 4;
  } else if (magnitude > 1.25F) {
    code = 3;
  } else if (magnitude >= 0.75F) {
    code = 2;
  } else if (magnitude > 0.25F) {
    code = 1;
  }
  return static_cast<std::uint8_t>(code | (std::signbit(value) ? 8U : 0U));
}

struct Scale {
  std::uint8_t byte;
  float value;
};

float largest_element(MlxFloatMode mode) { return mode == MlxFloatMode::mxfp8 ? 448.0F : 6.0F; }

Scale cpu_scale(MlxFloatMode mode, DType dtype, float largest) {
  const float scale = rounded_to(dtype, largest / largest_element(mode));
  if (mode == MlxFloatMode::nvfp4) {
    const std::uint8_t byte = mlx_e4m3(scale);
    return {byte, rounded_to(dtype, f8_e4m3_to_f32(byte, F8Flavour::mlx))};
  }
  const int exponent = scale == 0 ? 0 : rounded_log2(scale, dtype, Halves::to_even);
  return {static_cast<std::uint8_t>(exponent + 127), rounded_to(dtype, power_of_two(exponent))};
}

std::uint8_t cpu_code(MlxFloatMode mode, DType dtype, float value, const Scale& scale) {
  const float quotient = rounded_to(dtype, value / scale.value);
  if (mode == MlxFloatMode::mxfp8) return mlx_e4m3(quotient);
  return first_nearest_e2m1(quotient, mode == MlxFloatMode::nvfp4 ? DType::f32 : dtype);
}

Scale metal_scale(MlxFloatMode mode, float largest) {
  const float scale = largest / largest_element(mode);
  if (mode == MlxFloatMode::nvfp4) {
    const std::uint8_t byte = mlx_e4m3(scale);
    return {byte, f8_e4m3_to_f32(byte, F8Flavour::mlx)};
  }
  const int exponent =
      scale == 0 ? -127 : std::clamp(rounded_log2(scale, DType::f32, Halves::away_from_zero), -127, 127);
  return {static_cast<std::uint8_t>(exponent + 127), power_of_two(exponent)};
}

std::uint8_t metal_code(MlxFloatMode mode, float value, const Scale& scale) {
  const float quotient = scale.value == 0 ? 0.0F : value * (1.0F / scale.value);
  return mode == MlxFloatMode::mxfp8 ? mlx_e4m3(quotient) : even_nearest_e2m1(quotient);
}

}  // namespace

std::int64_t mlx_float_group(MlxFloatMode mode) noexcept { return mode == MlxFloatMode::nvfp4 ? 16 : 32; }

std::uint8_t mlx_e4m3(float value) noexcept {
  const auto sign = static_cast<std::uint8_t>(std::bit_cast<std::uint32_t>(value) >> 31 << 7);
  const float magnitude = std::abs(value);
  if (!(magnitude < 448.0F)) return static_cast<std::uint8_t>(sign | 0x7EU);
  // From 2^-6 on the step is an eighth of the power of two below, before that it stays 2^-9. Scaling by it is exact.
  const int exponent = magnitude < 0x1p-6F ? -6 : parts_of(magnitude).exponent;
  const auto mantissa = static_cast<int>(round_half_even(magnitude * power_of_two(3 - exponent)));
  // A normal mantissa is 8 to 16: its leading one, and a carry, add to the exponent field.
  return static_cast<std::uint8_t>(sign | static_cast<unsigned>((exponent + 6) * 8 + mantissa));
}

void encode_mlx_float(MlxFloatMode mode, DType dtype, std::span<const float> values, std::span<std::uint8_t> codes,
                      std::span<std::uint8_t> scales, MlxRule rule) {
  const auto width = static_cast<std::size_t>(mlx_float_group(mode));
  if (values.size() % width != 0 || codes.size() != values.size() || scales.size() != values.size() / width) {
    throw Error(ErrorCode::internal, "the parts of an MLX band do not belong together");
  }
  static_cast<void>(rounded_to(dtype, 0.0F));  // refuses other types
  require_finite(values);
  for (std::size_t g = 0; g < scales.size(); ++g) {
    const auto group = values.subspan(g * width, width);
    const Range range = range_of(group);
    const float largest = std::max(std::abs(range.low), std::abs(range.high));
    const Scale scale = rule == MlxRule::cpu ? cpu_scale(mode, dtype, largest) : metal_scale(mode, largest);
    scales[g] = scale.byte;
    for (std::size_t i = 0; i < width; ++i) {
      codes[g * width + i] =
          rule == MlxRule::cpu ? cpu_code(mode, dtype, group[i], scale) : metal_code(mode, group[i], scale);
    }
  }
}

}  // namespace regauge
