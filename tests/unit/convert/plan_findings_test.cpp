#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "convert/plan.h"
#include "convert/recipe/recipe.h"
#include "tests/support/golden.h"
#include "tests/support/tensors.h"

namespace regauge {
namespace {

Plan plan_gptq(std::uint8_t zero, GptqLayout layout) {
  std::mt19937 random(1);
  testing::GroupedSpec spec{
      .rows = 32, .columns = 64, .bits = 4, .group = 32, .codes = {}, .scales = {}, .zeros = {}, .index = {}};
  for (int i = 0; i < 32 * 64; ++i) spec.codes.push_back(static_cast<std::uint8_t>(random() % 16));
  for (int i = 0; i < 32 * 2; ++i) {
    spec.scales.push_back(static_cast<std::uint16_t>(0x1400 + random() % 0x800));
    spec.zeros.push_back(zero);
  }
  // The plan points into it; nothing here outlives the call but findings.
  Checkpoint source;
  source.path = "memory";
  source.tensors.push_back(testing::grouped_tensor("model.t.weight", spec));
  ConvertOptions options;
  options.format = "gptq";
  options.layout = layout;
  return plan_conversion(source, nullptr, "out", options);
}

bool warns_of_asymmetry(const Plan& plan) {
  return std::ranges::find(plan.findings, "gptq-asymmetric-v1", &Finding::code) != plan.findings.end();
}

TEST(PlanFindings, AsymmetricModulesInV1AreNotWhatGptqModelLoads) {
  EXPECT_TRUE(warns_of_asymmetry(plan_gptq(5, GptqLayout::v1)));
  EXPECT_FALSE(warns_of_asymmetry(plan_gptq(5, GptqLayout::v2)));
  EXPECT_FALSE(warns_of_asymmetry(plan_gptq(8, GptqLayout::v1)));
}

TEST(PlanFindings, TheMetalRuleIsMarkedAsUnverifiedWhereItMakesCodes) {
  Checkpoint source;
  source.path = "memory";
  source.dialect = Dialect::mlx;
  source.tensors.push_back(testing::dense_tensor("model.t.weight", {4, 64}, std::vector<float>(256, 0.5F)));
  const auto warns = [&source](MlxRule rule, const char* type) {
    Recipe recipe;
    recipe.rules.push_back(rule_from_text(type));
    ConvertOptions options;
    options.format = "mlx";
    options.mlx_rule = rule;
    options.recipe = std::make_shared<const Recipe>(recipe);
    const Plan plan = plan_conversion(source, nullptr, "out", options);
    return std::ranges::find(plan.findings, "mlx-rule-unverified", &Finding::code) != plan.findings.end();
  };
  EXPECT_TRUE(warns(MlxRule::metal, "model.t=int4"));
  EXPECT_FALSE(warns(MlxRule::cpu, "model.t=int4"));
  EXPECT_FALSE(warns(MlxRule::metal, "model.t=f32"));
}

}  // namespace
}  // namespace regauge
