#include "formats/mlx/config_writer.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "base/error.h"
#include "base/limits.h"
#include "formats/mlx/mlx.h"
#include "formats/safetensors/safetensors.h"
#include "tests/support/golden.h"

namespace regauge::mlx {
namespace {

const std::string kLayers = "language_model.model.layers.";

TEST(MlxConfigWriter, OverridesFollowTheSettingsOfMostModules) {
  const std::vector<QuantizableModule> modules{{kLayers + "0.mlp.up_proj", Settings{Mode::affine, 8, 64}},
                                               {kLayers + "1.mlp.up_proj", Settings{Mode::affine, 4, 32}},
                                               {kLayers + "2.mlp.up_proj", Settings{Mode::affine, 4, 32}},
                                               {kLayers + "3.mlp.up_proj", Settings{Mode::mxfp4, 4, 32}},
                                               {kLayers + "4.mlp.up_proj", std::nullopt}};
  const auto section = make_config(modules);
  ASSERT_TRUE(section);
  EXPECT_EQ(
      section->dump(),
      R"({"group_size":32,"bits":4,"mode":"affine","language_model.model.layers.0.mlp.up_proj":{"group_size":64,"bits":8},)"
      R"("language_model.model.layers.3.mlp.up_proj":{"group_size":32,"bits":4,"mode":"mxfp4"}})");
}

TEST(MlxConfigWriter, AModelWithoutPackedModulesHasNoSection) {
  EXPECT_FALSE(make_config({}));
  EXPECT_FALSE(make_config(std::vector<QuantizableModule>{{"a.b", std::nullopt}}));
}

TEST(MlxConfigWriter, WhatMakesNoSenseIsRefused) {
  const Settings four{Mode::affine, 4, 64};
  EXPECT_THROW(make_config(std::vector<QuantizableModule>{{"a.b", four}, {"a.b", four}}), Error);
  EXPECT_THROW(make_config(std::vector<QuantizableModule>{{"a.b", Settings{Mode::affine, 7, 64}}}), Error);
  EXPECT_THROW(make_config(std::vector<QuantizableModule>{{"a.b", Settings{Mode::mxfp4, 4, 64}}}), Error);
  EXPECT_THROW(make_config(std::vector<QuantizableModule>{{"bits", four}}), Error);
}

Settings any_settings() {
  const auto mode = *rc::gen::element(Mode::affine, Mode::affine, Mode::mxfp4, Mode::mxfp8, Mode::nvfp4);
  switch (mode) {
    case Mode::mxfp4: return {mode, 4, 32};
    case Mode::mxfp8: return {mode, 8, 32};
    case Mode::nvfp4: return {mode, 4, 16};
    case Mode::affine: break;
  }
  return {mode, *rc::gen::element(2, 3, 4, 5, 6, 8), *rc::gen::element<std::int64_t>(32, 64, 128)};
}

TEST(MlxConfigWriter, ReadersGetBackWhatWasGiven) {
  EXPECT_TRUE(rc::check("settings of every packed module", [] {
    const std::vector<Settings> palette{any_settings(), any_settings(), any_settings()};
    std::vector<QuantizableModule> modules;
    for (int layer = 0; layer < *rc::gen::inRange(1, 30); ++layer) {
      for (const char* kind : {".mlp.up_proj", ".mlp.switch_mlp.down_proj", ".self_attn.q_proj"}) {
        const auto choice = *rc::gen::inRange<std::size_t>(0, 4);
        modules.push_back({kLayers + std::to_string(layer) + kind,
                           choice < palette.size() ? std::optional(palette[choice]) : std::nullopt});
      }
    }
    const auto section = make_config(modules);
    if (!section) return;
    const Config config(parse_json(section->dump(4), "config.json"), "config.json");
    for (const QuantizableModule& module : modules) {
      bool renamed = false;
      const Override* override = config.find(module.path, renamed);
      RC_ASSERT(override == nullptr || !renamed);
      // A dense module is told by its lack of scales, and the config does not speak of it.
      if (!module.settings) RC_ASSERT(override == nullptr);
      if (module.settings) RC_ASSERT((override != nullptr ? override->settings : config.global()) == module.settings);
    }
  }));
}

class MlxConfigOfGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(MlxConfigOfGolden, IsTheConfigOfMlxLm) {
  REGAUGE_GOLDEN_OR_SKIP(path, GetParam());
  const std::string file = (path / "config.json").native();
  const Json config = parse_json(read_text_file(file, kMaxConfigBytes), file);
  const Config theirs(*find_section(config), file);
  // In the order of the model, which the file's own list of overrides gives; the rest has the settings of most.
  std::vector<QuantizableModule> modules;
  for (const Override& override : theirs.overrides()) modules.push_back({override.key, override.settings});
  for (const StoredArray& array : open_safetensors(probe(path)).arrays) {
    if (!array.name.ends_with(".scales")) continue;
    const std::string module = array.name.substr(0, array.name.rfind('.'));
    bool renamed = false;
    if (theirs.find(module, renamed) == nullptr) modules.push_back({module, theirs.global()});
  }
  EXPECT_EQ(with_quantization(config, make_config(modules)).dump(4), read_text_file(file, kMaxConfigBytes));
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, MlxConfigOfGolden,
                         ::testing::Values("qwen35_family/mlx-8865", "qwen35_family/mlx-4bit"));

TEST(MlxConfigText, TakesThePlaceOfEveryOtherQuantizersSection) {
  const Json config = Json::parse(
      R"({"a":1,"quantization_config":{"quant_method":"gptq"},"text_config":{"quantization_config":{}},"z":2})");
  const auto section = make_config(std::vector<QuantizableModule>{{"m.p", Settings{}}});
  const std::string text = R"({"group_size":64,"bits":4,"mode":"affine"})";
  EXPECT_EQ(with_quantization(config, section).dump(),
            R"({"a":1,"quantization":)" + text + R"(,"quantization_config":)" + text + R"(,"text_config":{},"z":2})");
  EXPECT_EQ(with_quantization(config, std::nullopt).dump(), R"({"a":1,"text_config":{},"z":2})");
}

}  // namespace
}  // namespace regauge::mlx
