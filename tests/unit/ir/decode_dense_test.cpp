#include "ir/decode/dense.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/half.h"
#include "tests/support/golden.h"
#include "tests/support/oracle.h"

namespace regauge {
namespace {

using testing::count_bit_differences;
using testing::GoldenFile;

template <typename T>
std::vector<float> decoded(DType dtype, const std::vector<T>& stored) {
  std::vector<float> out(stored.size() * sizeof(T) * 8 / static_cast<std::size_t>(bits(dtype)));
  decode_dense(dtype, std::as_bytes(std::span(stored)), out);
  return out;
}

template <typename T>
std::vector<T> every_pattern() {
  std::vector<T> all(std::size_t{1} << (8 * sizeof(T)));
  std::iota(all.begin(), all.end(), T{0});
  return all;
}

/// The value that a float's fields have by definition, infinities and NaN aside.
float by_definition(unsigned pattern, int exponent_bits, int mantissa_bits, int bias) {
  const int mantissa = static_cast<int>(pattern & ((1U << mantissa_bits) - 1));
  const int exponent = static_cast<int>((pattern >> mantissa_bits) & ((1U << exponent_bits) - 1));
  const bool negative = ((pattern >> (exponent_bits + mantissa_bits)) & 1U) != 0;
  const double fraction = std::ldexp(mantissa, -mantissa_bits);
  const double magnitude = exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias);
  return static_cast<float>(negative ? -magnitude : magnitude);
}

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(DecodeDense, EveryE4m3PatternIsReadAsOcpDefinesIt) {
  std::vector<float> expected(256);
  for (unsigned i = 0; i < 256; ++i) expected[i] = (i & 0x7FU) == 0x7FU ? kNan : by_definition(i, 4, 3, 7);
  EXPECT_EQ(count_bit_differences(expected, decoded(DType::f8_e4m3, every_pattern<std::uint8_t>())), 0U);
  EXPECT_EQ(expected[0x7E], 448.0F);
}

TEST(DecodeDense, EveryE5m2PatternIsReadAsOcpDefinesIt) {
  std::vector<float> expected(256);
  for (unsigned i = 0; i < 256; ++i) {
    expected[i] = by_definition(i, 5, 2, 15);
    if ((i & 0x7CU) == 0x7CU) expected[i] = (i & 3U) != 0 ? kNan : std::copysign(kInfinity, expected[i]);
  }
  EXPECT_EQ(count_bit_differences(expected, decoded(DType::f8_e5m2, every_pattern<std::uint8_t>())), 0U);
  EXPECT_EQ(expected[0x7B], 57344.0F);
}

TEST(DecodeDense, TheFnuzTypesHaveOneNanAndNoInfinity) {
  std::vector<float> e4m3(256);
  std::vector<float> e5m2(256);
  for (unsigned i = 0; i < 256; ++i) {
    e4m3[i] = i == 0x80 ? kNan : by_definition(i, 4, 3, 8);
    e5m2[i] = i == 0x80 ? kNan : by_definition(i, 5, 2, 16);
  }
  EXPECT_EQ(count_bit_differences(e4m3, decoded(DType::f8_e4m3fnuz, every_pattern<std::uint8_t>())), 0U);
  EXPECT_EQ(count_bit_differences(e5m2, decoded(DType::f8_e5m2fnuz, every_pattern<std::uint8_t>())), 0U);
  EXPECT_EQ(e4m3[0x7F], 240.0F);
  EXPECT_EQ(e5m2[0x7F], 57344.0F);
}

TEST(DecodeDense, E8m0IsAPowerOfTwoFromTheSubnormalOnes) {
  std::vector<float> expected(256);
  for (int i = 0; i < 256; ++i) expected[static_cast<std::size_t>(i)] = std::ldexp(1.0F, i - 127);
  expected[255] = kNan;
  EXPECT_EQ(count_bit_differences(expected, decoded(DType::f8_e8m0, every_pattern<std::uint8_t>())), 0U);
}

TEST(DecodeDense, EveryF16AndBf16PatternHasTheValueOfItsFields) {
  std::vector<float> f16(65536);
  std::vector<float> bf16(65536);
  for (unsigned i = 0; i < 65536; ++i) {
    f16[i] = by_definition(i, 5, 10, 15);
    if ((i & 0x7C00U) == 0x7C00U) f16[i] = (i & 0x3FFU) != 0 ? kNan : std::copysign(kInfinity, f16[i]);
    bf16[i] = by_definition(i, 8, 7, 127);
    if ((i & 0x7F80U) == 0x7F80U) bf16[i] = (i & 0x7FU) != 0 ? kNan : std::copysign(kInfinity, bf16[i]);
  }
  EXPECT_EQ(count_bit_differences(f16, decoded(DType::f16, every_pattern<std::uint16_t>())), 0U);
  EXPECT_EQ(count_bit_differences(bf16, decoded(DType::bf16, every_pattern<std::uint16_t>())), 0U);
}

TEST(DecodeDense, EverySmallIntegerIsItself) {
  const auto u8 = decoded(DType::u8, every_pattern<std::uint8_t>());
  const auto i8 = decoded(DType::i8, every_pattern<std::uint8_t>());
  for (int i = 0; i < 256; ++i) {
    EXPECT_EQ(u8[static_cast<std::size_t>(i)], i);
    EXPECT_EQ(i8[static_cast<std::size_t>(i)], i < 128 ? i : i - 256);
  }
  const auto u16 = decoded(DType::u16, every_pattern<std::uint16_t>());
  const auto i16 = decoded(DType::i16, every_pattern<std::uint16_t>());
  for (int i = 0; i < 65536; ++i) {
    ASSERT_EQ(u16[static_cast<std::size_t>(i)], i);
    ASSERT_EQ(i16[static_cast<std::size_t>(i)], i < 32768 ? i : i - 65536);
  }
}

TEST(DecodeDense, ABoolIsOneUnlessItsByteIsZero) {
  const auto values = decoded(DType::boolean, every_pattern<std::uint8_t>());
  for (std::size_t i = 0; i < 256; ++i) EXPECT_EQ(values[i], i == 0 ? 0.0F : 1.0F) << i;
}

TEST(DecodeDense, F32KeepsEveryBitOfItsNans) {
  const std::vector<std::uint32_t> patterns{0x7F800001, 0xFFBFFFFF, 0x7FC00000, 0x80000000, 0x00000001, 0xFF800000};
  const auto values = decoded(DType::f32, patterns);
  EXPECT_EQ(std::memcmp(values.data(), patterns.data(), patterns.size() * sizeof(float)), 0);
}

TEST(DecodeDense, F64RoundsToNearestEven) {
  const std::vector<double> stored{
      0x1.000001p0,            // halfway between 1 and its successor: down to even
      0x1.000003p0,            // halfway above an odd one: up to even
      0x1.0000010000001p0,     // a hair above halfway: up
      0x1.0000030000001p0,     //
      0x1.000000fffffffp0,     // a hair below: down
      -0x1.000003p0,           //
      0x1.ffffffp127,          // halfway between the largest f32 and 2^128: infinity
      0x1.fffffefffffffp127,   // just below: the largest f32
      0x1p-150,                // half of the smallest subnormal: zero
      0x1.0000000000001p-150,  // a hair above: the smallest subnormal
      0x1.8p-149,              // between subnormals 1 and 2: 2
      -0x1p-150,               // negative zero
      -0.0,
      1e300,
      -std::numeric_limits<double>::infinity(),
      std::numeric_limits<double>::quiet_NaN(),
      0x1.fffffep-127,  // halfway between the largest subnormal and the smallest normal, exactly
  };
  const std::vector<float> expected{1.0F,      0x1.000004p0F,   0x1.000002p0F, 0x1.000004p0F, 1.0F,      -0x1.000004p0F,
                                    kInfinity, 0x1.fffffep127F, 0.0F,          0x1p-149F,     0x1p-148F, -0.0F,
                                    -0.0F,     kInfinity,       -kInfinity,    kNan,          0x1p-126F};
  EXPECT_EQ(count_bit_differences(expected, decoded(DType::f64, stored)), 0U);
}

TEST(DecodeDense, ThirtyTwoBitIntegersRoundToNearestEven) {
  const std::vector<std::int32_t> i32{
      16777216,  16777217,   16777218,   16777219,   -16777217,
      -16777219, 2147483647, 2147483583, 2147483584, std::numeric_limits<std::int32_t>::min()};
  EXPECT_EQ(count_bit_differences(std::vector<float>{0x1p24F, 0x1p24F, 16777218.0F, 16777220.0F, -0x1p24F, -16777220.0F,
                                                     0x1p31F, 2147483520.0F, 0x1p31F, -0x1p31F},
                                  decoded(DType::i32, i32)),
            0U);
  const std::vector<std::uint32_t> u32{4294967295U, 4294967167U, 4294967168U, 2147483648U, 2147483776U, 2147484032U, 0};
  EXPECT_EQ(
      count_bit_differences(std::vector<float>{0x1p32F, 4294967040.0F, 0x1p32F, 0x1p31F, 0x1p31F, 2147484160.0F, 0.0F},
                            decoded(DType::u32, u32)),
      0U);
}

TEST(DecodeDense, SixtyFourBitIntegersRoundOnceToNearestEven) {
  // Going through f64 would round twice: 2^60 + 2^36 + 1 first becomes the tie 2^60 + 2^36 and then 2^60.
  constexpr std::int64_t kTop = std::int64_t{1} << 60;
  constexpr std::int64_t kHalfStep = std::int64_t{1} << 36;
  const std::vector<std::int64_t> i64{kTop + kHalfStep,
                                      kTop + kHalfStep + 1,
                                      kTop + kHalfStep - 1,
                                      kTop + 3 * kHalfStep,
                                      kTop + 3 * kHalfStep - 1,
                                      -kTop - kHalfStep - 1,
                                      std::numeric_limits<std::int64_t>::max(),
                                      std::numeric_limits<std::int64_t>::min(),
                                      -1};
  const float next = 0x1.000002p60F;
  EXPECT_EQ(count_bit_differences(
                std::vector<float>{0x1p60F, next, 0x1p60F, 0x1.000004p60F, next, -next, 0x1p63F, -0x1p63F, -1.0F},
                decoded(DType::i64, i64)),
            0U);
  // Above 2^63 compilers halve first; the bit that falls out must still break the tie.
  constexpr std::uint64_t kHigh = std::uint64_t{1} << 63;
  constexpr std::uint64_t kHighHalf = std::uint64_t{1} << 39;
  const std::vector<std::uint64_t> u64{
      kHigh + kHighHalf,     kHigh + kHighHalf + 1,     kHigh + kHighHalf - 1,
      kHigh + 3 * kHighHalf, kHigh + 3 * kHighHalf - 1, std::numeric_limits<std::uint64_t>::max(),
      0xFFFFFF7FFFFFFFFFU,   0xFFFFFF8000000000U,       0};
  const float high_next = 0x1.000002p63F;
  EXPECT_EQ(count_bit_differences(std::vector<float>{0x1p63F, high_next, 0x1p63F, 0x1.000004p63F, high_next, 0x1p64F,
                                                     0x1.fffffep63F, 0x1p64F, 0.0F},
                                  decoded(DType::u64, u64)),
            0U);
}

TEST(DecodeDense, F4ComesLowNibbleFirst) {
  const std::vector<float> magnitudes{0.0F, 0.5F, 1.0F, 1.5F, 2.0F, 3.0F, 4.0F, 6.0F};
  std::vector<float> expected;
  for (unsigned byte = 0; byte < 256; ++byte) {
    for (const unsigned code : {byte & 15U, byte >> 4}) {
      expected.push_back(code < 8 ? magnitudes[code] : -magnitudes[code - 8]);
    }
  }
  EXPECT_EQ(count_bit_differences(expected, decoded(DType::f4, every_pattern<std::uint8_t>())), 0U);
}

TEST(DecodeDense, F6CodesCrossBytesFromTheLowestBitOn) {
  // Every code at each of the four places that four codes in three bytes have, its neighbours being its complement.
  for (const DType dtype : {DType::f6_e2m3, DType::f6_e3m2}) {
    std::vector<std::uint8_t> stored;
    std::vector<float> expected;
    for (unsigned place = 0; place < 4; ++place) {
      for (unsigned code = 0; code < 64; ++code) {
        std::uint32_t packed = 0;
        for (unsigned i = 0; i < 4; ++i) {
          const unsigned here = i == place ? code : 63 - code;
          packed |= here << (6 * i);
          expected.push_back(dtype == DType::f6_e2m3 ? by_definition(here, 2, 3, 1) : by_definition(here, 3, 2, 3));
        }
        for (unsigned i = 0; i < 3; ++i) stored.push_back(static_cast<std::uint8_t>(packed >> (8 * i)));
      }
    }
    EXPECT_EQ(count_bit_differences(expected, decoded(dtype, stored)), 0U) << name(dtype);
    EXPECT_EQ(*std::ranges::max_element(expected), dtype == DType::f6_e2m3 ? 7.5F : 28.0F);
  }
}

TEST(DecodeDense, SizesThatDoNotFitAreRefused) {
  for (const DType dtype : all_dtypes()) {
    if (!can_decode(dtype)) continue;
    const std::size_t bytes = static_cast<std::size_t>(bits(dtype)) * 4 / 8;
    struct Sizes {
      std::size_t bytes, elements;
    };
    for (const Sizes sizes :
         {Sizes{bytes + 1, 4}, Sizes{bytes - 1, 4}, Sizes{bytes, 5}, Sizes{bytes, 3}, Sizes{0, 4}, Sizes{bytes, 0}}) {
      const std::vector<std::byte> stored(sizes.bytes);
      std::vector<float> out(sizes.elements);
      try {
        decode_dense(dtype, stored, out);
        ADD_FAILURE() << name(dtype) << " " << sizes.bytes << " bytes, " << sizes.elements << " values";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::invalid);
      }
    }
    EXPECT_NO_THROW(decode_dense(dtype, {}, {}));
  }
}

TEST(DecodeDense, ComplexNumbersAreRefused) {
  EXPECT_FALSE(can_decode(DType::c64));
  const std::vector<std::byte> stored(8);
  std::vector<float> out(1);
  try {
    decode_dense(DType::c64, stored, out);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
  }
}

TEST(DecodeDense, ValuesMayStartAtAnyByte) {
  for (const DType dtype : all_dtypes()) {
    if (!can_decode(dtype)) continue;
    const auto bytes = static_cast<std::size_t>(bits(dtype));  // eight elements
    std::vector<std::byte> aligned(bytes);
    for (std::size_t i = 0; i < bytes; ++i) aligned[i] = static_cast<std::byte>(31 * i + 7);
    std::vector<std::byte> shifted(bytes + 1);
    std::ranges::copy(aligned, shifted.begin() + 1);
    std::vector<float> expected(8);
    std::vector<float> actual(8);
    decode_dense(dtype, aligned, expected);
    decode_dense(dtype, std::span(shifted).subspan(1), actual);
    EXPECT_EQ(count_bit_differences(expected, actual, true), 0U) << name(dtype);
  }
}

class SixteenBitType : public ::testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(DType, SixteenBitType, ::testing::Values(DType::f16, DType::bf16),
                         [](const auto& dtype) { return std::string(name(dtype.param)); });

TEST_P(SixteenBitType, EqualsTheGoldenConversionOfEveryPattern) {
  const DType dtype = GetParam();
  REGAUGE_GOLDEN_OR_SKIP(path, dtype == DType::f16 ? "ggml/f16.safetensors" : "ggml/bf16.safetensors");
  const GoldenFile golden(path);
  const auto patterns = golden["all_bits"].as<std::uint16_t>();
  ASSERT_EQ(patterns.size(), 65536U);
  EXPECT_EQ(count_bit_differences(golden["all_bits_f32"].as<float>(), decoded(dtype, patterns)), 0U);
}

TEST_P(SixteenBitType, RoundsAsTheGoldenConversionDoes) {
  const DType dtype = GetParam();
  REGAUGE_GOLDEN_OR_SKIP(path, dtype == DType::f16 ? "ggml/f16.safetensors" : "ggml/bf16.safetensors");
  const GoldenFile golden(path);
  const auto input = golden["round_input"].as<float>();
  const auto expected = golden["round_bits"].as<std::uint16_t>();
  ASSERT_EQ(input.size(), expected.size());
  ASSERT_FALSE(input.empty());
  for (std::size_t i = 0; i < input.size(); ++i) {
    const std::uint16_t rounded = dtype == DType::f16 ? f32_to_f16(input[i]) : f32_to_bf16(input[i]);
    EXPECT_EQ(rounded, expected[i]) << std::hex << std::bit_cast<std::uint32_t>(input[i]);
  }
  RecordProperty("values_compared", static_cast<int>(input.size()));
}

}  // namespace
}  // namespace regauge
