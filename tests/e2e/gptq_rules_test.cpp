#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/command.h"
#include "tests/support/golden.h"

// What loaders make of the `dynamic` rules of GPTQ directories that we write, above all of an MTP layer that is not
// quantized: rules are applied by Python's re, the engine of GPTQModel and vLLM, and held against the arrays that are
// stored.

namespace regauge {
namespace {

using testing::run_command;
using testing::ScratchDir;

struct Direction {
  std::string name;
  std::string source;  ///< below the golden data
  /// What is written, and with which words behind it; the last one is the GPTQ directory.
  std::vector<std::pair<std::string, std::vector<std::string>>> stations;
  bool mtp_is_quantized = false;
};

void PrintTo(const Direction& direction, std::ostream* out) { *out << direction.name; }

class GptqRules : public ::testing::TestWithParam<Direction> {};

TEST_P(GptqRules, SayOfEveryModuleWhatIsStored) {
  const Direction& direction = GetParam();
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, direction.source);
  const ScratchDir scratch;
  std::string from = source;
  for (const auto& [name, options] : direction.stations) {
    std::vector<std::string> words{REGAUGE_CLI, "convert", from, scratch / name, "--quiet"};
    words.insert(words.end(), options.begin(), options.end());
    const auto run = run_command(words);
    ASSERT_EQ(run.exit_code, 0) << name << ": " << run.err;
    from = scratch / name;
  }
  const auto run = run_command({"python3", std::string(REGAUGE_SOURCE_DIR) + "/tests/support/gptq_rules.py", from});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto report = nlohmann::json::parse(run.out);
  EXPECT_EQ(report["wrong"], nlohmann::json::array());
  EXPECT_EQ(report["same"], true);
  EXPECT_FALSE(report["quantized"].empty());

  const auto of_mtp = [&](const char* kind) {
    return std::ranges::count_if(
        report[kind], [](const nlohmann::json& module) { return module.get<std::string>().starts_with("mtp."); });
  };
  const auto quantized = of_mtp("quantized");
  const auto dense = of_mtp("dense");
  EXPECT_EQ(quantized > 0, direction.mtp_is_quantized);
  EXPECT_EQ(dense > 0, !direction.mtp_is_quantized);
  // Dense, it has to be excluded by name: loaders would look for its qweight else.
  const auto excludes = [](const nlohmann::json& rule) { return rule.get<std::string>().starts_with("-:^mtp"); };
  EXPECT_EQ(std::ranges::any_of(report["rules"], excludes), !direction.mtp_is_quantized);
  std::printf("| %-26s | %3zu quantized, %3zu dense; MTP %2td and %2td | %zu rules |\n", direction.name.c_str(),
              report["quantized"].size(), report["dense"].size(), quantized, dense, report["rules"].size());
}

using Words = std::vector<std::string>;
const Words kRecipe{"--to", "gptq", "--recipe", "int4-g128", "--allow", "requantized,dense"};
const Words kSmallGroups{"--to", "gptq", "--recipe", "int4-g32", "--allow", "requantized,dense"};
const Words kExact{"--to", "gptq", "--allow", "dense"};
const std::string kFamily = "qwen35_family/";

std::vector<Direction> all_directions() {
  Words and_mtp = kRecipe;
  and_mtp.insert(and_mtp.end(), {"--tensor-type", "@mtp=int4-g128"});
  Words v2 = kExact;
  v2.insert(v2.end(), {"--layout", "v2"});
  Words merged = kExact;
  merged.insert(merged.end(), {"--eora", "drop"});
  return {
      {"hf_by_recipe", kFamily + "hf-bf16", {{"gptq", kRecipe}}},
      {"hf_by_recipe_with_mtp", kFamily + "hf-bf16", {{"gptq", and_mtp}}, true},
      {"gguf_by_recipe", kFamily + "hf-bf16.gguf", {{"gptq", kRecipe}}},
      {"gguf_of_quantized_mtp", kFamily + "hf-bf16-q4_0.gguf", {{"gptq", kExact}}, true},
      {"gguf_with_mtp_beside", kFamily + "hf-bf16", {{"m.gguf", {"--outputs", "model,mtp"}}, {"gptq", kRecipe}}},
      {"gptq_by_way_of_gguf",
       kFamily + "gptq-mixed-eora",
       {{"m.gguf", {"--allow", "dense", "--eora", "drop"}}, {"gptq", kExact}}},
      {"gptq_by_way_of_mlx",
       kFamily + "gptq-mixed-eora",
       {{"mlx", {"--to", "mlx", "--allow", "dense", "--eora", "drop"}}, {"gptq", kExact}}},
      {"mlx_by_recipe", kFamily + "hf-bf16", {{"mlx", {"--to", "mlx", "--recipe", "mlx-4bit"}}, {"gptq", kRecipe}}},
      {"gptq_to_v2", kFamily + "gptq-mixed-eora", {{"gptq", v2}}},
      {"gptq_without_factors", kFamily + "gptq-mixed-eora", {{"gptq", merged}}},
      {"moe_by_recipe", "qwen35_tiny_moe/hf", {{"gptq", kSmallGroups}}},
      {"moe_gguf_by_recipe", "qwen35_tiny_moe/tiny-mtp.gguf", {{"gptq", kSmallGroups}}},
  };
}

INSTANTIATE_TEST_SUITE_P(Directions, GptqRules, ::testing::ValuesIn(all_directions()),
                         [](const auto& test) { return test.param.name; });

TEST(GraftedGptqRules, OfABaseThatAnMtpLayerIsGraftedInto) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(base, kFamily + "gptq-int4-g64");
  REGAUGE_FULL_GOLDEN_OR_SKIP(donor, kFamily + "hf-bf16");
  const ScratchDir scratch;
  const auto graft = run_command({REGAUGE_CLI, "graft", base, scratch / "out", "--mtp", donor, "-q"});
  ASSERT_EQ(graft.exit_code, 0) << graft.err;
  const auto run =
      run_command({"python3", std::string(REGAUGE_SOURCE_DIR) + "/tests/support/gptq_rules.py", scratch / "out"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  for (const auto& line : nlohmann::json::parse(run.out)["wrong"]) {
    EXPECT_EQ(line.get<std::string>().find(" mtp."), std::string::npos) << line;
  }
}

}  // namespace
}  // namespace regauge
