// MLX directories whose configuration says something else than their modules, or where mlx-lm does not look.
#include "tests/doctor/ward.h"

namespace regauge {
namespace {

using Json = nlohmann::ordered_json;
using testing::patch_json;
using testing::SafetensorsPatch;

class DoctorMlx : public testing::DoctorWard {
 protected:
  Path mlx(const std::string& recipe, const std::string& sample = "qwen35-gptq-int4") {
    return converted(sample, "model", {"--to", "mlx", "--drop", "vision", "--recipe", recipe});
  }
  /// Both copies of the section, or what `change` makes of them.
  static void patch_sections(const Path& model, const std::function<void(Json&)>& change) {
    patch_json(model / "config.json", [&](Json& config) {
      for (const char* key : {"quantization", "quantization_config"}) change(config[key]);
    });
  }
  static Json config_of(const Path& model) { return Json::parse(testing::read_text(model / "config.json")); }

  static constexpr const char* kModule = "language_model.model.layers.0.mlp.up_proj";
};

TEST_F(DoctorMlx, WithoutAConfigTheSizesOfTheModelTellTheWidths) {
  // 4 bits in groups of 64 look like 2 of 128 and 8 of 32.
  const Path model = mlx("mlx-4bit");
  patch_json(model / "config.json", [](Json& config) {
    config.erase("quantization");
    config.erase("quantization_config");
  });
  expect_mended(model, "mlx-config-missing");
  const Json section = config_of(scratch() / "model-mended")["quantization"];
  EXPECT_EQ(section["bits"], 4);
  EXPECT_EQ(section["group_size"], 64);
}

TEST_F(DoctorMlx, WithoutSizesEitherCodesOfSeveralPossibleWidthsAreNotGuessed) {
  const Path model = mlx("mlx-4bit");
  std::filesystem::remove(model / "config.json");
  const Diagnosis diagnosis = diagnose(model);
  EXPECT_EQ(faults(diagnosis), std::vector<std::string>{"mlx-width-unknown"});
  EXPECT_TRUE(find(diagnosis, "mlx-width-unknown")->cures.at(0).command.empty());
}

TEST_F(DoctorMlx, ScalesThatAreNotThereAreMissed) {
  const Path model = mlx("mlx-4bit");
  SafetensorsPatch patch(model / "model.safetensors");
  patch.erase([](const std::string& name) { return name == std::string(kModule) + ".scales"; });
  patch.save(model / "model.safetensors");
  std::filesystem::remove(model / "model.safetensors.index.json");
  const Diagnosis diagnosis = diagnose(model);
  const Ailment* ailment = find(diagnosis, "mlx-scales-missing");
  ASSERT_NE(ailment, nullptr);
  EXPECT_TRUE(ailment->cures.at(0).command.empty());
}

TEST_F(DoctorMlx, SettingsWhereMlxLmDoesNotLookAreWrittenWhereItDoes) {
  const Path model = mlx("mlx-4bit");
  patch_json(model / "config.json", [](Json& config) { config.erase("quantization"); });
  expect_mended(model, "mlx-quantization-key");
  EXPECT_TRUE(config_of(scratch() / "model-mended").contains("quantization"));
}

TEST_F(DoctorMlx, ASectionWithoutDefaultsGetsThem) {
  const Path model = mlx("mlx-4bit");
  patch_sections(model, [](Json& section) { section.erase("bits"); });
  expect_mended(model, "mlx-defaults-missing");
  EXPECT_EQ(config_of(scratch() / "model-mended")["quantization"]["bits"], 4);
}

TEST_F(DoctorMlx, SettingsUnderHuggingFaceNamesAreRenamed) {
  const Path model = mlx("proposal-c");
  patch_sections(model, [](Json& section) {
    Json renamed;
    for (const auto& [key, value] : section.items()) {
      const std::string prefix = "language_model.model.";
      renamed[key.starts_with(prefix) ? "model.language_model." + key.substr(prefix.size()) : key] = value;
    }
    section = renamed;
  });
  expect_mended(model, "mlx-override-renamed");
}

TEST_F(DoctorMlx, AModuleThatIsCalledDenseAndIsNotIsDescribedAsItIs) {
  const Path model = mlx("mlx-4bit");
  patch_sections(model, [](Json& section) { section[kModule] = false; });
  expect_mended(model, "mlx-override-dense");
}

TEST_F(DoctorMlx, SettingsOfADenseModuleGoAway) {
  const Path model = mlx("mlx-4bit");
  patch_sections(model, [](Json& section) {
    section["language_model.model.layers.0.linear_attn.conv1d"] = {{"bits", 8}, {"group_size", 64}};
  });
  expect_mended(model, "mlx-override-unused");
}

TEST_F(DoctorMlx, SettingsOfAModuleThatIsNotThereMakeTheConfigurationMalformed) {
  const Path model = mlx("mlx-4bit");
  patch_sections(model, [](Json& section) { section["language_model.model.layers.99.mlp.up_proj"] = {{"bits", 8}}; });
  expect_hopeless(model, "config-malformed");
}

/// The layer in a file of its own, moved into the model's.
TEST_F(DoctorMlx, AnMtpLayerAmongTheModelsFilesIsPutIntoOneOfItsOwn) {
  const Path model = converted("qwen35-bf16-tiny", "model", {"--to", "mlx", "--drop", "vision"});
  ASSERT_TRUE(std::filesystem::exists(model / "mtp.safetensors"));
  SafetensorsPatch patch(model / "model.safetensors");
  for (auto& array : SafetensorsPatch(model / "mtp.safetensors").arrays) patch.arrays.push_back(std::move(array));
  patch.save(model / "model.safetensors");
  std::filesystem::remove(model / "mtp.safetensors");
  std::filesystem::remove(model / "model.safetensors.index.json");
  expect_mended(model, "mlx-mtp-in-model");
  for (const auto& array : SafetensorsPatch(scratch() / "model-mended/model.safetensors").arrays)
    EXPECT_EQ(array.name.find("mtp."), std::string::npos) << array.name;
}

TEST_F(DoctorMlx, AHeadBesideTiedEmbeddingsIsLeftOut) {
  const Path model = converted("qwen35-bf16-tiny", "model", {"--to", "mlx", "--drop", "vision,mtp"});
  patch_json(model / "config.json", [](Json& config) {
    config["tie_word_embeddings"] = true;
    if (config["text_config"].contains("tie_word_embeddings")) config["text_config"]["tie_word_embeddings"] = true;
  });
  expect_mended(model, "mlx-head-tied-but-stored");
  for (const auto& array : SafetensorsPatch(scratch() / "model-mended/model.safetensors").arrays)
    EXPECT_EQ(array.name.find("lm_head"), std::string::npos) << array.name;
}

TEST_F(DoctorMlx, AnOldRegexAndTheEndOfTextAloneAreFoundHereToo) {
  const Path model = mlx("mlx-4bit");
  patch_json(model / "tokenizer_config.json", [](Json& config) { config["eos_token"] = "<|endoftext|>"; });
  patch_json(model / "generation_config.json",
             [](Json& config) { config["eos_token_id"] = config["eos_token_id"][1]; });
  expect_mended(model, "eos-from-config", 0, testing::sample_path("qwen35-gptq-int4"));
}

}  // namespace
}  // namespace regauge
