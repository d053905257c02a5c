#include <filesystem>
#include <functional>
#include <regex>
#include <set>
#include <string>

#include "base/half.h"
#include "formats/layouts/mlx_stream.h"
#include "tests/support/golden.h"
#include "tests/unit/layouts/words.h"

namespace regauge::layouts {
namespace {

using regauge::testing::count_bit_differences;
using regauge::testing::GoldenFile;

Bytes bytes_of(const GoldenFile::Entry& entry) { return {entry.bytes.begin(), entry.bytes.end()}; }

// A float tensor of any of MLX's three types, widened to f32.
std::vector<float> floats_of(const GoldenFile::Entry& entry) {
  if (entry.dtype == "F32") return entry.as<float>();
  std::vector<float> values;
  for (const std::uint16_t bits : entry.as<std::uint16_t>()) {
    values.push_back(entry.dtype == "F16" ? f16_to_f32(bits) : bf16_to_f32(bits));
  }
  return values;
}

std::function<float(float)> rounding_to(const std::string& dtype) {
  if (dtype == "F16") return [](float value) { return f16_to_f32(f32_to_f16(value)); };
  if (dtype == "BF16") return [](float value) { return bf16_to_f32(f32_to_bf16(value)); };
  return [](float value) { return value; };
}

// What a packed tensor and its parameters are called in a golden file.
struct Packed {
  std::string weight;
  std::string parameters;  // prefix of scales, biases and the decoded values
  int bits;
};

Codes codes_of(const GoldenFile& file, const Packed& tensor) {
  const auto& entry = file[tensor.weight];
  const std::int64_t columns = entry.shape.back() * 32 / tensor.bits;
  const std::int64_t rows = static_cast<std::int64_t>(entry.bytes.size()) / 4 / entry.shape.back();
  const Bytes words = bytes_of(entry);
  Codes codes = unwritten_codes(static_cast<std::size_t>(rows * columns));
  unpack_mlx_rows(tensor.bits, rows, columns, words, codes);
  Bytes packed = unwritten(words.size());
  pack_mlx_rows(tensor.bits, rows, columns, codes, packed);
  EXPECT_EQ(packed, words) << tensor.weight;
  return codes;
}

// MLX's own arithmetic: the product rounded to the scales' type, then the sum. Source: ml-explore/mlx mlx/ops.cpp.
std::vector<float> affine_values(const Codes& codes, const std::vector<float>& scales, const std::vector<float>& biases,
                                 const std::function<float(float)>& rounded) {
  const std::size_t group = codes.size() / scales.size();
  std::vector<float> values(codes.size());
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const float product = rounded(static_cast<float>(codes[i]) * scales[i / group]);
    values[i] = rounded(product + biases[i / group]);
  }
  return values;
}

// Returns how many decoded tensors were compared.
std::size_t expect_affine(const GoldenFile& file, const Packed& tensor) {
  SCOPED_TRACE(tensor.parameters);
  const Codes codes = codes_of(file, tensor);
  const auto scales = floats_of(file[tensor.parameters + ".scales"]);
  const auto biases = floats_of(file[tensor.parameters + ".biases"]);
  const auto& decoded = file[tensor.parameters + ".dq"];
  const auto values = affine_values(codes, scales, biases, rounding_to(decoded.dtype));
  EXPECT_EQ(count_bit_differences(floats_of(decoded), values), 0U);
  if (!file.contains(tensor.parameters + ".dq32")) return 1;
  const auto wide = affine_values(codes, scales, biases, rounding_to("F32"));
  EXPECT_EQ(count_bit_differences(file[tensor.parameters + ".dq32"].as<float>(), wide), 0U);
  return 2;
}

// mxfp4, mxfp8, nvfp4: one code, one scale byte, decoded to f32 by the type's own table; `factor` is the optional per-tensor
// scale. Sources: ml-explore/mlx mlx/backend/cpu/quantized.cpp, unary_ops.h.
void expect_fp(const GoldenFile& file, const Packed& tensor, const std::string& mode, const std::string& decoded,
               float factor = 1.0F) {
  SCOPED_TRACE(tensor.weight);
  const Codes codes = codes_of(file, tensor);
  const Codes scales = file[tensor.parameters + ".scales"].as<std::uint8_t>();
  const std::size_t group = codes.size() / scales.size();
  std::vector<float> values(codes.size());
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const std::uint8_t scale = scales[i / group];
    const float element = mode == "mxfp8" ? f8_e4m3_to_f32(codes[i], F8Flavour::mlx) : f4_e2m1_to_f32(codes[i]);
    const float step =
        mode == "nvfp4" ? f8_e4m3_to_f32(scale, F8Flavour::mlx) * factor : f8_e8m0_to_f32(scale, F8Flavour::mlx);
    values[i] = element * step;
  }
  EXPECT_EQ(count_bit_differences(file[decoded].as<float>(), values), 0U);
}

class MlxAffineGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(MlxAffineGolden, CodesDecodeToMlxsOwnValuesAndGoBack) {
  REGAUGE_GOLDEN_OR_SKIP(path, "mlx/affine_" + GetParam() + ".safetensors");
  const GoldenFile file(path);
  const std::regex pattern(R"((affine\.b(\d)\.g\d+\.\w+)\.weight)");
  std::size_t packed = 0;
  std::size_t decoded = 0;
  for (const auto& [name, entry] : file.entries()) {
    if (entry.dtype != "U32") continue;
    std::smatch match;
    ASSERT_TRUE(std::regex_match(name, match, pattern)) << name;
    decoded += expect_affine(file, {name, match[1], std::stoi(match[2])});
    ++packed;
  }
  EXPECT_EQ(packed, 18U);  // 2, 3, 4, 5, 6, 8 bits by groups of 32, 64, 128
  EXPECT_EQ(decoded, GetParam() == "f32" ? 18U : 36U);
}

INSTANTIATE_TEST_SUITE_P(Types, MlxAffineGolden, ::testing::Values("f32", "bf16", "f16"));

TEST(MlxGolden, RandomWordsDecodeToMlxsOwnValues) {
  REGAUGE_GOLDEN_OR_SKIP(path, "mlx/raw_codes.safetensors");
  const GoldenFile file(path);
  const std::regex affine(R"((raw\.b(\d)\.g\d+)\.weight)");
  const std::regex fp(R"((raw\.(mxfp4|mxfp8|nvfp4))\.weight)");
  std::size_t compared = 0;
  for (const auto& [name, entry] : file.entries()) {
    if (entry.dtype != "U32") continue;
    std::smatch match;
    if (std::regex_match(name, match, affine)) {
      for (const std::string type : {"f32", "bf16", "f16"}) {
        compared += expect_affine(file, {name, match[1].str() + "." + type, std::stoi(match[2])});
      }
    } else {
      ASSERT_TRUE(std::regex_match(name, match, fp)) << name;
      expect_fp(file, {name, match[1], match[2] == "mxfp8" ? 8 : 4}, match[2], match[1].str() + ".dq_f32");
      ++compared;
    }
  }
  EXPECT_EQ(compared, 18U * 3 + 3);
}

TEST(MlxGolden, FloatModesAreTheSameStreams) {
  REGAUGE_GOLDEN_OR_SKIP(path, "mlx/fp_modes.safetensors");
  const GoldenFile file(path);
  const std::regex pattern(R"(((mxfp4|mxfp8|nvfp4)\.\w+)\.weight)");
  std::size_t compared = 0;
  for (const auto& [name, entry] : file.entries()) {
    if (entry.dtype != "U32") continue;
    std::smatch match;
    ASSERT_TRUE(std::regex_match(name, match, pattern)) << name;
    expect_fp(file, {name, match[1], match[2] == "mxfp8" ? 8 : 4}, match[2], match[1].str() + ".dq_f32");
    ++compared;
  }
  EXPECT_EQ(compared, 9U);
}

TEST(MlxGolden, StackedExpertsAndScaledTensorsAreTheSameStreams) {
  REGAUGE_GOLDEN_OR_SKIP(path, "mlx/stacked_and_global.safetensors");
  const GoldenFile file(path);
  const std::regex affine(R"((affine3d\.b(\d)\.g\d+\.bf16)\.weight)");
  std::size_t compared = 0;
  for (const auto& [name, entry] : file.entries()) {
    if (entry.dtype != "U32" || name == "nvfp4gs.bf16.weight") continue;
    std::smatch match;
    ASSERT_TRUE(std::regex_match(name, match, affine)) << name;
    compared += expect_affine(file, {name, match[1], std::stoi(match[2])});
  }
  EXPECT_EQ(compared, 10U);
  const float factor = file["nvfp4gs.bf16.global_scale"].as<float>().at(0) / 2688.0F;
  expect_fp(file, {"nvfp4gs.bf16.weight", "nvfp4gs.bf16", 4}, "nvfp4", "nvfp4gs.bf16.dq_f32", factor);
}

TEST(MlxGolden, NoFileIsLeftOut) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(one, "mlx/raw_codes.safetensors");
  std::set<std::string> there;
  for (const auto& entry : std::filesystem::directory_iterator(one.parent_path())) {
    if (entry.path().extension() != ".md") there.insert(entry.path().filename().string());
  }
  // no_metadata holds nothing packed; ggml_golden_test.cpp reads the two gguf_import files.
  const std::set<std::string> known = {
      "affine_bf16.safetensors", "affine_f16.safetensors",  "affine_f32.safetensors",
      "fp_modes.safetensors",    "raw_codes.safetensors",   "stacked_and_global.safetensors",
      "gguf_import.gguf",        "gguf_import.safetensors", "no_metadata.safetensors"};
  EXPECT_EQ(there, known);
}

}  // namespace
}  // namespace regauge::layouts
