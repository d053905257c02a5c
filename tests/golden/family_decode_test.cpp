#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/digest.h"
#include "formats/format.h"
#include "ir/decode/tensor.h"
#include "tests/support/golden.h"

// The quantised children of one small Qwen3.5, whole directories as GPTQModel and mlx-lm publish them: every module's matrix
// hashes to what an independent decoder got.

namespace regauge {
namespace {

using testing::count_bit_differences;
using testing::GoldenFile;

/// The first `rows` rows; decodes as many more as the tensor's quantum asks for.
std::vector<float> decode(const Tensor& tensor, std::int64_t rows, DecodeOptions options = {}) {
  TensorDecoder decoder(tensor, options);
  const std::int64_t quantum = decoder.row_quantum();
  const std::int64_t whole = std::min((rows + quantum - 1) / quantum * quantum, tensor.shape.rows());
  std::vector<float> out(static_cast<std::size_t>(whole * tensor.shape.columns()));
  decoder.decode({0, whole}, out);
  out.resize(static_cast<std::size_t>(rows * tensor.shape.columns()));
  return out;
}

std::string sha256_of(const Tensor& tensor, DecodeOptions options = {}) {
  const std::vector<float> values = decode(tensor, tensor.shape.rows(), options);
  return hex(Sha256::of(std::as_bytes(std::span(values))));
}

nlohmann::json read_json(const std::filesystem::path& path) {
  std::ifstream in(path);
  return nlohmann::json::parse(in);
}

struct Variant {
  const char* name;
  const char* format;
  std::size_t modules;
};

class FamilyGolden : public ::testing::TestWithParam<Variant> {};

TEST_P(FamilyGolden, EveryModuleHashesToTheExpectedMatrix) {
  const std::string base = std::string("qwen35_family/") + GetParam().name;
  REGAUGE_GOLDEN_OR_SKIP(folder, base);
  REGAUGE_GOLDEN_OR_SKIP(json_path, base + ".expected.json");
  const Checkpoint checkpoint = open_checkpoint(folder);
  EXPECT_EQ(checkpoint.format, GetParam().format);
  const auto expected = read_json(json_path);
  ASSERT_EQ(expected["modules"].size(), GetParam().modules);
  std::size_t quantized = 0;
  for (const Tensor& tensor : checkpoint.tensors) quantized += is_quantized(tensor.encoding) ? 1 : 0;
  EXPECT_EQ(quantized, GetParam().modules);
  for (const auto& module : expected["modules"]) {
    const std::string name = module.value("mlx_name", module["name"].get<std::string>()) + ".weight";
    const Tensor* tensor = checkpoint.find(name);
    ASSERT_NE(tensor, nullptr) << name;
    const auto& encoding = std::get<Grouped>(tensor->encoding);
    EXPECT_EQ(encoding.bits, module["bits"]) << name;
    EXPECT_EQ(encoding.group.cols, module["group_size"]) << name;
    EXPECT_EQ(sha256_of(*tensor), module["sha256_f32"]) << name;
    if (module.contains("g_idx_trivial")) {
      EXPECT_EQ(group_index_is_trivial(*tensor), module["g_idx_trivial"].get<bool>()) << name;
    }
    EXPECT_EQ(tensor->has_low_rank(), module.contains("rank")) << name;
    if (module.contains("rank")) {
      EXPECT_EQ(tensor->part(PartId::lowrank_a).shape.rows(), module["rank"]) << name;
      EXPECT_EQ(sha256_of(*tensor, {.with_low_rank = true}), module["sha256_merged_f32"]) << name;
    }
  }
}

TEST_P(FamilyGolden, TheFirstRowsAreTheExpectedNumbers) {
  const std::string base = std::string("qwen35_family/") + GetParam().name;
  REGAUGE_GOLDEN_OR_SKIP(folder, base);
  REGAUGE_GOLDEN_OR_SKIP(json_path, base + ".expected.json");
  REGAUGE_GOLDEN_OR_SKIP(rows_path, base + ".expected.safetensors");
  const Checkpoint checkpoint = open_checkpoint(folder);
  const GoldenFile rows(rows_path);
  std::size_t compared = 0;
  const auto expected = read_json(json_path);
  for (const auto& module : expected["modules"]) {
    const auto hf = module["name"].get<std::string>() + ".weight";
    const Tensor* tensor = checkpoint.find(module.value("mlx_name", module["name"].get<std::string>()) + ".weight");
    ASSERT_NE(tensor, nullptr) << hf;
    const auto& plain = rows["rows." + hf];
    EXPECT_EQ(count_bit_differences(plain.as<float>(), decode(*tensor, plain.shape[0])), 0U) << hf;
    ++compared;
    if (rows.contains("rows_merged." + hf)) {
      const auto& merged = rows["rows_merged." + hf];
      EXPECT_EQ(count_bit_differences(merged.as<float>(), decode(*tensor, merged.shape[0], {.with_low_rank = true})),
                0U)
          << hf;
    }
  }
  EXPECT_EQ(compared, GetParam().modules);
}

TEST_P(FamilyGolden, EveryStoredArrayBelongsToOneTensor) {
  REGAUGE_GOLDEN_OR_SKIP(folder, std::string("qwen35_family/") + GetParam().name);
  const Checkpoint checkpoint = open_checkpoint(folder);
  std::vector<int> uses(checkpoint.arrays.size());
  for (const Tensor& tensor : checkpoint.tensors) {
    for (const std::size_t array : tensor.arrays) ++uses.at(array);
  }
  for (std::size_t i = 0; i < uses.size(); ++i) EXPECT_EQ(uses[i], 1) << checkpoint.arrays[i].name;
}

TEST_P(FamilyGolden, NothingButTheTrapsPlacedOnPurposeIsReported) {
  REGAUGE_GOLDEN_OR_SKIP(folder, std::string("qwen35_family/") + GetParam().name);
  const Checkpoint checkpoint = open_checkpoint(folder);
  for (const Finding& finding : checkpoint.findings) {
    ADD_FAILURE() << finding.code << ": " << finding.message << " (" << finding.tensor << ")";
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, FamilyGolden,
                         ::testing::Values(Variant{"gptq-int4-g128-noact", "gptq", 25},
                                           Variant{"gptq-int4-g64", "gptq", 25}, Variant{"gptq-mixed-eora", "gptq", 25},
                                           Variant{"mlx-8865", "mlx", 33}, Variant{"mlx-4bit", "mlx", 33}),
                         [](const auto& variant) {
                           std::string name = variant.param.name;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace regauge
