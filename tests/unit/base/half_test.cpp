#include "base/half.h"

#include <bit>
#include <cmath>
#include <cstdint>

#include <gtest/gtest.h>

namespace regauge {
namespace {

// The value a small float pattern has by definition, computed in double from its fields.
double by_definition(unsigned bits, int exponent_bits, int mantissa_bits, int bias) {
  const int mantissa = static_cast<int>(bits & ((1U << mantissa_bits) - 1));
  const int exponent = static_cast<int>((bits >> mantissa_bits) & ((1U << exponent_bits) - 1));
  const bool negative = ((bits >> (exponent_bits + mantissa_bits)) & 1U) != 0;
  const double fraction = std::ldexp(mantissa, -mantissa_bits);
  const double value = exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1.0 + fraction, exponent - bias);
  return negative ? -value : value;
}

std::uint32_t bits_of(float value) { return std::bit_cast<std::uint32_t>(value); }

TEST(Half, EveryF16PatternHasTheValueOfItsFields) {
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const float value = f16_to_f32(static_cast<std::uint16_t>(bits));
    if ((bits & 0x7C00U) == 0x7C00U) {
      EXPECT_EQ(std::isnan(value), (bits & 0x3FFU) != 0) << bits;
      EXPECT_EQ(std::isinf(value), (bits & 0x3FFU) == 0) << bits;
      EXPECT_EQ(std::signbit(value), (bits & 0x8000U) != 0) << bits;
      EXPECT_TRUE(std::isinf(value) || (bits_of(value) & 0x00400000U) != 0) << "NaN must be quiet: " << bits;
    } else {
      EXPECT_EQ(bits_of(value), bits_of(static_cast<float>(by_definition(bits, 5, 10, 15)))) << bits;
    }
  }
}

TEST(Half, EveryF16PatternComesBackThroughF32) {
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const float value = f16_to_f32(static_cast<std::uint16_t>(bits));
    const std::uint16_t back = f32_to_f16(value);
    EXPECT_EQ(back, std::isnan(value) ? ((bits & 0x8000U) | 0x7E00U) : bits) << bits;
  }
}

TEST(Half, MidpointsOfNeighbouringF16RoundToEven) {
  for (unsigned bits = 0; bits < 0x7BFF; ++bits) {
    const float low = f16_to_f32(static_cast<std::uint16_t>(bits));
    const float high = f16_to_f32(static_cast<std::uint16_t>(bits + 1));
    const float middle = static_cast<float>((static_cast<double>(low) + high) / 2);
    EXPECT_EQ(f32_to_f16(middle), (bits & 1U) != 0 ? bits + 1 : bits) << bits;
    EXPECT_EQ(f32_to_f16(std::nextafterf(middle, 0.0F)), bits) << bits;
    EXPECT_EQ(f32_to_f16(std::nextafterf(middle, 1e9F)), bits + 1) << bits;
    EXPECT_EQ(f32_to_f16(-middle), 0x8000U | ((bits & 1U) != 0 ? bits + 1 : bits)) << bits;
  }
}

TEST(Half, F16OverflowStartsAtTheMidpointAboveTheLargest) {
  EXPECT_EQ(f32_to_f16(65519.996F), 0x7BFF);
  EXPECT_EQ(f32_to_f16(65520.0F), 0x7C00);
  EXPECT_EQ(f32_to_f16(-1e30F), 0xFC00);
  EXPECT_EQ(f32_to_f16(std::ldexp(1.0F, -25)), 0x0000);
  EXPECT_EQ(f32_to_f16(std::nextafterf(std::ldexp(1.0F, -25), 1.0F)), 0x0001);
  EXPECT_EQ(f32_to_f16(std::bit_cast<float>(1U)), 0x0000);
}

TEST(Half, EveryBf16PatternComesBackThroughF32) {
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const float value = bf16_to_f32(static_cast<std::uint16_t>(bits));
    EXPECT_EQ(bits_of(value), bits << 16);
    EXPECT_EQ(f32_to_bf16(value), std::isnan(value) ? (bits | 0x40U) : bits) << bits;
  }
}

TEST(Half, MidpointsOfNeighbouringBf16RoundToEven) {
  for (unsigned bits = 0; bits < 0x7F80; ++bits) {
    const float middle = std::bit_cast<float>((bits << 16) | 0x8000U);
    EXPECT_EQ(f32_to_bf16(middle), (bits & 1U) != 0 ? bits + 1 : bits) << bits;
    EXPECT_EQ(f32_to_bf16(std::bit_cast<float>((bits << 16) | 0x7FFFU)), bits) << bits;
    EXPECT_EQ(f32_to_bf16(std::bit_cast<float>((bits << 16) | 0x8001U)), bits + 1) << bits;
  }
}

TEST(Half, EveryF8PatternHasTheValueOfItsFields) {
  for (unsigned b = 0; b < 256; ++b) {
    const auto bits = static_cast<std::uint8_t>(b);
    const float plain = static_cast<float>(by_definition(b, 4, 3, 7));
    EXPECT_EQ(bits_of(f8_e4m3_to_f32(bits, F8Flavour::mlx)), bits_of(plain)) << b;
    if ((b & 0x7FU) == 0x7FU) {
      EXPECT_TRUE(std::isnan(f8_e4m3_to_f32(bits))) << b;
    } else {
      EXPECT_EQ(bits_of(f8_e4m3_to_f32(bits)), bits_of(plain)) << b;
    }
    const float unsigned_scale = b == 0x7F ? 0.0F : static_cast<float>(by_definition(b & 0x7FU, 4, 3, 7));
    EXPECT_EQ(bits_of(f8_e4m3_to_f32(bits, F8Flavour::ggml)), bits_of(unsigned_scale)) << b;
    if (b == 0x80) {
      EXPECT_TRUE(std::isnan(f8_e4m3fnuz_to_f32(bits)));
      EXPECT_TRUE(std::isnan(f8_e5m2fnuz_to_f32(bits)));
    } else {
      EXPECT_EQ(bits_of(f8_e4m3fnuz_to_f32(bits)), bits_of(static_cast<float>(by_definition(b, 4, 3, 8)))) << b;
      EXPECT_EQ(bits_of(f8_e5m2fnuz_to_f32(bits)), bits_of(static_cast<float>(by_definition(b, 5, 2, 16)))) << b;
    }
    const float e5m2 = f8_e5m2_to_f32(bits);
    if ((b & 0x7CU) == 0x7CU) {
      EXPECT_EQ(std::isinf(e5m2), (b & 3U) == 0) << b;
      EXPECT_EQ(std::isnan(e5m2), (b & 3U) != 0) << b;
    } else {
      EXPECT_EQ(bits_of(e5m2), bits_of(static_cast<float>(by_definition(b, 5, 2, 15)))) << b;
    }
  }
}

TEST(Half, EveryE8m0PatternIsAPowerOfTwo) {
  for (int b = 0; b < 255; ++b) {
    const auto bits = static_cast<std::uint8_t>(b);
    EXPECT_EQ(bits_of(f8_e8m0_to_f32(bits)), bits_of(static_cast<float>(std::ldexp(1.0, b - 127)))) << b;
    EXPECT_EQ(bits_of(f8_e8m0_half_to_f32(bits)), bits_of(static_cast<float>(std::ldexp(1.0, b - 128)))) << b;
  }
  EXPECT_TRUE(std::isnan(f8_e8m0_to_f32(255)));
  EXPECT_TRUE(std::isinf(f8_e8m0_to_f32(255, F8Flavour::mlx)));
  EXPECT_EQ(f8_e8m0_half_to_f32(255), std::ldexp(1.0F, 127));
}

TEST(Half, F4AndF6PatternsHaveTheValueOfTheirFields) {
  for (unsigned b = 0; b < 64; ++b) {
    const auto bits = static_cast<std::uint8_t>(b);
    EXPECT_EQ(bits_of(f4_e2m1_to_f32(bits)), bits_of(static_cast<float>(by_definition(b & 15U, 2, 1, 1)))) << b;
    EXPECT_EQ(bits_of(f6_e2m3_to_f32(bits)), bits_of(static_cast<float>(by_definition(b, 2, 3, 1)))) << b;
    EXPECT_EQ(bits_of(f6_e3m2_to_f32(bits)), bits_of(static_cast<float>(by_definition(b, 3, 2, 3)))) << b;
  }
}

}  // namespace
}  // namespace regauge
