#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/half.h"
#include "convert/encode/mlx.h"
#include "formats/layouts/mlx_stream.h"
#include "tests/support/golden.h"
#include "tests/unit/convert/encode/golden_floats.h"

namespace regauge {
namespace {

using testing::floats_of;
using testing::GoldenFile;
using Bytes = std::vector<std::uint8_t>;

constexpr std::array<std::pair<MlxFloatMode, const char*>, 3> kModes = {
    {{MlxFloatMode::mxfp4, "mxfp4"}, {MlxFloatMode::mxfp8, "mxfp8"}, {MlxFloatMode::nvfp4, "nvfp4"}}};

struct Encoded {
  Bytes codes;
  Bytes scales;
};

Encoded encode(MlxFloatMode mode, DType dtype, const std::vector<float>& values, MlxRule rule = MlxRule::cpu) {
  Encoded out{Bytes(values.size(), 0xAA), Bytes(values.size() / static_cast<std::size_t>(mlx_float_group(mode)))};
  encode_mlx_float(mode, dtype, values, out.codes, out.scales, rule);
  return out;
}

class MlxFloatGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(MlxFloatGolden, EveryModeHasMlxsBytes) {
  REGAUGE_GOLDEN_OR_SKIP(path, "mlx/fp_modes.safetensors");
  const GoldenFile file(path);
  const auto& in = file["in." + GetParam()];
  const auto values = floats_of(in);
  for (const auto& mode : kModes) {
    const std::string name = std::string(mode.second) + "." + GetParam();
    SCOPED_TRACE(name);
    const Encoded encoded = encode(mode.first, *dtype_from_name(in.dtype), values);
    const int bits = mode.first == MlxFloatMode::mxfp8 ? 8 : 4;
    std::vector<std::byte> words(values.size() * static_cast<std::size_t>(bits) / 8);
    layouts::pack_mlx_rows(bits, in.shape[0], in.shape[1], encoded.codes, words);
    EXPECT_EQ(encoded.scales, file[name + ".scales"].as<std::uint8_t>());
    EXPECT_TRUE(std::ranges::equal(words, file[name + ".weight"].bytes)) << "weight";
  }
}

INSTANTIATE_TEST_SUITE_P(Types, MlxFloatGolden, ::testing::Values("f32", "f16", "bf16"),
                         [](const auto& test) { return test.param; });

TEST(MlxFloat, E4m3IsMlxsOwnAtEveryGridValueAndMidpoint) {
  REGAUGE_GOLDEN_OR_SKIP(path, "mlx/raw_codes.safetensors");
  const GoldenFile file(path);
  const auto values = file["fp8.to_in_f32"].as<float>();
  const auto expected = file["fp8.to_out"].as<std::uint8_t>();
  ASSERT_GT(values.size(), 500U);
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(mlx_e4m3(values[i]), expected[i]) << values[i];
}

TEST(MlxFloat, E4m3IsTheNearestOfAllBytes) {
  // Every f32 that F16 holds; distances in double are exact.
  for (std::uint32_t bits = 0; bits < 0x7C00; ++bits) {
    const double value = f16_to_f32(static_cast<std::uint16_t>(bits));
    const std::uint8_t byte = mlx_e4m3(static_cast<float>(value));
    const double away = std::abs(value - static_cast<double>(f8_e4m3_to_f32(byte)));
    for (std::uint8_t other = 0; other < 0x7F; ++other) {
      const double there = std::abs(value - static_cast<double>(f8_e4m3_to_f32(other)));
      ASSERT_TRUE(away < there || byte == other || (away == there && byte % 2 == 0)) << value;
    }
    ASSERT_EQ(mlx_e4m3(static_cast<float>(-value)), byte | 0x80);
  }
}

/// A group of 32 whose largest element is `largest`.
std::vector<float> group_up_to(float largest) {
  std::vector<float> values(32, 0.0F);
  values[7] = -largest;
  return values;
}

int exponent_of(float largest, DType dtype, MlxRule rule = MlxRule::cpu) {
  return encode(MlxFloatMode::mxfp4, dtype, group_up_to(largest), rule).scales[0] - 127;
}

// The logarithm is rounded to the nearest whole number, not down: between 1 and 2 the border is sqrt(2).
TEST(MlxFloat, TheScaleIsTheNearestPowerOfTwo) {
  for (int e = -100; e <= 100; ++e) {
    const float power = std::ldexp(6.0F, e);
    EXPECT_EQ(exponent_of(power, DType::f32), e);
    EXPECT_EQ(exponent_of(power * 1.41F, DType::f32), e);
    EXPECT_EQ(exponent_of(power * 1.42F, DType::f32), e + 1);
  }
}

// log2 of 1.375 * 2^70 is 70.459. BF16 has numbers in steps of 1/2 there, so it becomes 70.5, and that the even 70; of
// 1.375 * 2^71, 71.459, it becomes 72. Steps at 2 are 1/64: 2.459 stays below a half.
TEST(MlxFloat, InBf16TheLogarithmItselfIsRounded) {
  const auto exponent = [](int e, DType dtype) { return exponent_of(std::ldexp(6.0F * 1.375F, e), dtype); };
  EXPECT_EQ(exponent(70, DType::bf16), 70);
  EXPECT_EQ(exponent(71, DType::bf16), 72);
  EXPECT_EQ(exponent(71, DType::f32), 71);
  EXPECT_EQ(exponent(3, DType::bf16), 3);
}

TEST(MlxFloat, ZerosHaveTheScaleOfTheirRule) {
  const std::vector<float> zeros(32, 0.0F);
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    EXPECT_EQ(encode(MlxFloatMode::mxfp4, dtype, zeros).scales, Bytes{127});
    EXPECT_EQ(encode(MlxFloatMode::nvfp4, dtype, zeros).scales, (Bytes{0, 0}));
    EXPECT_EQ(encode(MlxFloatMode::nvfp4, dtype, zeros).codes, Bytes(32, 0));
  }
  EXPECT_EQ(encode(MlxFloatMode::mxfp4, DType::f32, zeros, MlxRule::metal).scales, Bytes{0});
}

// The largest element, 6, makes the scale 1, so values are their own quotients.
TEST(MlxFloat, TiesGoToTheSmallerMagnitudeOnACpuAndToTheEvenCodeOnAGpu) {
  std::vector<float> values(32, 0.0F);
  const std::vector<float> ties = {6.0F, 0.25F, 0.75F, 1.25F, 1.75F, 2.5F, 3.5F, 5.0F, -0.25F, -5.0F, -0.0F};
  std::ranges::copy(ties, values.begin());
  const Encoded cpu = encode(MlxFloatMode::mxfp4, DType::f32, values);
  EXPECT_EQ(Bytes(cpu.codes.begin(), cpu.codes.begin() + 11), (Bytes{7, 0, 1, 2, 3, 4, 5, 6, 0, 14, 0}));
  const Encoded metal = encode(MlxFloatMode::mxfp4, DType::f32, values, MlxRule::metal);
  EXPECT_EQ(Bytes(metal.codes.begin(), metal.codes.begin() + 11), (Bytes{7, 0, 2, 2, 4, 4, 6, 6, 8, 14, 8}));
}

TEST(MlxFloat, EveryCodeComesBack) {
  for (const auto& mode : kModes) {
    const bool bytes = mode.first == MlxFloatMode::mxfp8;
    for (int code = 0; code < (bytes ? 256 : 16); ++code) {
      if (bytes && (code & 0x7F) == 0x7F) continue;  // a NaN elsewhere, never written
      const auto byte = static_cast<std::uint8_t>(code);
      std::vector<float> values(32, bytes ? 448.0F : 6.0F);  // a scale of 1
      values[3] = bytes ? f8_e4m3_to_f32(byte) : f4_e2m1_to_f32(byte);
      const std::uint8_t back = encode(mode.first, DType::bf16, values).codes[3];
      EXPECT_EQ(back, !bytes && code == 8 ? 0 : byte) << mode.second;
    }
  }
}

TEST(MlxFloat, RefusesWhatMlxLeavesUndefined) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    EXPECT_THROW(encode(MlxFloatMode::mxfp8, DType::f32, group_up_to(bad)), Error);
  }
  EXPECT_THROW(encode(MlxFloatMode::mxfp4, DType::i8, group_up_to(1.0F)), Error);
  EXPECT_THROW(encode(MlxFloatMode::mxfp4, DType::f32, std::vector<float>(48)), Error);
}

}  // namespace
}  // namespace regauge
