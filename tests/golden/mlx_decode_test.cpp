#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "formats/mlx/mlx.h"
#include "ir/decode/tensor.h"
#include "tests/support/array_file.h"
#include "tests/support/golden.h"

// What MLX's own quantize() and safetensors writer made, read by the mlx reader, against MLX's own dequantize() in f32.

namespace regauge {
namespace {

using testing::ArrayFile;
using testing::count_bit_differences;
using testing::GoldenFile;
using testing::ScratchDir;
using testing::write_text;

std::vector<float> decode(const Tensor& tensor, std::int64_t band) {
  TensorDecoder decoder(tensor);
  const std::int64_t columns = tensor.shape.columns();
  std::vector<float> out(static_cast<std::size_t>(tensor.shape.elements()));
  for (std::int64_t row = 0; row < tensor.shape.rows(); row += band) {
    const std::int64_t end = std::min(row + band, tensor.shape.rows());
    decoder.decode({row, end}, std::span(out).subspan(static_cast<std::size_t>(row * columns),
                                                      static_cast<std::size_t>((end - row) * columns)));
  }
  return out;
}

/// A module of a golden file: where its arrays are, how it was quantized and what MLX makes of it.
struct Case {
  std::string weight, scales, biases, global_scale, expected;
  nlohmann::json settings;
};

/// Opens a checkpoint that is made of the file's own modules with an override each, and counts tensors that were compared.
int expect_equal(const GoldenFile& file, const std::vector<Case>& cases) {
  const ScratchDir folder;
  ArrayFile arrays;
  nlohmann::json section = {{"group_size", 64}, {"bits", 4}};
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const Case& one = cases[i];
    const std::string module = "m" + std::to_string(i);
    arrays.add(module + ".weight", file[one.weight]).add(module + ".scales", file[one.scales]);
    if (!one.biases.empty()) arrays.add(module + ".biases", file[one.biases]);
    if (!one.global_scale.empty()) arrays.add(module + ".global_scale", file[one.global_scale]);
    section[module] = one.settings;
  }
  arrays.write(folder / "model.safetensors");
  write_text(folder / "config.json", nlohmann::json{{"quantization", section}}.dump());
  const Checkpoint checkpoint = open_mlx(probe(folder.path()));
  EXPECT_EQ(checkpoint.tensors.size(), cases.size());
  int compared = 0;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const Tensor* tensor = checkpoint.find("m" + std::to_string(i) + ".weight");
    if (tensor == nullptr) throw std::runtime_error("no module for " + cases[i].weight);
    EXPECT_EQ(tensor->shape.dims, file[cases[i].expected].shape);
    EXPECT_EQ(count_bit_differences(file[cases[i].expected].as<float>(), decode(*tensor, 3)), 0U) << cases[i].weight;
    ++compared;
  }
  return compared;
}

nlohmann::json affine(int bits, int group) { return {{"bits", bits}, {"group_size", group}}; }

constexpr int kBits[] = {2, 3, 4, 5, 6, 8};
constexpr int kGroups[] = {32, 64, 128};

class MlxAffineGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(MlxAffineGolden, EveryWidthAndGroupSizeDecodesBitForBit) {
  REGAUGE_GOLDEN_OR_SKIP(path, "mlx/affine_" + GetParam() + ".safetensors");
  const GoldenFile file(path);
  std::vector<Case> cases;
  for (const int bits : kBits) {
    for (const int group : kGroups) {
      const std::string name = "affine.b" + std::to_string(bits) + ".g" + std::to_string(group) + "." + GetParam();
      const std::string expected = name + (GetParam() == "f32" ? ".dq" : ".dq32");
      cases.push_back({name + ".weight", name + ".scales", name + ".biases", {}, expected, affine(bits, group)});
    }
  }
  EXPECT_EQ(expect_equal(file, cases), 18);
}

TEST_P(MlxAffineGolden, AFileThatMlxWroteOpensAsItLies) {
  REGAUGE_GOLDEN_OR_SKIP(path, "mlx/affine_" + GetParam() + ".safetensors");
  const GoldenFile file(path);
  const Checkpoint checkpoint = open_mlx(probe(path));
  EXPECT_EQ(checkpoint.dialect, Dialect::mlx);
  // Without a config only widths that no other explains are decoded; the others must not be taken for integers.
  int decoded = 0;
  for (const int bits : kBits) {
    for (const int group : kGroups) {
      const std::string name = "affine.b" + std::to_string(bits) + ".g" + std::to_string(group) + "." + GetParam();
      const Tensor* tensor = checkpoint.find(name + ".weight");
      ASSERT_NE(tensor, nullptr);
      if (!is_decodable(tensor->encoding)) continue;
      ++decoded;
      EXPECT_EQ(
          count_bit_differences(file[name + (GetParam() == "f32" ? ".dq" : ".dq32")].as<float>(), decode(*tensor, 64)),
          0U)
          << name;
    }
  }
  EXPECT_EQ(decoded, 7) << "bits * group of 64, 96, 160, 320, 640, 768 and 1024 are unique";
}

INSTANTIATE_TEST_SUITE_P(Dtypes, MlxAffineGolden, ::testing::Values("f32", "bf16", "f16"));

TEST(MlxRawGolden, CodesThatNoQuantizerMadeDecodeBitForBit) {
  REGAUGE_GOLDEN_OR_SKIP(path, "mlx/raw_codes.safetensors");
  const GoldenFile file(path);
  std::vector<Case> cases;
  for (const int bits : kBits) {
    for (const int group : kGroups) {
      const std::string name = "raw.b" + std::to_string(bits) + ".g" + std::to_string(group);
      // The f32 parameters only: with 16-bit ones the file holds MLX's evaluation in that type.
      cases.push_back(
          {name + ".weight", name + ".f32.scales", name + ".f32.biases", {}, name + ".f32.dq", affine(bits, group)});
    }
  }
  for (const std::string mode : {"mxfp4", "mxfp8", "nvfp4"}) {
    const std::string name = "raw." + mode;
    cases.push_back(
        {name + ".weight", name + ".scales", {}, {}, name + ".dq_f32", {{"mode", mode}, {"bits", nullptr}}});
  }
  EXPECT_EQ(expect_equal(file, cases), 21);
}

TEST(MlxFloatModesGolden, EveryModeDecodesBitForBit) {
  REGAUGE_GOLDEN_OR_SKIP(path, "mlx/fp_modes.safetensors");
  const GoldenFile file(path);
  std::vector<Case> cases;
  for (const std::string mode : {"mxfp4", "mxfp8", "nvfp4"}) {
    for (const std::string dtype : {"f32", "bf16", "f16"}) {
      const std::string name = mode + "." + dtype;
      cases.push_back({name + ".weight", name + ".scales", {}, {}, name + ".dq_f32", {{"mode", mode}}});
    }
  }
  EXPECT_EQ(expect_equal(file, cases), 9);
}

TEST(MlxStackedGolden, ExpertsInThreeDimensionsDecodeBitForBit) {
  REGAUGE_GOLDEN_OR_SKIP(path, "mlx/stacked_and_global.safetensors");
  const GoldenFile file(path);
  std::vector<Case> cases;
  for (const int bits : {3, 4, 5, 6, 8}) {
    const std::string name = "affine3d.b" + std::to_string(bits) + ".g64.bf16";
    cases.push_back({name + ".weight", name + ".scales", name + ".biases", {}, name + ".dq32", affine(bits, 64)});
  }
  cases.push_back({"nvfp4gs.bf16.weight",
                   "nvfp4gs.bf16.scales",
                   {},
                   "nvfp4gs.bf16.global_scale",
                   "nvfp4gs.bf16.dq_f32",
                   {{"mode", "nvfp4"}}});
  EXPECT_EQ(expect_equal(file, cases), 6);
}

TEST(MlxGgufImportGolden, WhatMlxMadeOfGgufBlocksDecodesBitForBit) {
  REGAUGE_GOLDEN_OR_SKIP(path, "mlx/gguf_import.safetensors");
  const GoldenFile file(path);
  std::vector<Case> cases;
  for (const auto& [name, bits] :
       {std::pair("blk.0.attn_k", 4), std::pair("blk.0.attn_q", 4), std::pair("blk.0.ffn_down", 8)}) {
    const std::string stem = name;
    cases.push_back({stem + ".weight", stem + ".scales", stem + ".biases", {}, stem + ".dq_f32", affine(bits, 32)});
  }
  EXPECT_EQ(expect_equal(file, cases), 3);
}

TEST(MlxNoMetadataGolden, NullMetadataIsNoError) {
  REGAUGE_GOLDEN_OR_SKIP(path, "mlx/no_metadata.safetensors");
  const Checkpoint checkpoint = open_mlx(probe(path));
  EXPECT_EQ(checkpoint.tensors.size(), 5U);
}

}  // namespace
}  // namespace regauge
