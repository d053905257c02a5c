#include "formats/mlx/mlx.h"

#include <cstdint>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "formats/mlx/config.h"
#include "ir/decode/tensor.h"
#include "tests/support/array_file.h"
#include "tests/support/golden.h"

namespace regauge {
namespace {

using mlx::Mode;
using mlx::Settings;
using testing::ArrayFile;
using testing::ScratchDir;
using testing::write_text;

/// An affine module of `rows` x `columns` with zeros for data.
void add_module(ArrayFile& file, const std::string& name, std::int64_t rows, std::int64_t columns, int bits,
                std::int64_t group) {
  const auto size = [](std::int64_t value) { return static_cast<std::size_t>(value); };
  file.fill(name + ".weight", "U32", {rows, columns * bits / 32}, size(rows * columns * bits / 8));
  file.fill(name + ".scales", "BF16", {rows, columns / group}, size(rows * columns / group * 2), 0x3F);
  file.fill(name + ".biases", "BF16", {rows, columns / group}, size(rows * columns / group * 2), 0x3F);
}

Checkpoint open(const ScratchDir& folder, const ArrayFile& arrays, const std::string& config) {
  arrays.write(folder / "model.safetensors");
  if (!config.empty()) write_text(folder / "config.json", config);
  return open_mlx(probe(folder.path()));
}

const Grouped& encoding_of(const Checkpoint& checkpoint, const std::string& name) {
  const Tensor* tensor = checkpoint.find(name);
  if (tensor == nullptr) throw std::runtime_error("no tensor " + name);
  return std::get<Grouped>(tensor->encoding);
}

std::multiset<std::string> codes_of(const Checkpoint& checkpoint) {
  std::multiset<std::string> codes;
  for (const Finding& finding : checkpoint.findings) codes.insert(finding.code);
  return codes;
}

TEST(MlxNames, OfOtherDialectsMeanTheModulesOfMlx) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(mlx::normalised_names("model.language_model.layers.0.mlp.up_proj"),
            Names{"language_model.model.layers.0.mlp.up_proj"});
  EXPECT_EQ(mlx::normalised_names("model.layers.0.mlp.up_proj"), Names{"language_model.model.layers.0.mlp.up_proj"});
  EXPECT_EQ(mlx::normalised_names("language_model.model.layers.0.x"), Names{"language_model.model.layers.0.x"});
  EXPECT_EQ(mlx::normalised_names("lm_head"), Names{"language_model.lm_head"});
  EXPECT_EQ(mlx::normalised_names("model.visual.blocks.0.attn.qkv"), Names{"vision_tower.blocks.0.attn.qkv"});
  EXPECT_EQ(mlx::normalised_names("model.language_model.visual.merger"), Names{"vision_tower.merger"});
  EXPECT_EQ(mlx::normalised_names("model.layers.1.mlp.experts.gate_up_proj"),
            (Names{"language_model.model.layers.1.mlp.switch_mlp.gate_proj",
                   "language_model.model.layers.1.mlp.switch_mlp.up_proj"}));
  EXPECT_EQ(mlx::normalised_names("model.layers.1.mlp.experts.7.down_proj"),
            Names{"language_model.model.layers.1.mlp.switch_mlp.down_proj"});
  EXPECT_EQ(mlx::normalised_names("transformer.h.0.attn"), Names{"transformer.h.0.attn"});
}

TEST(MlxShapes, TellTheWidthOnlyWhereOneFits) {
  EXPECT_EQ(mlx::settings_by_shape(2, 1, false), (Settings{Mode::affine, 2, 32}));
  EXPECT_EQ(mlx::settings_by_shape(20, 1, false), (Settings{Mode::affine, 5, 128}));
  EXPECT_EQ(mlx::settings_by_shape(32, 1, false), (Settings{Mode::affine, 8, 128}));
  EXPECT_FALSE(mlx::settings_by_shape(8, 1, false)) << "2 bits of 128, 4 of 64 and 8 of 32";
  EXPECT_EQ(mlx::settings_by_shape(8, 2, true), (Settings{Mode::mxfp4, 4, 32}));
  EXPECT_EQ(mlx::settings_by_shape(16, 2, true), (Settings{Mode::mxfp8, 8, 32}));
  EXPECT_EQ(mlx::settings_by_shape(4, 2, true), (Settings{Mode::nvfp4, 4, 16}));
  EXPECT_FALSE(mlx::settings_by_shape(3, 1, true));
}

TEST(MlxReader, AnOverrideTakesNothingFromTheGlobalEntry) {
  const ScratchDir folder;
  ArrayFile arrays;
  add_module(arrays, "a", 4, 128, 4, 32);
  add_module(arrays, "b", 4, 128, 4, 64);
  add_module(arrays, "c", 4, 128, 8, 64);
  const Checkpoint checkpoint =
      open(folder, arrays, R"({"quantization":{"group_size":32,"bits":4,"b":{},"c":{"bits":8,"group_size":null}}})");
  EXPECT_EQ(encoding_of(checkpoint, "a.weight").group.cols, 32);
  EXPECT_EQ(encoding_of(checkpoint, "b.weight").group.cols, 64);
  EXPECT_EQ(encoding_of(checkpoint, "c.weight").bits, 8);
  EXPECT_TRUE(checkpoint.findings.empty());
  EXPECT_EQ(checkpoint.dialect, Dialect::mlx);
  EXPECT_EQ(checkpoint.quantization.value()["bits"], 4);
}

TEST(MlxReader, OverridesUnderOtherNamesAreFoundAndReported) {
  const ScratchDir folder;
  ArrayFile arrays;
  add_module(arrays, "language_model.model.layers.0.mlp.up_proj", 4, 128, 8, 64);
  const Checkpoint checkpoint =
      open(folder, arrays,
           R"({"quantization":{"group_size":64,"bits":4,"model.language_model.layers.0.mlp.up_proj":{"bits":8}}})");
  EXPECT_EQ(encoding_of(checkpoint, "language_model.model.layers.0.mlp.up_proj.weight").bits, 8);
  EXPECT_EQ(codes_of(checkpoint), (std::multiset<std::string>{"mlx-override-renamed"}));
}

TEST(MlxReader, TheLayersOwnBiasIsNoBiases) {
  const ScratchDir folder;
  ArrayFile arrays;
  add_module(arrays, "a", 4, 64, 4, 64);
  arrays.fill("a.bias", "BF16", {4}, 8);
  const Checkpoint checkpoint = open(folder, arrays, R"({"quantization":{"group_size":64,"bits":4}})");
  std::vector<std::string> names;
  for (const Tensor& tensor : checkpoint.tensors) names.push_back(tensor.name);
  EXPECT_EQ(names, (std::vector<std::string>{"a.weight", "a.bias"}));
}

TEST(MlxReader, StackedExpertsKeepTheirShape) {
  const ScratchDir folder;
  ArrayFile arrays;
  arrays.fill("e.weight", "U32", {3, 4, 8}, 384)
      .fill("e.scales", "F16", {3, 4, 1}, 24)
      .fill("e.biases", "F32", {3, 4, 1}, 48);
  const Checkpoint checkpoint = open(folder, arrays, R"({"quantization":{"group_size":64,"bits":4}})");
  const Tensor* tensor = checkpoint.find("e.weight");
  ASSERT_NE(tensor, nullptr);
  EXPECT_EQ(tensor->shape, (Shape{3, 4, 64}));
  EXPECT_EQ(tensor->part(PartId::codes).rows->rows(), 12);
  const Grouped& encoding = std::get<Grouped>(tensor->encoding);
  EXPECT_EQ(encoding.scale, DType::f16);
  EXPECT_EQ(encoding.offset_dtype, DType::f32) << "scales and biases may differ in type";
}

TEST(MlxReader, ACopyUnderTheOtherKeyIsReadWithARemark) {
  const ScratchDir folder;
  ArrayFile arrays;
  add_module(arrays, "a", 4, 64, 4, 64);
  const Checkpoint checkpoint = open(folder, arrays, R"({"quantization_config":{"group_size":64,"bits":4}})");
  EXPECT_EQ(encoding_of(checkpoint, "a.weight").bits, 4);
  EXPECT_EQ(codes_of(checkpoint), (std::multiset<std::string>{"mlx-quantization-key"}));
}

TEST(MlxReader, ASingleShardNeedNotHoldEveryOverriddenModule) {
  const ScratchDir folder;
  ArrayFile arrays;
  add_module(arrays, "a", 4, 64, 4, 64);
  arrays.write(folder / "model-00001-of-00002.safetensors");
  write_text(folder / "config.json", R"({"quantization":{"group_size":64,"bits":4,"elsewhere":{"bits":8}}})");
  const Checkpoint checkpoint = open_checkpoint(folder / "model-00001-of-00002.safetensors");
  EXPECT_EQ(checkpoint.format, "mlx");
  EXPECT_EQ(encoding_of(checkpoint, "a.weight").bits, 4);
}

TEST(MlxReader, CodesOfUnknownWidthAreNotTakenForIntegers) {
  const ScratchDir folder;
  ArrayFile arrays;
  add_module(arrays, "a", 4, 64, 4, 64);
  const Checkpoint checkpoint = open(folder, arrays, "");
  EXPECT_FALSE(is_decodable(checkpoint.find("a.weight")->encoding));
  EXPECT_EQ(codes_of(checkpoint), (std::multiset<std::string>{"mlx-width-unknown"}));
}

TEST(MlxReader, LinearFactorsAreTurnedRoundAndThoseOfEmbeddingsAreNot) {
  const ScratchDir folder;
  ArrayFile arrays;
  add_module(arrays, "proj", 32, 32, 8, 32);
  add_module(arrays, "embed_tokens", 32, 32, 8, 32);
  std::vector<float> factor(32 * 2);
  factor[1] = 3;  // row 0, column 1 of [32, 2]
  ArrayFile adapter;
  for (const std::string module : {"proj", "embed_tokens"}) {
    adapter.add(module + ".lora_a", "F32", {32, 2}, factor).fill(module + ".lora_b", "F32", {2, 32}, 256);
  }
  adapter.write(folder / "adapters.safetensors");
  write_text(folder / "adapter_config.json", R"({"fine_tune_type":"lora","lora_parameters":{"rank":2,"scale":1.0}})");
  const Checkpoint checkpoint = open(folder, arrays, R"({"quantization":{"group_size":32,"bits":8}})");
  EXPECT_EQ(checkpoint.tensors.size(), 2U);
  std::vector<float> read(32 * 2);
  checkpoint.find("proj.weight")->part(PartId::lowrank_a).rows->read({0, 2}, std::as_writable_bytes(std::span(read)));
  EXPECT_EQ(read[32], 3.0F) << "A of a linear layer is lora_a the other way round";
  checkpoint.find("embed_tokens.weight")
      ->part(PartId::lowrank_b)
      .rows->read({0, 32}, std::as_writable_bytes(std::span(read)));
  EXPECT_EQ(read[1], 3.0F) << "B of an embedding is lora_a as it stands";
}

TEST(MlxReader, ANamedAdapterThatCannotBeAttachedIsRefused) {
  const ScratchDir folder;
  ArrayFile arrays;
  add_module(arrays, "a", 4, 64, 4, 64);
  open(folder, arrays, R"({"quantization":{"group_size":64,"bits":4}})");
  std::filesystem::create_directory(folder / "lora");
  OpenOptions options;
  options.adapter = folder / "lora";
  EXPECT_THROW(open_mlx(probe(folder.path()), options), Error);
  ArrayFile()
      .fill("a.lora_a", "F16", {64, 2}, 256)
      .fill("a.lora_b", "F16", {2, 4}, 16)
      .write(folder / "lora/adapters.safetensors");
  write_text(folder / "lora/adapter_config.json",
             R"({"fine_tune_type":"lora","lora_parameters":{"rank":2,"scale":20.0}})");
  try {
    open_mlx(probe(folder.path()), options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
  }
  write_text(folder / "lora/adapter_config.json",
             R"({"fine_tune_type":"lora","lora_parameters":{"rank":2,"scale":1.0}})");
  EXPECT_TRUE(open_mlx(probe(folder.path()), options).find("a.weight")->has_low_rank());
}

TEST(MlxBid, TakesDenseCheckpointsThatMlxWrote) {
  const ScratchDir folder;
  const std::string header =
      R"({"__metadata__":{"format":"mlx"},"a.weight":{"data_offsets":[0,8],"dtype":"BF16","shape":[2,2]}})";
  std::string file(8, '\0');
  file[0] = static_cast<char>(header.size());
  file += header + std::string(8, '\1');
  write_text(folder / "model.safetensors", file);
  const Checkpoint checkpoint = open_checkpoint(folder.path());
  EXPECT_EQ(checkpoint.format, "mlx");
  EXPECT_EQ(checkpoint.dialect, Dialect::mlx);
  EXPECT_EQ(open_checkpoint(folder / "model.safetensors").format, "mlx");
}

TEST(MlxBid, LeavesOtherQuantizersToOthers) {
  const ScratchDir folder;
  ArrayFile arrays;
  arrays.fill("a.weight", "F8_E4M3", {4, 32}, 128).fill("a.scales", "F32", {4, 1}, 16);
  arrays.write(folder / "model.safetensors");
  EXPECT_EQ(open_checkpoint(folder.path()).format, "safetensors") << "names alone do not make it one";
  add_module(arrays, "b", 4, 64, 4, 64);
  arrays.write(folder / "model.safetensors");
  EXPECT_EQ(open_checkpoint(folder.path()).format, "mlx");
  write_text(folder / "config.json", R"({"quantization_config":{"quant_method":"fp8"}})");
  EXPECT_EQ(open_checkpoint(folder.path()).format, "safetensors");
}

}  // namespace
}  // namespace regauge
