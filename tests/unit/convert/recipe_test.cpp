#include "convert/recipe/recipe.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "convert/plan.h"
#include "convert/recipe/assign.h"
#include "formats/format.h"
#include "models/architecture.h"
#include "tests/support/golden.h"

namespace regauge {
namespace {

using testing::sample_path;

Recipe parsed(const std::string& text) { return parse_recipe(parse_json(text, "r.json"), "r.json"); }

ErrorCode code_of(const std::string& recipe) {
  try {
    parsed(recipe);
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("r.json"), std::string::npos) << error.what();
    return error.code();
  }
  return ErrorCode::internal;
}

TEST(Wish, ReadsBackAsItIsWritten) {
  for (const char* text :
       {"exact", "bf16", "Q6_K", "int4-g128", "int4-g64-asym", "int8-g-1", "mxfp4", "mxfp8", "nvfp4"}) {
    const auto wish = wish_from_text(text);
    ASSERT_TRUE(wish) << text;
    EXPECT_EQ(to_string(*wish), text);
  }
  EXPECT_EQ(wish_from_text("q6_k"), Wish(BlockType::q6_K));
  EXPECT_EQ(wish_from_text("INT4"), Wish(AffineWish{.bits = 4}));
  for (const char* text : {"", "int9", "int4-g", "int4-g0", "int4-gx", "int", "q9_K", "i32", "int4-g99999999999"})
    EXPECT_FALSE(wish_from_text(text)) << text;
}

TEST(Wish, IsSaidInTheWordsOfAFormat) {
  const Format& gguf = *find_format("gguf");
  const Format& mlx = *find_format("mlx");
  const Format& gptq = *find_format("gptq");
  EXPECT_EQ(translate(AffineWish{.bits = 6}, gguf), Wish(BlockType::q6_K));
  EXPECT_EQ(translate(BlockType::q5_K, mlx), Wish(AffineWish{.bits = 5, .group = 64}));
  EXPECT_EQ(translate(BlockType::q5_K, gptq), Wish(AffineWish{.bits = 8, .group = 128}));
  EXPECT_EQ(translate(FloatBlocks::nvfp4, gguf), Wish(BlockType::nvfp4));
  EXPECT_FALSE(translate(BlockType::q4_K, *find_format("safetensors")));
}

TEST(FitBlocks, TakesTheBlocksOf32ThatLlamaQuantizeTakes) {
  using Element = std::variant<DType, BlockType>;
  EXPECT_EQ(fit_blocks(BlockType::q4_K, 512), Element(BlockType::q4_K));
  EXPECT_EQ(fit_blocks(BlockType::q4_K, 128), Element(BlockType::q5_0));
  EXPECT_EQ(fit_blocks(BlockType::q6_K, 96), Element(BlockType::q8_0));
  EXPECT_EQ(fit_blocks(BlockType::q4_0, 40), Element(DType::f16));
}

TEST(Rule, HasAPatternOrAComponent) {
  EXPECT_EQ(rule_from_text("a=b=Q4_0").pattern, "a=b");
  EXPECT_EQ(rule_from_text("@attention=int8").component, Component::attention);
  for (const char* text : {"Q4_0", "=Q4_0", "x=", "x=nothing", "@nowhere=Q4_0", "(=Q4_0"}) {
    try {
      rule_from_text(text);
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid) << text;
    }
  }
}

TEST(RecipeFile, SaysWhichRuleIsWrong) {
  const Recipe recipe =
      parsed(R"({"base": "Q4_K_M", "rules": [{"pattern": "ffn", "type": "q6_K"}], "allow": ["rounded"]})");
  EXPECT_EQ(recipe.mixture, find_llama_file_type("q4_k"));
  EXPECT_EQ(recipe.rules.size(), 1U);
  EXPECT_TRUE(recipe.allow.rounded);
  EXPECT_EQ(recipe.name, "r");
  EXPECT_EQ(code_of(R"([])"), ErrorCode::malformed);
  EXPECT_EQ(code_of(R"({"schema": "regauge.recipe/2"})"), ErrorCode::unsupported);
  EXPECT_EQ(code_of(R"({"rule": []})"), ErrorCode::malformed);
  EXPECT_EQ(code_of(R"({"rules": [{"pattern": "x"}]})"), ErrorCode::malformed);
  EXPECT_EQ(code_of(R"({"rules": [{"pattern": "(", "type": "Q4_0"}]})"), ErrorCode::invalid);
  EXPECT_EQ(code_of(R"({"rules": [{"component": "x", "type": "Q4_0"}]})"), ErrorCode::malformed);
  EXPECT_EQ(code_of(R"({"allow": ["everything"]})"), ErrorCode::malformed);
  EXPECT_EQ(code_of(R"({"base": "Q9_X"})"), ErrorCode::not_found);
}

struct Planned {
  Checkpoint source = open_checkpoint(sample_path("qwen35-gptq-int4"));
  std::unique_ptr<const Architecture> architecture = recognise(source);

  Plan plan(const std::string& format, std::shared_ptr<const Recipe> recipe = nullptr,
            std::optional<Fidelity> require = std::nullopt) const {
    ConvertOptions options;
    options.format = format;
    options.recipe = std::move(recipe);
    options.require = require;
    return plan_conversion(source, architecture.get(), format == "gguf" ? "x.gguf" : "x", options);
  }
};

const Step& step_of(const Plan& plan, const std::string& name) {
  return *std::ranges::find(plan.outputs.front().steps, name, &Step::name);
}

bool has(const Findings& findings, const std::string& code) {
  return std::ranges::find(findings, code, &Finding::code) != findings.end();
}

std::shared_ptr<const Recipe> recipe_of(const std::vector<std::string>& rules, const std::string& base = "exact") {
  Recipe recipe = preset(base);
  std::vector<Rule> first;
  for (const std::string& rule : rules) first.push_back(rule_from_text(rule));
  recipe.rules.insert(recipe.rules.begin(), first.begin(), first.end());
  return std::make_shared<const Recipe>(std::move(recipe));
}

TEST(Recipes, TheFirstRuleThatMatchesCounts) {
  const Plan plan = Planned().plan("gguf", recipe_of({"ffn_up=Q5_K", "ffn=Q6_K"}, "Q4_K_M"));
  EXPECT_EQ(step_of(plan, "blk.0.ffn_up.weight").encoding, "Q5_K");
  EXPECT_EQ(step_of(plan, "blk.0.ffn_gate.weight").encoding, "Q6_K");
  EXPECT_EQ(step_of(plan, "blk.0.attn_norm.weight").encoding, "F32");
}

TEST(Recipes, ReachTheVisionTowerOnlyByItsName) {
  const auto vision = [](const Plan& plan) {
    const auto tower = std::ranges::find(plan.outputs, OutputKind::mmproj, &PlannedOutput::kind);
    return std::ranges::find(tower->steps, "v.blk.0.attn_qkv.weight", &Step::name)->encoding;
  };
  EXPECT_EQ(vision(Planned().plan("gguf", recipe_of({"attn_qkv=Q8_0"}, "Q4_K_M"))), "BF16");
  EXPECT_EQ(vision(Planned().plan("gguf", recipe_of({"@vision=Q8_0"}))), "Q8_0");
}

TEST(Recipes, CodesThatAreThereAlreadyAreKept) {
  const Plan plan = Planned().plan("gguf", recipe_of({"ffn_up=Q4_0", "ffn_gate=Q4_1"}));
  EXPECT_EQ(step_of(plan, "blk.0.ffn_up.weight").route, Route::repack);
  EXPECT_EQ(step_of(plan, "blk.0.ffn_up.weight").fidelity, Fidelity::values);
  EXPECT_EQ(step_of(plan, "blk.0.ffn_gate.weight").fidelity, Fidelity::requantized);
}

TEST(Recipes, WhatIsQuantizedTwiceIsSaidOnce) {
  const Plan plan = Planned().plan("gguf", recipe_of({}, "Q4_K_M"));
  EXPECT_EQ(std::ranges::count(plan.findings, "requantized-again", &Finding::code), 1);
  EXPECT_FALSE(has(Planned().plan("gguf").findings, "requantized-again"));
}

TEST(Recipes, ARuleThatMatchesNothingIsAWarning) {
  const Planned planned;
  EXPECT_TRUE(has(planned.plan("gguf", recipe_of({"nothing=Q4_0"})).findings, "recipe-rule-unused"));
  // Norms are no matrices, so a rule for them alone is as good as none.
  EXPECT_TRUE(has(planned.plan("gguf", recipe_of({"attn_norm=Q4_0"})).findings, "recipe-rule-unused"));
  EXPECT_FALSE(has(planned.plan("gguf", recipe_of({"ffn_up=Q4_0"})).findings, "recipe-rule-unused"));
  EXPECT_FALSE(has(planned.plan("mlx", recipe_of({}, "mlx-4bit")).findings, "recipe-rule-unused"));
}

TEST(Recipes, AGateHoldsAgainstThem) {
  try {
    Planned().plan("gguf", recipe_of({}, "Q4_K_M"), Fidelity::rounded);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::refused);
  }
}

TEST(Recipes, AnEncodingThatTheShapeForbidsIsRefusedWhereSomebodyNamedIt) {
  EXPECT_THROW(Planned().plan("gptq", recipe_of({"q_proj=int4-g96"})), Error);
  // A preset speaks of what can be quantized and leaves the rest.
  const Plan plan = Planned().plan("mlx", recipe_of({}, "mlx-4bit-g32"));
  EXPECT_FALSE(plan.outputs.front().steps.empty());
}

}  // namespace
}  // namespace regauge
