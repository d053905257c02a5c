#include "convert/factors.h"

#include <cmath>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "base/json.h"
#include "convert/adapt.h"
#include "convert/route/copy.h"
#include "ir/checkpoint.h"

namespace regauge {
namespace {

Part part_of(PartId id, const Shape& shape, const std::vector<float>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {id, DType::f32, shape,
          std::make_shared<MemoryRows>(std::vector<std::byte>(bytes.begin(), bytes.end()), shape.rows(),
                                       static_cast<std::size_t>(shape.columns()) * 4)};
}

Tensor corrected(const std::string& name, const Shape& shape, const std::vector<float>& weight, std::int64_t rank,
                 const std::vector<float>& a, const std::vector<float>& b) {
  Tensor tensor;
  tensor.name = name;
  tensor.shape = shape;
  tensor.encoding = Dense{DType::f32};
  tensor.parts.push_back(part_of(PartId::values, shape, weight));
  tensor.parts.push_back(part_of(PartId::lowrank_a, {rank, shape.columns()}, a));
  tensor.parts.push_back(part_of(PartId::lowrank_b, {shape.rows(), rank}, b));
  return tensor;
}

std::vector<float> rows_of(const Target& target) {
  std::vector<float> values(static_cast<std::size_t>(target.rows * target.columns));
  const std::span<std::byte> out = std::as_writable_bytes(std::span(values));
  Scratch scratch;
  Loss loss;
  make_copy(target)->make({0, target.rows}, std::span(&out, 1), scratch, loss);
  return values;
}

const Target* find(const Adaptation& adapted, const std::string& name) {
  for (const OutputDraft& output : adapted.outputs) {
    for (const Target& target : output.targets) {
      if (target.name == name) return &target;
    }
  }
  return nullptr;
}

TEST(LowRankNorm, IsTheFrobeniusNormOfTheProductAndOfTheWeightWithoutIt) {
  // B * A = {1, 1}^T {3, 0, 4} + {1, -1}^T {0, 2, 0} = {{3, 2, 4}, {3, -2, 4}}
  const Tensor tensor = corrected("m.weight", {2, 3}, {1, 2, 2, 0, 0, 4}, 2, {3, 0, 4, 0, 2, 0}, {1, 1, 1, -1});
  const LowRankNorm norm = measure_low_rank(tensor);
  EXPECT_DOUBLE_EQ(norm.correction, std::sqrt(58.0));
  EXPECT_DOUBLE_EQ(norm.weight, 5.0);
  EXPECT_DOUBLE_EQ(norm.relative(), std::sqrt(58.0) / 5.0);
}

TEST(LowRankFactors, OfSmallerRankAreFilledUpWithZerosForMlx) {
  Checkpoint source;
  source.dialect = Dialect::mlx;
  source.tensors.push_back(
      corrected("l.0.up_proj.weight", {2, 3}, {0, 0, 0, 0, 0, 0}, 2, {1, 2, 3, 4, 5, 6}, {1, 2, 3, 4}));
  source.tensors.push_back(corrected("l.1.up_proj.weight", {2, 3}, {0, 0, 0, 0, 0, 0}, 1, {7, 8, 9}, {5, 6}));
  ConvertOptions options;
  options.format = "mlx";
  const OpenedPath path{&source, nullptr};
  const Adaptation adapted = adapt(std::span(&path, 1), nullptr, Dialect::mlx, options);
  const Target* a = find(adapted, "l.1.up_proj.lora_a");
  const Target* b = find(adapted, "l.1.up_proj.lora_b");
  ASSERT_NE(a, nullptr);
  ASSERT_NE(b, nullptr);
  EXPECT_TRUE(a->is_transposed);
  EXPECT_EQ(a->shape, (Shape{2, 3}));
  EXPECT_EQ(rows_of(*a), (std::vector<float>{7, 8, 9, 0, 0, 0}));
  EXPECT_EQ(b->shape, (Shape{2, 2}));
  EXPECT_EQ(rows_of(*b), (std::vector<float>{5, 0, 6, 0}));
  const auto json = parse_json(adapter_config_text(FactorForm::mlx, adapted.corrected, nullptr), "adapter_config.json");
  EXPECT_EQ(json["lora_parameters"]["rank"], 2);
  EXPECT_EQ(json["lora_parameters"]["scale"], 1.0);
}

TEST(LowRankFactors, OfRanksOfTheirOwnKeepAScaleOfOneInPeft) {
  const std::vector<CorrectedModule> modules{{"model.layers.0.mlp.up_proj.weight", 8},
                                             {"model.layers.1.mlp.up_proj.weight", 8},
                                             {"model.layers.2.mlp.up_proj.weight", 4}};
  const auto json = parse_json(adapter_config_text(FactorForm::peft, modules, nullptr), "adapter_config.json");
  EXPECT_EQ(json["r"], 8);
  EXPECT_EQ(json["lora_alpha"], 8);
  EXPECT_EQ(json["rank_pattern"], Json({{"model.layers.2.mlp.up_proj", 4}}));
  EXPECT_EQ(json["alpha_pattern"], json["rank_pattern"]);
}

TEST(LowRankFactors, KeepWhatTheirConfigurationSaidBeyondRankAndScale) {
  const std::vector<CorrectedModule> modules{{"model.layers.0.mlp.up_proj.weight", 8}};
  const Json original{{"base_model_name_or_path", "who/what"},
                      {"r", 8},
                      {"lora_alpha", 16},
                      {"use_rslora", true},
                      {"target_modules", {"up_proj"}},
                      {"megatron_core", "megatron.core"}};
  const auto json = parse_json(adapter_config_text(FactorForm::peft, modules, &original), "adapter_config.json");
  EXPECT_EQ(json["base_model_name_or_path"], "who/what");
  EXPECT_EQ(json["megatron_core"], "megatron.core");
  EXPECT_EQ(json["lora_alpha"], 8);
  EXPECT_EQ(json["use_rslora"], false);
}

TEST(LowRankFactors, LeftOutAreNamedWithTheirWeight) {
  Checkpoint source;
  source.tensors.push_back(corrected("m.weight", {1, 2}, {3, 4}, 1, {1, 1}, {1}));
  ConvertOptions options;
  options.format = "safetensors";
  options.eora = EoraPolicy::drop;
  const OpenedPath path{&source, nullptr};
  const Adaptation adapted = adapt(std::span(&path, 1), nullptr, Dialect::hf, options);
  ASSERT_EQ(adapted.left_out.size(), 1U);
  EXPECT_EQ(adapted.left_out[0].corrected, &source.tensors[0]);
  EXPECT_EQ(find(adapted, "m.lora_A"), nullptr);
}

}  // namespace
}  // namespace regauge
