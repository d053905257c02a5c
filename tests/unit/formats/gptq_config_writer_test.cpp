#include "formats/gptq/config_writer.h"

#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "base/error.h"
#include "base/limits.h"
#include "formats/gptq/gptq.h"
#include "formats/safetensors/safetensors.h"
#include "tests/support/golden.h"

namespace regauge::gptq {
namespace {

const ModuleSettings kFour{.bits = 4, .group_size = 128, .sym = true, .desc_act = true};
const ModuleSettings kEight{.bits = 8, .group_size = 128, .sym = true, .desc_act = true};

/// What a reader makes of a config: the judge is parse_config(), with its own matcher and its own order of rules.
std::optional<ModuleSettings> read_back(const Config& config, const std::string& module, MatchBudget& budget) {
  const DynamicRule* rule = config.rule_for(module, budget);
  if (rule != nullptr && rule->excludes) return std::nullopt;
  if (module.ends_with("lm_head") && !config.lm_head) return std::nullopt;
  const Settings settings = config.settings_for(rule);
  return ModuleSettings{settings.bits.value(), settings.group_size.value(), settings.sym.value(),
                        settings.desc_act.value()};
}

Config parsed(const Json& section) {
  Findings findings;
  // Through text, as it lies on disk.
  Config config = parse_config({"quantize_config.json", parse_json(section.dump(2), "quantize_config.json")}, findings);
  EXPECT_TRUE(findings.empty());
  return config;
}

Json write(const std::vector<LinearModule>& modules, WordFormat format = WordFormat::v1) {
  return make_config(modules, format, "regauge:0.1.0");
}

std::vector<std::string> rules_of(const Json& section) {
  std::vector<std::string> rules;
  if (!section.contains("dynamic")) return rules;
  for (const auto& item : section["dynamic"].items()) rules.push_back(item.key() + " " + item.value().dump());
  return rules;
}

const std::string kLayers = "model.language_model.layers.";

/// The Linear modules of a small Qwen3.5: layer 3 has attention, the others DeltaNet.
std::vector<LinearModule> small_model() {
  std::vector<LinearModule> modules;
  for (int layer = 0; layer < 4; ++layer) {
    const std::string stem = kLayers + std::to_string(layer);
    if (layer == 3) {
      for (const char* leaf : {"q_proj", "k_proj", "v_proj", "o_proj"})
        modules.push_back({stem + ".self_attn." + leaf, kFour});
    } else {
      for (const char* leaf : {"in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "out_proj"})
        modules.push_back({stem + ".linear_attn." + leaf, kFour});
    }
    for (const char* leaf : {"gate_proj", "up_proj", "down_proj"}) modules.push_back({stem + ".mlp." + leaf, kFour});
  }
  return modules;
}

// The keys and their order are those of GPTQModel's own files (golden data, gptq/ckpt/mini004), of whose meta the solver's
// settings are left out.
TEST(GptqConfigWriter, OneSettingForAllNeedsNoRules) {
  EXPECT_EQ(write(small_model()).dump(),
            R"({"bits":4,"group_size":128,"desc_act":true,"lm_head":false,"method":"gptq","quant_method":"gptq",)"
            R"("format":"gptq","checkpoint_format":"gptq","pack_dtype":"int32","meta":{"quantizer":["regauge:0.1.0"]},)"
            R"("sym":true})");
}

TEST(GptqConfigWriter, OfEquallyCommonSettingsTheNarrowerAreTheRule) {
  EXPECT_EQ(write({{"a.b", kEight}, {"a.c", kFour}})["bits"], 4);
  EXPECT_EQ(write({{"a.b", kEight}, {"a.c", kFour}, {"a.d", kEight}})["bits"], 8);
}

TEST(GptqConfigWriter, TheFormatIsNamedInBothItsKeys) {
  for (const auto& [format, name] : std::map<WordFormat, std::string>{
           {WordFormat::v2, "gptq_v2"}, {WordFormat::planar, "gptq_p"}, {WordFormat::marlin, "marlin"}}) {
    const Json section = write(small_model(), format);
    EXPECT_EQ(section["format"], name);
    EXPECT_EQ(section["checkpoint_format"], name);
    EXPECT_EQ(parsed(section).format, format);
  }
}

TEST(GptqConfigWriter, WholeComponentsAreOneRuleEach) {
  std::vector<LinearModule> modules = small_model();
  for (LinearModule& module : modules) {
    if (module.name.find("self_attn") != std::string::npos) module.settings = kEight;
    if (module.name.ends_with("in_proj_a") || module.name.ends_with("in_proj_b")) module.settings.reset();
  }
  for (const char* name : {"model.visual.merger.linear_fc1", "model.visual.blocks.0.attn.qkv", "mtp.fc", "lm_head"}) {
    modules.push_back({name, std::nullopt});
  }
  EXPECT_EQ(rules_of(write(modules)),
            (std::vector<std::string>{
                R"(-:^model\.language_model\.layers\.\d+\.linear_attn\.(?:in_proj_a|in_proj_b|in_proj_ba)$ {})",
                R"(-:^model\.visual\..*$ {})", R"(-:^mtp\..*$ {})",
                R"(+:^model\.language_model\.layers\.\d+\.self_attn\..*$ {"bits":8})"}));
}

// DeltaNet layers have more dense modules than attention layers; the rule of the former says it all of the latter.
TEST(GptqConfigWriter, ARuleThatAnotherOneCoversIsNotWritten) {
  std::vector<LinearModule> modules = small_model();
  for (LinearModule& module : modules) {
    if (module.name.ends_with("in_proj_a") || module.name.ends_with("in_proj_b") || module.name.ends_with("down_proj"))
      module.settings.reset();
  }
  const Json section = write(modules);
  ASSERT_EQ(rules_of(section).size(), 1U);
  const Config config = parsed(section);
  MatchBudget budget;
  for (const LinearModule& module : modules)
    EXPECT_EQ(read_back(config, module.name, budget), module.settings) << module.name;
}

TEST(GptqConfigWriter, LayersThatDifferAreCounted) {
  std::vector<LinearModule> modules;
  for (int layer = 0; layer < 12; ++layer) {
    const bool wide = layer == 0 || layer == 2 || layer == 11;
    for (const char* leaf : {"up_proj", "down_proj"}) {
      const bool here = wide && std::string(leaf) == "down_proj";
      modules.push_back({"model.layers." + std::to_string(layer) + ".mlp." + leaf, here ? kEight : kFour});
    }
  }
  EXPECT_EQ(rules_of(write(modules)),
            (std::vector<std::string>{R"(+:^model\.layers\.(?:0|2|11)\.mlp\.down_proj$ {"bits":8})"}));
}

TEST(GptqConfigWriter, ExpertsAreOneRule) {
  std::vector<LinearModule> modules;
  for (int layer = 0; layer < 3; ++layer) {
    const std::string stem = "model.layers." + std::to_string(layer) + ".";
    for (const char* leaf : {"q_proj", "k_proj", "v_proj"}) modules.push_back({stem + "self_attn." + leaf, kEight});
    for (int expert = 0; expert < 5; ++expert) {
      for (const char* leaf : {"gate_proj", "up_proj", "down_proj"}) {
        modules.push_back({stem + "mlp.experts." + std::to_string(expert) + "." + leaf,
                           std::string(leaf) == "down_proj" ? ModuleSettings{4, 32, true, false} : kFour});
      }
    }
  }
  EXPECT_EQ(rules_of(write(modules)),
            (std::vector<std::string>{
                R"(+:^model\.layers\.\d+\.self_attn\..*$ {"bits":8})",
                R"(+:^model\.layers\.\d+\.mlp\.experts\.\d+\.down_proj$ {"group_size":32,"desc_act":false})"}));
}

// vLLM looks rules up by the name of the fused matrix.
TEST(GptqConfigWriter, AFusedNameIsMatchedWhereAllItsPartsAreMeant) {
  std::vector<LinearModule> modules = small_model();
  for (LinearModule& module : modules) {
    if (module.name.ends_with("gate_proj") || module.name.ends_with("up_proj")) module.settings = kEight;
  }
  const Config config = parsed(write(modules));
  MatchBudget budget;
  EXPECT_EQ(read_back(config, kLayers + "0.mlp.gate_up_proj", budget), kEight);
  EXPECT_EQ(read_back(config, kLayers + "0.mlp.down_proj", budget), kFour);
}

TEST(GptqConfigWriter, AQuantizedHeadIsAnnouncedAndADenseOneNeedsNoRule) {
  std::vector<LinearModule> modules = small_model();
  modules.push_back({"lm_head", std::nullopt});
  EXPECT_FALSE(write(modules).contains("dynamic"));
  EXPECT_EQ(write(modules)["lm_head"], false);
  modules.back().settings = kEight;
  const Json section = write(modules);
  EXPECT_EQ(section["lm_head"], true);
  EXPECT_EQ(rules_of(section), (std::vector<std::string>{R"(+:^lm_head$ {"bits":8})"}));
}

TEST(GptqConfigWriter, NamesAreNoExpressions) {
  const Json section =
      write({{"a+b.(c", kEight}, {"aab.(c", kFour}, {"a.b", kFour}, {"axb", kFour}, {"a.b[0]", kFour}});
  EXPECT_EQ(rules_of(section), (std::vector<std::string>{R"(+:^a\+b\..*$ {"bits":8})"}));
}

TEST(GptqConfigWriter, WhatMakesNoSenseIsRefused) {
  EXPECT_THROW(write({}), Error);
  EXPECT_THROW(write({{"a.b", std::nullopt}}), Error) << "nothing is quantized";
  EXPECT_THROW(write({{"a.b", kFour}, {"a.b", kEight}}), Error) << "one name twice";
  EXPECT_THROW(write({{"a.b", ModuleSettings{.bits = 5}}}), Error) << "planar only";
  EXPECT_NO_THROW(write({{"a.b", ModuleSettings{.bits = 5}}}, WordFormat::planar));
  EXPECT_THROW(write({{"a.b", ModuleSettings{.bits = 9}}}, WordFormat::planar), Error);
  EXPECT_THROW(write({{"a.b", kEight}}, WordFormat::marlin), Error);
  std::string deep = "a";
  for (int i = 0; i < 10'000; ++i) deep += ".0";
  EXPECT_THROW(write({{"b", kFour}, {deep, std::nullopt}}), Error);
}

// Files of GPTQModel before 7.0 have 3-bit zero points by another rule; ours must not be taken for theirs.
TEST(GptqConfigWriter, OurFilesAreNotTakenForGptqModels) {
  const Config config = parsed(write(small_model()));
  EXPECT_FALSE(config.gptqmodel.has_value());
  EXPECT_TRUE(config.by_regauge);
  EXPECT_FALSE(parsed(Json::parse(R"({"bits":4,"meta":{"quantizer":["gptqmodel:6.0.3"]}})")).by_regauge);
}

ModuleSettings any_settings() {
  return {.bits = *rc::gen::element<std::int64_t>(2, 3, 4, 8),
          .group_size = *rc::gen::element<std::int64_t>(-1, 32, 128),
          .sym = *rc::gen::arbitrary<bool>(),
          .desc_act = *rc::gen::arbitrary<bool>()};
}

/// Modules whose settings depend on their layer, their kind, or on nothing at all.
std::vector<LinearModule> any_modules() {
  const int layers = *rc::gen::inRange(1, 13);
  const int manner = *rc::gen::inRange(0, 3);
  std::vector<std::optional<ModuleSettings>> palette{any_settings(), any_settings(), std::nullopt};
  std::map<std::string, std::size_t> of_key;
  std::vector<LinearModule> modules{{"model.first.0", palette[0]}};
  for (int layer = 0; layer < layers; ++layer) {
    std::vector<std::string> kinds{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                                   "mlp.up_proj",      "mlp.down_proj",    "mlp"};
    for (int expert = 0; expert < *rc::gen::inRange(0, 4); ++expert) {
      kinds.push_back("mlp.experts." + std::to_string(expert) + ".up_proj");
    }
    for (const std::string& kind : kinds) {
      if (*rc::gen::inRange(0, 8) == 0) continue;  // layers are not alike
      const std::string number = std::to_string(layer);
      const std::string key = manner == 0 ? number : manner == 1 ? kind : number + kind;
      if (!of_key.contains(key)) of_key[key] = *rc::gen::inRange<std::size_t>(0, palette.size());
      modules.push_back({"model.layers." + number + "." + kind, palette[of_key[key]]});
    }
  }
  return modules;
}

TEST(GptqConfigWriter, ReadersGetBackWhatWasGiven) {
  EXPECT_TRUE(rc::check("settings of every module", [] {
    const std::vector<LinearModule> modules = any_modules();
    const Json section = write(modules);
    const Config config = parsed(section);
    MatchBudget budget;
    for (const LinearModule& module : modules) RC_ASSERT(read_back(config, module.name, budget) == module.settings);
    // Never more rules than modules that need one.
    RC_ASSERT(rules_of(section).size() < modules.size());
  }));
}

TEST(GptqConfigWriter, ManyModulesWithoutAnyOrderAreNamedOneByOne) {
  std::vector<LinearModule> modules;
  std::uint64_t state = 1;
  for (int layer = 0; layer < 60; ++layer) {
    for (int expert = 0; expert < 60; ++expert) {
      state = state * 6364136223846793005U + 1442695040888963407U;
      modules.push_back(
          {"model.layers." + std::to_string(layer) + ".mlp.experts." + std::to_string(expert) + ".up_proj",
           state >> 63 != 0 ? kFour : kEight});
    }
  }
  const Config config = parsed(write(modules));
  MatchBudget budget;
  for (const LinearModule& module : modules) ASSERT_EQ(read_back(config, module.name, budget), module.settings);
}

class GptqConfigOfGolden : public ::testing::TestWithParam<const char*> {};

/// The matrices of a checkpoint with the settings that GPTQModel's config gives those that are packed.
std::vector<LinearModule> modules_of(const std::filesystem::path& path) {
  Findings ignored;
  const std::string file = (path / "quantize_config.json").native();
  const Config config = parse_config({file, parse_json(read_text_file(file, kMaxConfigBytes), file)}, ignored);
  std::vector<LinearModule> modules;
  MatchBudget budget;
  for (const StoredArray& array : open_safetensors(probe(path)).arrays) {
    const auto dot = array.name.rfind('.');
    const std::string module = array.name.substr(0, dot);
    const std::string leaf = array.name.substr(dot + 1);
    if (leaf == "qweight") modules.push_back({module, read_back(config, module, budget)});
    if (leaf == "weight" && array.shape.rank() == 2 && !module.ends_with("embed_tokens")) {
      modules.push_back({module, std::nullopt});
    }
  }
  return modules;
}

TEST_P(GptqConfigOfGolden, SaysOfEveryModuleWhatGptqModelsSays) {
  REGAUGE_GOLDEN_OR_SKIP(path, GetParam());
  const std::vector<LinearModule> modules = modules_of(path);
  const Json section = write(modules);
  const Config config = parsed(section);
  MatchBudget budget;
  std::size_t quantized = 0;
  for (const LinearModule& module : modules) {
    EXPECT_EQ(read_back(config, module.name, budget), module.settings) << module.name;
    quantized += module.settings ? 1 : 0;
  }
  EXPECT_GT(quantized, 5U);
  EXPECT_LE(rules_of(section).size(), 5U) << section.dump(2);
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, GptqConfigOfGolden,
                         ::testing::Values("qwen35_family/gptq-mixed-eora", "qwen35_family/gptq-int4-g64",
                                           "qwen35_family/gptq-int4-g128-noact", "gptq/ckpt/mini003",
                                           "gptq/ckpt/mini004"));

TEST(GptqConfigText, TakesThePlaceOfEveryOtherQuantizersSection) {
  const Json section = write(small_model());
  const Json config = Json::parse(R"({"architectures":[],"quantization":{"bits":4},"quantization_config":{"bits":4},)"
                                  R"("text_config":{"a":1,"quantization_config":{}},"vocab_size":5})");
  EXPECT_EQ(
      with_quantization(config, section).dump(),
      R"({"architectures":[],"quantization_config":)" + section.dump() + R"(,"text_config":{"a":1},"vocab_size":5})");
  EXPECT_EQ(with_quantization(Json::parse(R"({"z":1,"a":2})"), section).dump(),
            R"({"z":1,"a":2,"quantization_config":)" + section.dump() + "}")
      << "at the end where keys are not sorted";
  EXPECT_THROW(with_quantization(Json::array(), section), Error);
}

}  // namespace
}  // namespace regauge::gptq
