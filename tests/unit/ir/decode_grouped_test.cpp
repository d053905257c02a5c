#include "ir/decode/grouped.h"

#include <bit>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/bits.h"
#include "base/error.h"
#include "base/half.h"
#include "tests/support/golden.h"

namespace regauge {
namespace {

using testing::count_bit_differences;
using testing::GoldenFile;

template <typename T>
std::span<const std::byte> raw(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

std::vector<std::int32_t> contiguous(std::int32_t columns, std::int32_t group) {
  std::vector<std::int32_t> index(static_cast<std::size_t>(columns));
  for (std::int32_t k = 0; k < columns; ++k) index[static_cast<std::size_t>(k)] = k / group;
  return index;
}

std::uint32_t bits_of(float value) { return std::bit_cast<std::uint32_t>(value); }

TEST(DecodeGrouped, ZeroPointIsSubtractedBeforeTheScaleIsApplied) {
  const std::vector<std::uint8_t> codes{0, 15, 5, 9};
  const std::vector<float> scales{0.5F, -2.0F};
  const std::vector<std::uint8_t> zeros{3, 5};
  std::vector<float> out(4);
  const Grouped encoding{.bits = 4, .group = {1, 2}, .scale = DType::f32, .offset = Offset::zero_point};
  decode_grouped(encoding, 1, 4, {codes, raw(scales), raw(zeros), contiguous(4, 2), {}}, out);
  EXPECT_EQ(out[0], -1.5F);
  EXPECT_EQ(out[1], 6.0F);
  EXPECT_EQ(bits_of(out[2]), bits_of(-0.0F)) << "a negative scale times zero keeps its sign";
  EXPECT_EQ(out[3], -8.0F);
}

TEST(DecodeGrouped, MidpointIsHalfOfTheCodeRange) {
  const std::vector<std::uint8_t> codes{0, 128, 255};
  const std::vector<std::uint16_t> scales{0x3C00};  // 1.0 in f16
  std::vector<float> out(3);
  decode_grouped({.bits = 8, .group = {1, 0}, .offset = Offset::midpoint}, 1, 3,
                 {codes, raw(scales), {}, contiguous(3, 3), {}}, out);
  EXPECT_EQ(out, (std::vector<float>{-128, 0, 127}));
}

TEST(DecodeGrouped, ColumnsFindTheirGroupThroughTheIndex) {
  const std::vector<std::uint8_t> codes{1, 1, 1, 1, 2, 2, 2, 2};
  const std::vector<float> scales{1, 10, 100, 3, 30, 300};
  const std::vector<std::int32_t> index{2, 0, 1, 0};
  std::vector<float> out(8);
  decode_grouped({.bits = 2, .group = {1, 2}, .scale = DType::f32}, 2, 4, {codes, raw(scales), {}, index, {}}, out);
  EXPECT_EQ(out, (std::vector<float>{100, 1, 10, 1, 600, 6, 60, 6}));
}

TEST(DecodeGrouped, TheLastGroupMayBeShort) {
  const std::vector<std::uint8_t> codes{1, 1, 1, 1, 1};
  const std::vector<float> scales{1, 2, 3};
  std::vector<float> out(5);
  decode_grouped({.bits = 4, .group = {1, 2}, .scale = DType::f32}, 1, 5,
                 {codes, raw(scales), {}, contiguous(5, 2), {}}, out);
  EXPECT_EQ(out, (std::vector<float>{1, 1, 2, 2, 3}));
}

TEST(DecodeGrouped, RowsOfAGroupShareScaleAndOffsetAlsoInAShortLastBand) {
  const std::vector<std::uint8_t> codes{1, 1, 1, 1, 1, 1};
  const std::vector<float> scales{1, 2, 10, 20};
  const std::vector<float> biases{0.5F, 0.25F, 5, 6};
  std::vector<float> out(6);
  const Grouped encoding{
      .bits = 4, .group = {2, 1}, .scale = DType::f32, .offset = Offset::bias, .offset_dtype = DType::f32};
  decode_grouped(encoding, 3, 2, {codes, raw(scales), raw(biases), contiguous(2, 1), {}}, out);
  EXPECT_EQ(out, (std::vector<float>{1.5F, 2.25F, 1.5F, 2.25F, 15, 26}));
}

TEST(DecodeGrouped, TheProductIsRoundedBeforeTheBiasIsAdded) {
  // 3 * (1 + 2^-23) rounds to 3 + 2^-21; a fused multiply-add would keep 3 * 2^-23 and give another sum.
  const std::vector<std::uint8_t> codes{3};
  const std::vector<float> scales{1.0F + std::numeric_limits<float>::epsilon()};
  const std::vector<float> biases{-3.0F};
  std::vector<float> out(1);
  const Grouped encoding{
      .bits = 4, .group = {1, 1}, .scale = DType::f32, .offset = Offset::bias, .offset_dtype = DType::f32};
  decode_grouped(encoding, 1, 1, {codes, raw(scales), raw(biases), contiguous(1, 1), {}}, out);
  EXPECT_EQ(out[0], 0x1p-21F);
}

/// One value after another as the header of decode_grouped defines it.
float by_definition(const Grouped& encoding, std::uint8_t code, float scale, int zero, float bias) {
  if (encoding.code == CodeKind::e2m1) return f4_e2m1_to_f32(code) * scale;
  if (encoding.code == CodeKind::e4m3) return f8_e4m3_to_f32(code, F8Flavour::ocp) * scale;
  if (encoding.offset == Offset::bias) {
    const float product = scale * static_cast<float>(code);
    return product + bias;
  }
  return scale * static_cast<float>(static_cast<int>(code) - zero);
}

TEST(DecodeGrouped, VectorsOfCodesDecodeLikeSingleOnes) {
  std::mt19937 random(5);
  const Grouped encodings[] = {
      {.bits = 8, .group = {}, .scale = DType::f32},
      {.bits = 5, .group = {}, .scale = DType::f32, .offset = Offset::midpoint},
      {.bits = 8, .group = {}, .scale = DType::f32, .offset = Offset::zero_point},
      {.bits = 8, .group = {}, .scale = DType::f32, .offset = Offset::bias, .offset_dtype = DType::f32},
      {.code = CodeKind::e2m1, .bits = 4, .group = {}, .scale = DType::f32},
      {.code = CodeKind::e4m3, .bits = 8, .group = {}, .scale = DType::f32},
  };
  constexpr std::int32_t kColumns = 331;
  constexpr std::size_t kGroups = 331;
  for (const Grouped& encoding : encodings) {
    for (const std::int32_t width : {1, 3, 8, 9, 16, 31, 32, 64, 100, 331}) {
      for (std::size_t misaligned = 0; misaligned < 9; ++misaligned) {
        std::vector<std::uint8_t> codes(kColumns);
        for (auto& code : codes)
          code = static_cast<std::uint8_t>(random() % (1U << static_cast<unsigned>(encoding.bits)));
        std::vector<float> scales(kGroups);
        std::vector<float> biases(kGroups);
        std::vector<std::uint8_t> zeros(kGroups);
        for (std::size_t g = 0; g < kGroups; ++g) {
          scales[g] = static_cast<float>(static_cast<std::int32_t>(random())) * 0x1p-40F;
          biases[g] = static_cast<float>(static_cast<std::int32_t>(random())) * 0x1p-36F;
          zeros[g] = static_cast<std::uint8_t>(random());
        }
        const auto groups = contiguous(kColumns, width);
        std::span<const std::byte> offsets;
        if (encoding.offset == Offset::zero_point) offsets = raw(zeros);
        if (encoding.offset == Offset::bias) offsets = raw(biases);
        std::vector<float> out(kColumns + misaligned);
        decode_grouped(encoding, 1, kColumns, {codes, raw(scales), offsets, groups, {}},
                       std::span(out).subspan(misaligned));
        std::vector<float> expected(misaligned);
        for (std::size_t k = 0; k < codes.size(); ++k) {
          const auto g = static_cast<std::size_t>(groups[k]);
          int zero = 0;
          if (encoding.offset == Offset::zero_point) zero = zeros[g];
          if (encoding.offset == Offset::midpoint) zero = 1 << (encoding.bits - 1);
          expected.push_back(by_definition(encoding, codes[k], scales[g], zero, biases[g]));
        }
        ASSERT_EQ(count_bit_differences(expected, out), 0U)
            << "groups of " << width << ", " << misaligned << " floats on";
      }
    }
  }
}

TEST(DecodeGrouped, RefusesEncodingsThatNobodyDefined) {
  EXPECT_TRUE(why_not_decodable({.bits = 9, .group = {}}));
  EXPECT_TRUE(why_not_decodable({.bits = 4, .group = {}, .scale = DType::i32}));
  EXPECT_TRUE(why_not_decodable({.bits = 4, .group = {}, .offset = Offset::bias, .offset_dtype = DType::u8}));
  EXPECT_TRUE(why_not_decodable({.code = CodeKind::e2m1, .bits = 4, .group = {1, 64}, .scale = DType::u8}));
  EXPECT_TRUE(why_not_decodable(
      {.code = CodeKind::e2m1, .bits = 4, .group = {1, 16}, .scale = DType::u8, .global_scale = true}));
  EXPECT_FALSE(why_not_decodable({.bits = 4, .group = {}}));
  std::vector<float> out(1);
  try {
    decode_grouped({.bits = 0, .group = {}}, 1, 1, {}, out);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
  }
}

TEST(DecodeGrouped, SpansOfTheWrongSizeAreCaught) {
  const std::vector<std::uint8_t> codes{1, 1};
  const std::vector<float> scales{1};
  const std::vector<std::int32_t> beyond{0, 1};
  std::vector<float> out(2);
  const Grouped encoding{.bits = 4, .group = {1, 0}, .scale = DType::f32};
  const auto code_of = [&](const GroupedBand& band, std::int64_t columns) {
    try {
      decode_grouped(encoding, 1, columns, band, out);
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::io;
  };
  EXPECT_EQ(code_of({codes, raw(scales), {}, beyond, {}}, 2), ErrorCode::internal);
  EXPECT_EQ(code_of({codes, raw(scales), {}, contiguous(2, 2), {}}, 1), ErrorCode::internal);
  EXPECT_EQ(code_of({codes, raw(scales).first(3), {}, contiguous(2, 2), {}}, 2), ErrorCode::internal);
  EXPECT_EQ(code_of({codes, raw(scales), raw(codes), contiguous(2, 2), {}}, 2), ErrorCode::internal);
  EXPECT_EQ(code_of({codes, raw(scales), {}, contiguous(2, 2), 1.0F}, 2), ErrorCode::internal);
}

template <typename T>
std::vector<T> transposed(const std::vector<T>& in, std::int64_t rows, std::int64_t columns) {
  std::vector<T> out(in.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) {
      out[static_cast<std::size_t>(c * rows + r)] = in[static_cast<std::size_t>(r * columns + c)];
    }
  }
  return out;
}

/// GPTQModel's own codes, zero points and values: hostile scales, ragged group index, every code and zero point.
class GptqEdgeGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(GptqEdgeGolden, DecodesBitForBit) {
  REGAUGE_GOLDEN_OR_SKIP(path, std::string("gptq/edge/") + GetParam() + ".safetensors");
  const GoldenFile file(path);
  const std::int64_t k = file["codes"].shape[0];
  const std::int64_t n = file["codes"].shape[1];
  const std::int64_t groups = file["scales"].shape[0];
  const auto codes = transposed(file["codes"].as<std::uint8_t>(), k, n);
  const auto scales = transposed(file["scales"].as<std::uint16_t>(), groups, n);
  const auto zeros = transposed(file["zeros"].as<std::uint8_t>(), groups, n);
  const Grouped encoding{
      .bits = std::stoi(file.metadata().at("bits")), .group = {}, .offset = Offset::zero_point, .indexed = true};
  std::vector<float> out(static_cast<std::size_t>(n * k));
  decode_grouped(encoding, n, k, {codes, raw(scales), raw(zeros), file["g_idx"].as<std::int32_t>(), {}}, out);
  EXPECT_EQ(count_bit_differences(transposed(file["dequant_f32"].as<float>(), k, n), out), 0U);

  const auto halves = transposed(file["dequant_f16"].as<std::uint16_t>(), k, n);
  std::size_t differences = 0;
  for (std::size_t i = 0; i < out.size(); ++i) differences += f32_to_f16(out[i]) != halves[i] ? 1 : 0;
  EXPECT_EQ(differences, 0U) << "f16 is one rounding of the f32 value";
}

INSTANTIATE_TEST_SUITE_P(AllWidths, GptqEdgeGolden,
                         ::testing::Values("edge_b2", "edge_b3", "edge_b4", "edge_b8", "planar_b3", "planar_b5",
                                           "planar_b6", "planar_b7"));

std::vector<float> mlx_float_codes(const GoldenFile& file, const std::string& name, const std::string& mode,
                                   std::optional<float> global_scale) {
  const auto& words = file[name + ".weight"];
  const bool wide = mode == "mxfp8";
  const int width = wide ? 8 : 4;
  const std::int32_t group = mode == "nvfp4" ? 16 : 32;
  const std::int64_t rows = words.shape[0];
  const std::int64_t columns = words.shape[1] * 32 / width;
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(rows * columns));
  unpack_bits(words.bytes, width, codes);
  std::vector<float> out(codes.size());
  const Grouped encoding{.code = wide ? CodeKind::e4m3 : CodeKind::e2m1,
                         .bits = width,
                         .group = {1, group},
                         .scale = DType::u8,
                         .global_scale = global_scale.has_value(),
                         .flavour = Flavour::mlx};
  const std::string scales =
      file.contains(name + ".scales") ? name + ".scales" : name.substr(0, name.rfind('.')) + ".scales";
  decode_grouped(encoding, rows, columns,
                 {codes, file[scales].bytes, {}, contiguous(static_cast<std::int32_t>(columns), group), global_scale},
                 out);
  return out;
}

class MlxFloatCodes : public ::testing::TestWithParam<const char*> {};

TEST_P(MlxFloatCodes, DecodeAsMlxDoes) {
  REGAUGE_GOLDEN_OR_SKIP(path, "mlx/fp_modes.safetensors");
  const GoldenFile file(path);
  for (const std::string source : {"f32", "bf16", "f16"}) {
    const std::string name = std::string(GetParam()) + "." + source;
    EXPECT_EQ(count_bit_differences(file[name + ".dq_f32"].as<float>(), mlx_float_codes(file, name, GetParam(), {})),
              0U)
        << name;
  }
}

TEST_P(MlxFloatCodes, DecodeEveryScaleByteAsMlxDoes) {
  REGAUGE_GOLDEN_OR_SKIP(path, "mlx/raw_codes.safetensors");
  const GoldenFile file(path);
  const std::string name = std::string("raw.") + GetParam();
  EXPECT_EQ(count_bit_differences(file[name + ".dq_f32"].as<float>(), mlx_float_codes(file, name, GetParam(), {})), 0U);
}

INSTANTIATE_TEST_SUITE_P(AllModes, MlxFloatCodes, ::testing::Values("mxfp4", "mxfp8", "nvfp4"));

TEST(MlxGlobalScale, MultipliesTheGroupScaleFirst) {
  REGAUGE_GOLDEN_OR_SKIP(path, "mlx/stacked_and_global.safetensors");
  const GoldenFile file(path);
  const float global_scale = file["nvfp4gs.bf16.global_scale"].as<float>().at(0);
  EXPECT_EQ(count_bit_differences(file["nvfp4gs.bf16.dq_f32"].as<float>(),
                                  mlx_float_codes(file, "nvfp4gs.bf16", "nvfp4", global_scale)),
            0U);
}

}  // namespace
}  // namespace regauge
