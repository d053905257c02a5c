// Towers that are announced and absent, or there and not announced: broken, found, mended by the printed command.
#include "tests/doctor/ward.h"

namespace regauge {
namespace {

using testing::GgufPatch;
using testing::patch_json;
using testing::SafetensorsPatch;

class DoctorTowers : public testing::DoctorWard {
 protected:
  /// The tiny GGUF model whose keys count `blocks` blocks, `mtp` of them MTP's.
  Path with_counts(std::uint32_t blocks, std::uint32_t mtp) {
    const Path path = copied("qwen35-tiny-mtp.gguf");
    GgufPatch file(path);
    file.set("qwen35.block_count", blocks);
    file.set("qwen35.nextn_predict_layers", mtp);
    file.erase_key("qwen35.attention.recurrent_layers");
    file.save(path);
    return path;
  }
  static void erase_from_both_shards(const Path& model, const std::string& prefix) {
    for (const char* shard :
         {"model.safetensors-00001-of-00002.safetensors", "model.safetensors-00002-of-00002.safetensors"}) {
      SafetensorsPatch file(model / shard);
      file.erase([&](const std::string& name) { return name.starts_with(prefix); });
      file.save(model / shard);
    }
    patch_json(model / "model.safetensors.index.json", [&](auto& index) {
      nlohmann::ordered_json kept;
      for (const auto& [name, shard] : index["weight_map"].items()) {
        if (!name.starts_with(prefix)) kept[name] = shard;
      }
      index["weight_map"] = kept;
      index["metadata"].erase("total_size");
    });
  }
};

TEST_F(DoctorTowers, MtpThatIsAnnouncedAndAbsentIsTakenOutOfTheConfiguration) {
  const Path model = copied("qwen35-gptq-int4");
  const Diagnosis diagnosis = diagnose(model);
  ASSERT_NE(find(diagnosis, "mtp-announced-absent"), nullptr);
  const auto& graft = find(diagnosis, "mtp-announced-absent")->cures.front().command;
  EXPECT_EQ(graft, (std::vector<std::string>{"regauge", "graft", model, model.string() + "-mended", "--mtp", "DONOR"}));
  expect_mended(model, "mtp-announced-absent", 1);
}

TEST_F(DoctorTowers, MtpThatIsAnnouncedAndAbsentIsGrafted) {
  const Path model = copied("qwen35-bf16-tiny");
  erase_from_both_shards(model, "mtp.");
  expect_mended(model, "mtp-announced-absent", 0, testing::sample_path("qwen35-bf16-tiny"));
}

TEST_F(DoctorTowers, MtpThatAGptqCheckpointLostIsGraftedFromTheBase) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(base, "qwen35_family/hf-bf16");
  expect_mended(copied("qwen35-gptq-int4"), "mtp-announced-absent", 0, base);
}

TEST_F(DoctorTowers, MtpBlocksThatAGgufCountsAndLacksAreGrafted) {
  const Path path = copied("qwen35-tiny-mtp.gguf");
  GgufPatch file(path);
  file.erase([](const std::string& name) { return name.starts_with("blk.4."); });
  file.save(path);
  expect_mended(path, "mtp-announced-absent", 0, testing::sample_path("qwen35-tiny-mtp.gguf"));
}

TEST_F(DoctorTowers, MtpThatIsThereAndNotAnnouncedIsAnnouncedOrLeftOut) {
  for (const std::size_t cure : {0U, 1U}) {
    const Path model = copied("qwen35-bf16-tiny");
    patch_json(model / "config.json", [](auto& config) { config["text_config"]["mtp_num_hidden_layers"] = 0; });
    expect_mended(model, "mtp-undeclared", cure);
    const auto config = nlohmann::json::parse(testing::read_text(model.string() + "-mended/config.json"));
    EXPECT_EQ(config["text_config"]["mtp_num_hidden_layers"], cure == 0 ? 1 : 0);
    std::filesystem::remove_all(model);
    std::filesystem::remove_all(model.string() + "-mended");
  }
}

TEST_F(DoctorTowers, AbsentBlocksAreTakenOutOfTheCountOfAGguf) {
  const Path path = copied("qwen35-tiny-mtp.gguf");
  GgufPatch file(path);
  file.erase([](const std::string& name) { return name.starts_with("blk.4."); });
  file.save(path);
  expect_mended(path, "mtp-announced-absent", 1);
  const GgufPatch mended(scratch() / "qwen35-tiny-mtp-mended.gguf");
  EXPECT_TRUE(std::ranges::find(mended.keys, Metadata::Entry{"qwen35.block_count", std::uint32_t{4}}) !=
              mended.keys.end());
}

TEST_F(DoctorTowers, AnMtpBlockThatAGgufDoesNotCountIsLeftOut) { expect_mended(with_counts(4, 0), "mtp-undeclared"); }

TEST_F(DoctorTowers, AnMtpBlockThatAGgufTakesForALayerNeedsTheOriginal) {
  const Diagnosis diagnosis = diagnose(with_counts(5, 0));
  const Ailment* ailment = find(diagnosis, "mtp-undeclared");
  ASSERT_NE(ailment, nullptr);
  ASSERT_EQ(ailment->cures.size(), 1U);
  EXPECT_EQ(ailment->cures.front().command.at(2), "ORIGINAL");
}

TEST_F(DoctorTowers, AnMmprojWithoutATowerIsMadeAnew) {
  converted("qwen35-gptq-int4", "model.gguf", {});
  const Path path = scratch() / "mmproj-model.gguf";
  EXPECT_EQ(faults(path), std::vector<std::string>{});
  GgufPatch file(path);
  file.erase([](const std::string& name) { return name != "v.patch_embd.bias"; });
  file.save(path);
  expect_mended(path, "mmproj-empty", 0, testing::sample_path("qwen35-gptq-int4"));
  EXPECT_TRUE(std::filesystem::exists(scratch() / "mmproj-mmproj-model-mended.gguf"));
  file.tensors.clear();
  file.save(path);
  EXPECT_EQ(faults(path), std::vector<std::string>{"mmproj-empty"});
}

TEST_F(DoctorTowers, AVisionTowerThatIsAnnouncedAndAbsentIsToBeGrafted) {
  const Path model = copied("qwen35-bf16-tiny");
  erase_from_both_shards(model, "model.visual.");
  expect_mended(model, "vision-announced-absent", 0, testing::sample_path("qwen35-bf16-tiny"));
  std::filesystem::remove_all(model.string() + "-mended");
  expect_mended(model, "vision-announced-absent", 1);
  const auto config = nlohmann::json::parse(testing::read_text(model.string() + "-mended/config.json"));
  EXPECT_EQ(config["language_model_only"], true);
}

TEST_F(DoctorTowers, AVisionTowerThatIsNotAnnouncedIsAnnouncedByTheOriginalsConfiguration) {
  const Path model = copied("qwen35-bf16-tiny");
  patch_json(model / "config.json", [](auto& config) { config.erase("vision_config"); });
  expect_mended(model, "vision-undeclared", 0, testing::sample_path("qwen35-bf16-tiny"));
  std::filesystem::remove_all(model.string() + "-mended");
  expect_mended(model, "vision-undeclared", 1);
}

}  // namespace
}  // namespace regauge
