#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <regex>
#include <string>
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
using testing::stored_as;

struct Encoded {
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
  std::vector<float> biases;
};

Encoded encode(int bits, std::int64_t group, DType dtype, const std::vector<float>& values,
               MlxRule rule = MlxRule::cpu) {
  const auto groups = values.size() / static_cast<std::size_t>(group);
  Encoded out{std::vector<std::uint8_t>(values.size(), 0xAA), std::vector<float>(groups), std::vector<float>(groups)};
  encode_mlx_affine(bits, group, dtype, values, out.codes, out.scales, out.biases, rule);
  return out;
}

/// Whether MLX's own arrays come out of `values`, byte for byte.
void expect_same_arrays(const GoldenFile& file, const std::string& name, int bits, std::int64_t group, DType dtype,
                        const std::vector<float>& values, std::int64_t columns) {
  SCOPED_TRACE(name);
  const Encoded encoded = encode(bits, group, dtype, values);
  const auto rows = static_cast<std::int64_t>(values.size()) / columns;
  std::vector<std::byte> words(static_cast<std::size_t>(rows * layouts::mlx_row_bytes(bits, columns)));
  layouts::pack_mlx_rows(bits, rows, columns, encoded.codes, words);
  EXPECT_TRUE(std::ranges::equal(words, file[name + ".weight"].bytes)) << "weight";
  EXPECT_TRUE(std::ranges::equal(stored_as(dtype, encoded.scales), file[name + ".scales"].bytes)) << "scales";
  EXPECT_TRUE(std::ranges::equal(stored_as(dtype, encoded.biases), file[name + ".biases"].bytes)) << "biases";
}

class MlxAffineGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(MlxAffineGolden, EveryWidthAndGroupHasMlxsBytes) {
  REGAUGE_GOLDEN_OR_SKIP(path, "mlx/affine_" + GetParam() + ".safetensors");
  const GoldenFile file(path);
  const auto& in = file["in." + GetParam()];
  const auto values = floats_of(in);
  const std::regex pattern(R"((affine\.b(\d)\.g(\d+)\.\w+)\.weight)");
  int compared = 0;
  for (const auto& [name, entry] : file.entries()) {
    std::smatch match;
    if (!std::regex_match(name, match, pattern)) continue;
    expect_same_arrays(file, match[1], std::stoi(match[2]), std::stoi(match[3]), *dtype_from_name(in.dtype), values,
                       in.shape.back());
    ++compared;
  }
  EXPECT_EQ(compared, 18);  // 2, 3, 4, 5, 6, 8 bits by groups of 32, 64, 128
}

INSTANTIATE_TEST_SUITE_P(Types, MlxAffineGolden, ::testing::Values("f32", "f16", "bf16"),
                         [](const auto& test) { return test.param; });

TEST(MlxAffine, StackedExpertsHaveMlxsBytes) {
  REGAUGE_GOLDEN_OR_SKIP(path, "mlx/stacked_and_global.safetensors");
  const GoldenFile file(path);
  const auto values = floats_of(file["in3d.bf16"]);
  for (const int bits : {3, 4, 5, 6, 8}) {
    expect_same_arrays(file, "affine3d.b" + std::to_string(bits) + ".g64.bf16", bits, 64, DType::bf16, values, 128);
  }
}

/// All tensors of a directory of safetensors files, by name.
class Directory {
 public:
  explicit Directory(const std::filesystem::path& path) {
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      if (entry.path().extension() != ".safetensors") continue;
      const auto file = std::make_shared<const GoldenFile>(entry.path());
      for (const auto& item : file->entries()) files_[item.first] = file;
    }
  }
  const GoldenFile& file_of(const std::string& name) const { return *files_.at(name); }
  const std::map<std::string, std::shared_ptr<const GoldenFile>>& names() const { return files_; }

 private:
  std::map<std::string, std::shared_ptr<const GoldenFile>> files_;
};

class MlxFamily : public ::testing::TestWithParam<std::string> {};

// The directory was quantized from hf-bf16 with MLX, so every module has to come out of that again.
TEST_P(MlxFamily, ModulesComeOutOfTheirBf16Source) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source_path, "qwen35_family/hf-bf16");
  REGAUGE_FULL_GOLDEN_OR_SKIP(path, "qwen35_family/" + GetParam());
  const Directory source(source_path);
  const Directory directory(path);
  int modules = 0;
  for (const auto& [name, file] : directory.names()) {
    if (!name.ends_with(".scales")) continue;
    const std::string mlx = name.substr(0, name.size() - 7);
    std::string hf = mlx + ".weight";
    if (hf.starts_with("language_model.model.")) hf.replace(0, 21, "model.language_model.");
    if (hf.starts_with("language_model.lm_head.")) hf.replace(0, 15, "");
    const auto& weight = source.file_of(hf)[hf];
    ASSERT_EQ(weight.dtype, "BF16");
    const std::int64_t columns = weight.shape.back();
    const auto bits = static_cast<int>((*file)[mlx + ".weight"].shape.back() * 32 / columns);
    const std::int64_t group = columns / (*file)[name].shape.back();
    expect_same_arrays(*file, mlx, bits, group, DType::bf16, floats_of(weight), columns);
    ++modules;
  }
  EXPECT_EQ(modules, 33);
}

INSTANTIATE_TEST_SUITE_P(Directories, MlxFamily, ::testing::Values("mlx-4bit", "mlx-8865"),
                         [](const auto& test) { return std::string(test.param == "mlx-4bit" ? "Uniform" : "Mixed"); });

std::vector<float> constant(float value) { return std::vector<float>(32, value); }

// ml-explore/mlx run on its CPU: a group of zeros has the smallest scale, negated because the range has no lower side.
TEST(MlxAffine, ZerosKeepTheSmallestScale) {
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    const Encoded zeros = encode(bits, 32, DType::f32, constant(0.0F));
    EXPECT_EQ(std::bit_cast<std::uint32_t>(zeros.scales[0]), 0xB3D6BF95U);
    EXPECT_EQ(zeros.biases[0], 0.0F);
    EXPECT_EQ(zeros.codes, std::vector<std::uint8_t>(32, 0));
  }
  EXPECT_EQ(f32_to_bf16(encode(4, 32, DType::bf16, constant(0.0F)).scales[0]), 0xB3D7);
  EXPECT_EQ(f32_to_f16(encode(4, 32, DType::f16, constant(0.0F)).scales[0]), 0x8002);
}

TEST(MlxAffine, AConstantGroupIsItsBias) {
  for (const float value : {0.0123F, -0.0123F, 1e30F, -3e38F}) {
    const Encoded encoded = encode(4, 32, DType::f32, constant(value));
    EXPECT_EQ(encoded.biases[0], value);
    EXPECT_EQ(encoded.codes, std::vector<std::uint8_t>(32, 0));
  }
}

// lo = 0 and hi = 15 at 4 bits: the side of larger magnitude is 15, so the scale is -1 and code 0 is 15.
TEST(MlxAffine, TheLargestMagnitudeIsCodeZero) {
  std::vector<float> values(32, 0.0F);
  for (std::size_t i = 0; i < 16; ++i) values[i] = static_cast<float>(i);
  const Encoded up = encode(4, 32, DType::f16, values);
  EXPECT_EQ(up.scales[0], -1.0F);
  EXPECT_EQ(up.biases[0], 15.0F);
  for (std::size_t i = 0; i < 16; ++i) EXPECT_EQ(up.codes[i], 15 - i);
  for (float& value : values) value = -value;
  const Encoded down = encode(4, 32, DType::f16, values);
  EXPECT_EQ(down.scales[0], 1.0F);
  EXPECT_EQ(down.biases[0], -15.0F);
  for (std::size_t i = 0; i < 16; ++i) EXPECT_EQ(down.codes[i], 15 - i);
}

// Scale -1 and bias 15 again; 0.5 below a whole code is a tie: to the even code on the CPU, away from zero on the GPU.
TEST(MlxAffine, TheRulesPartWhereAValueLiesBetweenTwoCodes) {
  std::vector<float> values(32, 0.0F);
  values[0] = 15.0F;
  values[1] = 14.5F;
  values[2] = 13.5F;
  const Encoded cpu = encode(4, 32, DType::f32, values);
  EXPECT_EQ(cpu.codes[1], 0);
  EXPECT_EQ(cpu.codes[2], 2);
  const Encoded metal = encode(4, 32, DType::f32, values, MlxRule::metal);
  EXPECT_EQ(metal.codes[1], 1);
  EXPECT_EQ(metal.codes[2], 2);
}

// ml-explore/mlx mlx/backend/metal/kernels/quantized.h begins its maximum at 0: a constant -15 has 15 steps of 1.
TEST(MlxAffine, TheMetalRangeIncludesZero) {
  const Encoded encoded = encode(4, 32, DType::f32, constant(-15.0F), MlxRule::metal);
  EXPECT_EQ(encoded.scales[0], 1.0F);
  EXPECT_EQ(encoded.biases[0], -15.0F);
  EXPECT_EQ(encoded.codes, std::vector<std::uint8_t>(32, 0));
}

TEST(MlxAffine, RefusesWhatMlxLeavesUndefined) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    std::vector<float> values(64, 1.0F);
    values[63] = bad;
    try {
      encode(4, 32, DType::f32, values);
      FAIL() << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::unsupported);
    }
  }
}

TEST(MlxAffine, TakesOnlyWhatMlxTakes) {
  int legal = 0;
  for (int bits = -1; bits <= 9; ++bits) {
    for (const std::int64_t group : {0, 16, 32, 64, 96, 128, 256}) legal += mlx_affine_is_legal(bits, group) ? 1 : 0;
  }
  EXPECT_EQ(legal, 18);
  EXPECT_THROW(encode(7, 32, DType::f32, constant(1.0F)), Error);
  EXPECT_THROW(encode(4, 16, DType::f32, constant(1.0F)), Error);
  EXPECT_THROW(encode(4, 32, DType::f8_e4m3, constant(1.0F)), Error);
  EXPECT_THROW(encode(4, 64, DType::f32, constant(1.0F)), Error);  // half a group
}

}  // namespace
}  // namespace regauge
