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

TEST_F(DoctorFiles, AnArrayInTwoShardsIsNamedWithBoth) {
  const Path model = copied("qwen35-bf16-tiny");
  SafetensorsPatch first(model / kFirst);
  SafetensorsPatch second(model / kSecond);
  second.arrays.push_back(first.arrays.front());
  second.save(model / kSecond);
  expect_hopeless(model, "array-twice");
  const Finding finding = diagnose(model).ailments.front().finding;
  EXPECT_EQ(finding.tensor, first.arrays.front().name);
  EXPECT_NE(finding.message.find(kFirst), std::string::npos);
  EXPECT_NE(finding.message.find(kSecond), std::string::npos);
}

TEST_F(DoctorFiles, APickleInPlaceOfAShardIsNamed) {
  const Path model = copied("qwen35-bf16-tiny");
  write_text(model / kFirst, std::string("PK\x03\x04") + "archive/data.pkl");
  expect_hopeless(model, "file-foreign");
  EXPECT_NE(diagnose(model).ailments.front().finding.message.find("PyTorch"), std::string::npos);
}

TEST_F(DoctorFiles, EveryBrokenShardIsNamed) {
  const Path model = copied("qwen35-bf16-tiny");
  write_text(model / kFirst, "");
  write_text(model / kSecond, "<!DOCTYPE html>\n<html></html>\n");
  EXPECT_EQ(faults(model), (std::vector<std::string>{"file-empty", "html-page"}));
}

TEST_F(DoctorFiles, AConfigurationThatIsAPointerIsNamed) {
  const Path model = copied("qwen35-bf16-tiny");
  write_text(model / "config.json", "version https://git-lfs.github.com/spec/v1\nsize 3000\n");
  const Diagnosis diagnosis = diagnose(model);
  ASSERT_NE(find(diagnosis, "lfs-pointer"), nullptr);
  EXPECT_EQ(find(diagnosis, "lfs-pointer")->finding.file, "config.json");
}

TEST_F(DoctorFiles, ATokenizerThatIsAPointerIsTakenFromTheOriginal) {
  const Path model = converted("qwen35-gptq-int4", "model", {"--to", "gptq", "--drop", "mtp"});
  write_text(model / "tokenizer.json",
             "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, 'b') + "\nsize 12800000\n");
  expect_mended(model, "lfs-pointer", 0, testing::sample_path("qwen35-gptq-int4"));
  EXPECT_EQ(read_text(scratch() / "model-mended/tokenizer.json"),
            read_text(testing::sample_path("qwen35-gptq-int4") / "tokenizer.json"));
}

TEST_F(DoctorFiles, ATokenizerThatEndsEarlyIsTakenFromTheOriginal) {
  const Path model = converted("qwen35-gptq-int4", "model", {"--to", "gptq", "--drop", "mtp"});
  std::filesystem::resize_file(model / "tokenizer.json", 1000);
  expect_mended(model, "file-malformed", 0, testing::sample_path("qwen35-gptq-int4"));
}

class DoctorSplit : public testing::DoctorWard {
 protected:
  /// The first of three files or more.
  Path split() {
    run({"convert", testing::sample_path("qwen35-gptq-int4").string(), (scratch() / "model.gguf").string(), "--drop",
         "vision", "--split-max-size", "1000000", "--quiet"});
    for (const auto& entry : std::filesystem::directory_iterator(scratch().path())) {
      if (entry.path().filename().string().starts_with("model-00001-of-")) first_ = entry.path();
    }
    EXPECT_EQ(faults(first_), std::vector<std::string>{});
    return first_;
  }
  Path second() const {
    std::string name = first_.string();
    return name.replace(name.find("-00001-"), 7, "-00002-");
  }

 private:
  Path first_;
};

TEST_F(DoctorSplit, AShardOfAGgufThatIsNotThereIsNamed) {
  const Path first = split();
  std::filesystem::remove(second());
  expect_hopeless(first, "shard-missing");
  EXPECT_EQ(diagnose(first).ailments.front().finding.file, second().filename());
}

TEST_F(DoctorSplit, AShardOfAGgufThatEndsEarlyIsNamed) {
  const Path first = split();
  std::filesystem::resize_file(second(), std::filesystem::file_size(second()) - 4096);
  expect_hopeless(first, "file-truncated");
  EXPECT_EQ(diagnose(first).ailments.front().finding.file, second().filename());
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
