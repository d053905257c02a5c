// Configurations that make no sense, weights that do not fit them, data that cannot be decoded, containers that were damaged.
#include <fstream>

#include "tests/doctor/ward.h"

namespace regauge {
namespace {

using Json = nlohmann::ordered_json;
using testing::patch_json;
using testing::SafetensorsPatch;

class DoctorShapes : public testing::DoctorWard {
 protected:
  static constexpr const char* kFirst = "model.safetensors-00001-of-00002.safetensors";
  static constexpr const char* kSecond = "model.safetensors-00002-of-00002.safetensors";
  /// Changes an array of the tiny sample, in whichever shard it is.
  static void change(const Path& model, const std::string& name,
                     const std::function<void(SafetensorsPatch&, SafetensorsPatch::Array&)>& change) {
    for (const char* shard : {kFirst, kSecond}) {
      SafetensorsPatch patch(model / shard);
      const auto found = std::ranges::find(patch.arrays, name, &SafetensorsPatch::Array::name);
      if (found == patch.arrays.end()) continue;
      change(patch, *found);
      patch.save(model / shard);
      return;
    }
    FAIL() << name;
  }
};

TEST_F(DoctorShapes, AConfigurationThatMakesNoSenseIsTakenFromTheOriginal) {
  const Path model = copied("qwen35-bf16-tiny");
  patch_json(model / "config.json", [](Json& config) { config["text_config"]["num_hidden_layers"] = 1'000'000'000; });
  expect_mended(model, "config-malformed", 0, testing::sample_path("qwen35-bf16-tiny"));
}

TEST_F(DoctorShapes, KeysThatMakeNoSenseAreWrittenAnewFromTheOriginal) {
  const Path path = converted("qwen35-gptq-int4", "model.gguf", {"--drop", "vision"});
  testing::GgufPatch file(path);
  file.erase_key("qwen35.ssm.state_size");
  file.save(path);
  expect_mended(path, "config-malformed", 0, testing::sample_path("qwen35-gptq-int4"));
}

TEST_F(DoctorShapes, AWeightOfAnotherShapeIsNamedWithBoth) {
  const Path model = copied("qwen35-bf16-tiny");
  const std::string name = "model.language_model.layers.0.mlp.up_proj.weight";
  change(model, name, [](SafetensorsPatch&, SafetensorsPatch::Array& array) {
    const std::size_t row = array.bytes.size() / static_cast<std::size_t>(array.shape[0]);
    array.shape[0] -= 1;
    array.bytes.resize(array.bytes.size() - row);
  });
  patch_json(model / "model.safetensors.index.json", [](Json& index) { index["metadata"].erase("total_size"); });
  expect_hopeless(model, "tensor-wrong-shape");
  EXPECT_EQ(diagnose(model).ailments.front().finding.tensor, name);
}

TEST_F(DoctorShapes, AWeightUnderTwoNamesIsNamed) {
  const Path model = copied("qwen35-bf16-tiny");
  const std::string name = "model.language_model.layers.0.mlp.up_proj.weight";
  const std::string other = "model.layers.0.mlp.up_proj.weight";  // as text-only saves have it
  change(model, name, [&](SafetensorsPatch& patch, const SafetensorsPatch::Array& array) {
    SafetensorsPatch::Array copy = array;
    copy.name = other;
    patch.arrays.push_back(copy);
  });
  patch_json(model / "model.safetensors.index.json", [&](Json& index) {
    index["weight_map"][other] = index["weight_map"][name];
    index["metadata"].erase("total_size");
  });
  expect_hopeless(model, "tensor-repeated");
}

TEST_F(DoctorShapes, AMissingWeightOfADirectoryIsNamed) {
  const Path model = copied("qwen35-bf16-tiny");
  const std::string name = "model.language_model.layers.0.mlp.up_proj.weight";
  change(model, name, [&](SafetensorsPatch& patch, const SafetensorsPatch::Array&) {
    patch.erase([&](const std::string& one) { return one == name; });
  });
  patch_json(model / "model.safetensors.index.json", [&](Json& index) {
    index["weight_map"].erase(name);
    index["metadata"].erase("total_size");
  });
  expect_hopeless(model, "tensor-missing");
}

TEST_F(DoctorShapes, AGroupIndexBeyondTheGroupsCannotBeRead) {
  const Path model = gptq();
  SafetensorsPatch patch(model / "model.safetensors");
  auto& index = patch.array("model.language_model.layers.1.mlp.up_proj.g_idx").bytes;
  index[0] = std::byte{99};
  patch.save(model / "model.safetensors");
  expect_hopeless(model, "data-unread");
}

class DoctorContainer : public testing::DoctorWard {
 protected:
  /// The last byte of the file that is not zero lies in its last part.
  static void damage(const Path& path) {
    std::string bytes = testing::read_text(path);
    const auto at = bytes.find_last_not_of('\0');
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    testing::write_text(path, bytes);
  }
};

TEST_F(DoctorContainer, ADamagedPartIsNamed) {
  const Path path = converted("qwen35-bf16-tiny", "model.rg.gguf", {});
  damage(path);
  expect_hopeless(path, "container-part-damaged");
  EXPECT_FALSE(diagnose(path).ailments.front().finding.file.empty());
}

TEST_F(DoctorContainer, WhatIsWrongInsideAContainerIsMendedOutOfIt) {
  const Path path = scratch() / "model.rg.gguf";
  run({"convert", testing::sample_path("qwen35-gptq-int4").string(), path.string(), "-q"});
  expect_mended(path, "mtp-announced-absent", 1);
  EXPECT_TRUE(std::filesystem::is_directory(scratch() / "model-mended"));
}

}  // namespace
}  // namespace regauge
