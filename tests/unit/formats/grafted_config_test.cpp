#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/json.h"
#include "formats/gptq/config_writer.h"
#include "formats/mlx/config_writer.h"

// Quantization configs of other writers, when modules join that they do not know.

namespace regauge {
namespace {

const gptq::ModuleSettings kFour{.bits = 4, .group_size = 64, .sym = true, .desc_act = true};
const gptq::ModuleSettings kEight{.bits = 8, .group_size = 128, .sym = true, .desc_act = false};
const std::vector<std::string> kExisting{"model.layers.0.mlp.down_proj", "model.layers.0.mlp.gate_proj"};

Json section_of(const char* dynamic = nullptr) {
  Json json = parse_json(R"({"bits":4,"group_size":64,"desc_act":true,"sym":true,"lm_head":false,"quant_method":"gptq",
                             "checkpoint_format":"gptq","meta":{"quantizer":["gptqmodel:6.0.3"],"foem":{"alpha":0.25}}})",
                         "quantize_config.json");
  if (dynamic != nullptr) json["dynamic"] = parse_json(dynamic, "quantize_config.json");
  return json;
}

const gptq::DynamicRule* rule_of(const gptq::Config& config, std::string_view module) {
  MatchBudget budget;
  return config.rule_for(module, budget);
}

TEST(GraftedGptqConfig, ExcludesDenseModulesBeforeAnyOtherRule) {
  const Json before = section_of(R"({"+:.*down_proj":{"bits":8}})");
  const std::vector<gptq::LinearModule> added{{"mtp.fc", std::nullopt}, {"mtp.layers.0.mlp.down_proj", std::nullopt}};
  const Json after = gptq::with_modules(before, kExisting, added);
  Findings findings;
  const gptq::Config config = gptq::parse_config({"quantize_config.json", after}, findings);
  for (const gptq::LinearModule& module : added) {
    const gptq::DynamicRule* rule = rule_of(config, module.name);
    ASSERT_NE(rule, nullptr) << module.name;
    EXPECT_TRUE(rule->excludes) << module.name;
  }
  // About those that were there it says what it said.
  ASSERT_NE(rule_of(config, kExisting[0]), nullptr);
  EXPECT_EQ(rule_of(config, kExisting[0])->key, "+:.*down_proj");
  EXPECT_EQ(rule_of(config, kExisting[1]), nullptr);
  EXPECT_EQ(after["meta"], before["meta"]);
}

TEST(GraftedGptqConfig, StaysAsItIsWhereItIsRightAlready) {
  const Json before = section_of(R"({"-:.*mtp.*":{}})");
  const std::vector<gptq::LinearModule> added{{"mtp.fc", std::nullopt}};
  EXPECT_EQ(gptq::with_modules(before, kExisting, added).dump(), before.dump());
  const std::vector<gptq::LinearModule> alike{{"model.layers.1.mlp.down_proj", kFour}};
  EXPECT_EQ(gptq::with_modules(before, kExisting, alike).dump(), before.dump());
}

TEST(GraftedGptqConfig, GivesModulesOfOtherSettingsAllOfThem) {
  const std::vector<gptq::LinearModule> added{{"mtp.layers.0.mlp.down_proj", kEight}, {"mtp.fc", std::nullopt}};
  const Json after = gptq::with_modules(section_of(), kExisting, added);
  Findings findings;
  const gptq::Config config = gptq::parse_config({"quantize_config.json", after}, findings);
  const gptq::Settings settings = config.settings_for(rule_of(config, "mtp.layers.0.mlp.down_proj"));
  EXPECT_EQ(settings.bits, 8);
  EXPECT_EQ(settings.group_size, 128);
  EXPECT_EQ(settings.desc_act, false);
  EXPECT_TRUE(rule_of(config, "mtp.fc")->excludes);
  EXPECT_EQ(rule_of(config, kExisting[0]), nullptr);
}

TEST(GraftedMlxConfig, OverridesWhatItWouldTakeForSomethingElse) {
  const Json before =
      parse_json(R"({"group_size":64,"bits":4,"mode":"affine","a.up_proj":{"group_size":64,"bits":8}})", "config.json");
  const std::vector<mlx::QuantizableModule> added{{"m.dense", std::nullopt},
                                                  {"m.alike", mlx::Settings{mlx::Mode::affine, 4, 64}},
                                                  {"m.wider", mlx::Settings{mlx::Mode::affine, 6, 64}}};
  const Json after = mlx::with_modules(before, added);
  EXPECT_FALSE(after.contains("m.dense"));
  EXPECT_FALSE(after.contains("m.alike"));
  ASSERT_TRUE(after.contains("m.wider"));
  EXPECT_EQ(after["m.wider"]["bits"], 6);
  EXPECT_EQ(after["a.up_proj"], before["a.up_proj"]);
}

}  // namespace
}  // namespace regauge
