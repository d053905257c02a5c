// Files that are not what they should be, most of which cannot be opened.
#include "base/error.h"
#include "tests/doctor/ward.h"

namespace regauge {
namespace {

using testing::patch_json;
using testing::read_text;
using testing::SafetensorsPatch;
using testing::write_text;

class DoctorFiles : public testing::DoctorWard {
 protected:
  static constexpr const char* kFirst = "model.safetensors-00001-of-00002.safetensors";
  static constexpr const char* kSecond = "model.safetensors-00002-of-00002.safetensors";
  static constexpr const char* kIndex = "model.safetensors.index.json";
};

TEST_F(DoctorFiles, AGitLfsPointerIsNamedWithTheSizeItStandsFor) {
  const Path model = copied("qwen35-bf16-tiny");
  write_text(model / kSecond,
             "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, 'a') + "\nsize 4987654321\n");
  expect_hopeless(model, "lfs-pointer");
  const Diagnosis diagnosis = diagnose(model);
  EXPECT_NE(diagnosis.ailments.front().finding.message.find("4987654321"), std::string::npos);
  EXPECT_EQ(diagnosis.ailments.front().finding.file, kSecond);
  expect_hopeless(model / kSecond, "lfs-pointer");
}

TEST_F(DoctorFiles, AnHtmlPageIsNamed) {
  const Path path = scratch() / "model.gguf";
  write_text(path, "<!DOCTYPE html>\n<html><body>404</body></html>\n");
  expect_hopeless(path, "html-page");
}

TEST_F(DoctorFiles, AnEmptyShardIsNamed) {
  const Path model = copied("qwen35-bf16-tiny");
  write_text(model / kFirst, "");
  expect_hopeless(model, "file-empty");
}

TEST_F(DoctorFiles, AShardThatEndsEarlyIsNamedWithWhatIsMissing) {
  const Path model = copied("qwen35-bf16-tiny");
  std::filesystem::resize_file(model / kFirst, std::filesystem::file_size(model / kFirst) - 1000);
  expect_hopeless(model, "file-truncated");
  EXPECT_NE(diagnose(model).ailments.front().finding.message.find(": 1000 are not there"), std::string::npos);
  std::filesystem::resize_file(model / kFirst, 100);
  expect_hopeless(model, "file-truncated");
}

TEST_F(DoctorFiles, AGgufThatEndsEarlyIsNamedWithWhatIsMissing) {
  const Path path = copied("qwen35-tiny-mtp.gguf");
  const auto size = std::filesystem::file_size(path);
  std::filesystem::resize_file(path, size - 4096);
  expect_hopeless(path, "file-truncated");
}

TEST_F(DoctorFiles, AShardThatIsNotThereIsNamedWithTheArraysInIt) {
  const Path model = copied("qwen35-bf16-tiny");
  const std::size_t arrays = SafetensorsPatch(model / kSecond).arrays.size();
  std::filesystem::remove(model / kSecond);
  expect_hopeless(model, "shard-missing");
  EXPECT_NE(diagnose(model).ailments.front().finding.message.find(std::to_string(arrays) + " arrays"),
            std::string::npos);
}

TEST_F(DoctorFiles, AnArrayThatOnlyTheIndexHasIsNamed) {
  const Path model = copied("qwen35-bf16-tiny");
  patch_json(model / kIndex, [](auto& index) { index["weight_map"]["model.ghost.weight"] = kFirst; });
  expect_hopeless(model, "index-array-absent");
}

TEST_F(DoctorFiles, AnIndexThatNamesTheWrongShardIsWrittenAnew) {
  const Path model = copied("qwen35-bf16-tiny");
  patch_json(model / kIndex, [](auto& index) {
    for (auto& [name, shard] : index["weight_map"].items()) {
      if (shard == kFirst) {
        shard = kSecond;
        return;
      }
    }
  });
  expect_mended(model, "index-wrong-shard");
}

TEST_F(DoctorFiles, AnArrayThatTheIndexDoesNotListIsListed) {
  const Path model = copied("qwen35-bf16-tiny");
  patch_json(model / kIndex,
             [](auto& index) { index["weight_map"].erase("model.language_model.layers.0.mlp.up_proj.weight"); });
  expect_mended(model, "index-tensor-unlisted");
}

TEST_F(DoctorFiles, AShardThatTheIndexDoesNotListIsListed) {
  const Path model = copied("qwen35-bf16-tiny");
  const SafetensorsPatch second(model / kSecond);
  patch_json(model / kIndex, [&](auto& index) {
    for (const auto& array : second.arrays) index["weight_map"].erase(array.name);
    index["metadata"].erase("total_size");
  });
  const Diagnosis diagnosis = diagnose(model);
  EXPECT_EQ(faults(diagnosis), (std::vector<std::string>{"index-tensor-unlisted", "shard-unlisted"}));
  std::vector<std::string> words = find(diagnosis, "shard-unlisted")->cures.at(0).command;
  words.erase(words.begin());
  run(words);
  EXPECT_EQ(faults(Path(words[2])), std::vector<std::string>{});
}

TEST_F(DoctorFiles, AHeaderThatIsNoJsonIsNamedWithItsPlace) {
  const Path model = copied("qwen35-bf16-tiny");
  std::string bytes = read_text(model / kFirst);
  bytes[9] = '?';
  write_text(model / kFirst, bytes);
  expect_hopeless(model, "file-malformed");
}

TEST_F(DoctorFiles, WhatIsNoCheckpointAtAllIsNoDiagnosis) {
  EXPECT_THROW(diagnose(scratch() / "nothing"), Error);
  std::filesystem::create_directory(scratch() / "empty");
  EXPECT_THROW(diagnose(scratch() / "empty"), Error);
}

}  // namespace
}  // namespace regauge
