#include "formats/gptq/config.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/pattern.h"
#include "tests/support/array_file.h"
#include "tests/support/golden.h"

namespace regauge::gptq {
namespace {

using testing::ScratchDir;
using testing::write_text;

bool matches(std::string_view pattern, std::string_view subject) {
  MatchBudget budget;
  return Pattern(pattern).matches(subject, budget);
}

Config parse(std::string_view text, Findings* findings = nullptr) {
  Findings ignored;
  return parse_config({"quantize_config.json", parse_json(text, "quantize_config.json")},
                      findings != nullptr ? *findings : ignored);
}

TEST(GptqPattern, IsAnchoredAtTheStartOnly) {
  EXPECT_TRUE(matches("model", "model.layers.0"));
  EXPECT_FALSE(matches("layers", "model.layers.0"));
  EXPECT_TRUE(matches(".*layers", "model.layers.0"));
  EXPECT_FALSE(matches("^model$", "model.layers"));
  EXPECT_TRUE(matches(R"(.*\.(q|k)_proj)", "model.layers.0.self_attn.k_proj"));
  EXPECT_TRUE(matches(R"((?!.*mtp))", "model.layers.0"));
  EXPECT_FALSE(matches(R"((?!.*mtp))", "x.mtp.fc"));
}

TEST(GptqPattern, ASpentBudgetEndsTheMatchInsteadOfHanging) {
  MatchBudget budget{.steps = 1000};
  const Pattern pattern("(a*)*b");
  try {
    for (int i = 0; i < 1000; ++i) pattern.matches("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", budget);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::malformed);
  }
  EXPECT_LT(budget.steps, 1000U);
}

TEST(GptqConfig, TheFirstRuleThatMatchesWinsAndExclusionsComeFirst) {
  const Config config = parse(
      R"({"bits":4,"group_size":128,"sym":true,"dynamic":{"+:.*attn.*":{"bits":8},".*":{"group_size":64},"-:.*q_proj":{}}})");
  MatchBudget budget;
  const DynamicRule* attention = config.rule_for("layers.0.self_attn.o_proj", budget);
  ASSERT_NE(attention, nullptr);
  EXPECT_EQ(attention->key, "+:.*attn.*");
  EXPECT_EQ(config.settings_for(attention).bits, 8);
  EXPECT_EQ(config.settings_for(attention).group_size, 128);
  const DynamicRule* rest = config.rule_for("layers.0.mlp.up_proj", budget);
  EXPECT_EQ(config.settings_for(rest).bits, 4);
  EXPECT_EQ(config.settings_for(rest).group_size, 64);
  const DynamicRule* query = config.rule_for("layers.0.self_attn.q_proj", budget);
  ASSERT_NE(query, nullptr);
  EXPECT_TRUE(query->excludes);
}

TEST(GptqConfig, AliasesOfOlderWritersAreUnderstood) {
  const Config config =
      parse(R"({"W_Bit":3,"q_group_size":64,"version":"gptq_v2","zero_point":true,"quant_method":"gptq"})");
  EXPECT_EQ(config.defaults.bits, 3);
  EXPECT_EQ(config.defaults.group_size, 64);
  EXPECT_EQ(config.defaults.sym, false);
  EXPECT_EQ(config.format, WordFormat::v2);
  EXPECT_EQ(parse(R"({"bits":4,"wbits":8})").defaults.bits, 4) << "the format's own key wins";
}

TEST(GptqConfig, MarlinIsToldInThreeWays) {
  EXPECT_EQ(parse(R"({"checkpoint_format":"marlin"})").format, WordFormat::marlin);
  EXPECT_EQ(parse(R"({"quant_method":"marlin","bits":4})").format, WordFormat::marlin);
  EXPECT_EQ(parse(R"({"quant_method":"gptq","is_marlin_format":true})").format, WordFormat::marlin);
  EXPECT_EQ(parse(R"({"quant_method":"gptq","is_marlin_format":false})").format, WordFormat::v1);
}

TEST(GptqConfig, ARuleWithFiveBitsMakesEverythingPlanar) {
  Findings findings;
  const Config config = parse(R"({"bits":4,"format":"gptq","dynamic":{"x":{"bits":5}}})", &findings);
  EXPECT_EQ(config.format, WordFormat::planar);
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].code, "gptq-format-planar");
}

TEST(GptqConfig, TheWritersVersionIsFoundAmongTheQuantizers) {
  EXPECT_EQ(parse(R"({"meta":{"quantizer":["other:1.2","gptqmodel:6.0.3"]}})").gptqmodel, std::pair(6, 0));
  EXPECT_EQ(parse(R"({"meta":{"quantizer":"gptqmodel:7.3.4-dev"}})").gptqmodel, std::pair(7, 3));
  EXPECT_FALSE(parse(R"({"meta":{"quantizer":["gptqmodel:"]}})").gptqmodel);
  EXPECT_FALSE(parse(R"({"meta":{"quantizer":["gptqmodel:99999999999.1"]}})").gptqmodel);
  EXPECT_FALSE(parse(R"({"meta":7})").gptqmodel);
}

TEST(GptqConfig, OtherQuantizersAreTold) {
  const auto foreign = [](std::string_view text) { return is_foreign(parse_json(text, "test")); };
  const auto ours = [](std::string_view text) { return is_ours(parse_json(text, "test")); };
  EXPECT_TRUE(foreign(R"({"quant_method":"awq","bits":4})"));
  EXPECT_TRUE(foreign(R"({"quant_method":"compressed-tensors"})"));
  EXPECT_TRUE(foreign(R"({"w_bit":4,"q_group_size":128,"zero_point":true,"version":"GEMM"})"));
  EXPECT_FALSE(foreign(R"({"bits":4,"group_size":128,"desc_act":false})")) << "AutoGPTQ names no method";
  EXPECT_TRUE(ours(R"({"quant_method":"GPTQ"})"));
  EXPECT_FALSE(ours(R"({"bits":4,"group_size":64})")) << "MLX writes such a copy";
  EXPECT_FALSE(foreign("[]"));
  EXPECT_FALSE(ours("[]"));
}

TEST(GptqConfig, FilesAreLookedForInGptqModelsOrder) {
  const ScratchDir folder;
  const FolderPtr files = disk_folder(folder.path());
  EXPECT_FALSE(find_section(*files, std::nullopt));
  write_text(folder / "config.json", R"({"text_config":{"quantization_config":{"bits":2}}})");
  EXPECT_EQ(find_section(*files, std::nullopt)->json["bits"], 2);
  write_text(folder / "config.json",
             R"({"quantization_config":{"bits":3},"text_config":{"quantization_config":{"bits":2}}})");
  EXPECT_EQ(find_section(*files, std::nullopt)->json["bits"], 3);
  write_text(folder / "quant_config.json", R"({"bits":4})");
  EXPECT_EQ(find_section(*files, std::nullopt)->json["bits"], 4);
  write_text(folder / "quantize_config.json", R"({"bits":8})");
  const auto section = find_section(*files, std::nullopt);
  EXPECT_EQ(section->json["bits"], 8);
  EXPECT_EQ(section->path, (folder / "quantize_config.json").native());
}

}  // namespace
}  // namespace regauge::gptq
