#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "convert/encode/block_encoders.h"
#include "convert/encode/ggml_arithmetic.h"
#include "convert/encode/scale_search.h"

namespace regauge::ggml_encode {
namespace {

/// floorf(log2f(value)) for a positive value, as the reference has it: log2f rounds to the next integer for values right
/// below a power of two, and the further the power is from 2^0 the more of them. No libm: how many is worked out from the
/// distance at which a float next to that integer would be nearer.
int floor_of_rounded_log2(float value) noexcept {
  // Nothing rounds up further from a power than 45 of 2^24 steps, which is at 2^127; 256 are on the safe side.
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFU) < 0x7FFF00U && bits >= 0x00800000U) return static_cast<int>(bits >> 23U) - 127;
  int exponent = 0;
  const float fraction = std::frexp(value, &exponent);  // in [0.5, 1): value = fraction * 2^exponent
  const int below = exponent - 1;
  if (exponent == 0) return below;
  // log2(fraction) = -(1 - fraction) / ln 2 up to its square. Half the distance to the next float below `exponent` is how
  // far the logarithm may be off and still round to it.
  const auto integer = static_cast<float>(exponent);
  const float next = std::nextafter(integer, -std::numeric_limits<float>::infinity());
  const double half = (static_cast<double>(integer) - static_cast<double>(next)) / 2;
  constexpr double kInverseLn2 = 1.4426950408889634;
  const double gap = 1.0 - static_cast<double>(fraction);
  return gap * (1 + gap / 2) * kInverseLn2 <= half ? exponent : below;
}

void encode_mxfp4_block(const Kernels& kernels, Values<32> x, Weights /*ignored*/, Block<17> out) noexcept {
  const float largest = magnitude(signed_extreme(x));
  // A scale below the smallest exponent wraps around, as the reference's conversion to a byte does.
  const auto exponent = static_cast<std::uint8_t>(largest > 0 ? floor_of_rounded_log2(largest) - 2 + 127 : 0);
  const float scale = f8_e8m0_half_to_f32(exponent);
  out[0] = exponent;
  std::array<std::uint8_t, 32> codes{};
  kernels.code_e2m1(x, scale, codes.data());
  put_nibbles<16>(codes.data(), &out[1]);
}

/// Unsigned e4m3 with halves rounded up, at most 448. Source: ggml-org/ggml src/ggml-impl.h, ggml_fp32_to_ue4m3.
std::uint8_t ue4m3(float value) noexcept {
  constexpr std::uint8_t kLargest = 0x7E;
  if (!(value > 0)) return 0;
  value = std::min(value, 448.0F);
  const auto bits = std::bit_cast<std::uint32_t>(value);
  int exponent = static_cast<int>(bits >> 23U) - 127 + 7;
  if (exponent <= 0) return static_cast<std::uint8_t>(std::min(truncated(value * 512 + 0.5F), 7));
  if (exponent >= 15) return kLargest;
  std::uint32_t mantissa = ((bits >> 20U) & 7U) + ((bits >> 19U) & 1U);
  if (mantissa > 7) {
    mantissa = 0;
    ++exponent;
  }
  if (exponent >= 15) return kLargest;
  return static_cast<std::uint8_t>(static_cast<unsigned>(exponent) << 3U | mantissa);
}

void encode_nvfp4_block(const Kernels& kernels, Values<64> x, Weights /*ignored*/, Block<36> out) noexcept {
  for (std::size_t sub = 0; sub < 4; ++sub) {
    const auto group = x.subspan(16 * sub, 16);
    out[sub] = ue4m3(magnitude(signed_extreme(group)) / 6.0F);
    // The values are doubled, so the scale is halved.
    const float scale = f8_e4m3_to_f32(out[sub], F8Flavour::ggml) * 0.5F;
    std::array<std::uint8_t, 16> codes{};
    kernels.code_e2m1(group, scale, codes.data());
    put_nibbles<8>(codes.data(), &out[4 + 8 * sub]);
  }
}

}  // namespace

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_mxfp4_ref.
void encode_mxfp4(const Kernels& kernels, Row row, Weights /*ignored*/, Blocks blocks) noexcept {
  for_each_block<32, 17>(kernels, row, {}, blocks, encode_mxfp4_block);
}

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_nvfp4_ref.
void encode_nvfp4(const Kernels& kernels, Row row, Weights /*ignored*/, Blocks blocks) noexcept {
  for_each_block<64, 36>(kernels, row, {}, blocks, encode_nvfp4_block);
}

}  // namespace regauge::ggml_encode
