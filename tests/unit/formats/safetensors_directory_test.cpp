#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "formats/safetensors/safetensors.h"
#include "tests/support/builders.h"
#include "tests/support/golden.h"
#include "tests/support/rewrite.h"

namespace regauge {
namespace {

namespace fs = std::filesystem;

using testing::Bytes;
using testing::has_finding;
using testing::safetensors_bytes;
using testing::safetensors_entry;
using testing::ScratchDir;

void write_text(const fs::path& path, std::string_view text) {
  fs::create_directories(path.parent_path());
  testing::write_whole_file(path, std::as_bytes(std::span(text.data(), text.size())));
}

/// A shard with one array of four bytes.
void write_shard(const fs::path& path, std::string_view array) {
  fs::create_directories(path.parent_path());
  testing::write_whole_file(path, safetensors_bytes("{" + safetensors_entry(array, "U8", "[4]", "[0,4]") + "}", 4));
}

std::vector<std::string> array_names(const Checkpoint& checkpoint) {
  std::vector<std::string> names;
  for (const StoredArray& array : checkpoint.arrays) names.push_back(array.name);
  return names;
}

std::vector<std::string> sidecar_names(const Checkpoint& checkpoint) {
  std::vector<std::string> names;
  for (const Sidecar& sidecar : checkpoint.sidecars) names.push_back(sidecar.name);
  return names;
}

using Names = std::vector<std::string>;

TEST(SafetensorsDirectory, ShardsOfTheIndexAreReadInOrderOfTheirNames) {
  const ScratchDir scratch;
  write_shard(scratch / "model.safetensors-00001-of-00002.safetensors", "y");
  write_shard(scratch / "model.safetensors-00002-of-00002.safetensors", "x");
  write_text(scratch / "model.safetensors.index.json",
             R"({"metadata":{"total_size":8.0},"weight_map":{"x":"model.safetensors-00002-of-00002.safetensors",
                "y":"model.safetensors-00001-of-00002.safetensors"}})");
  write_text(scratch / "config.json", R"({"model_type":"x"})");
  const Checkpoint checkpoint = open_checkpoint(scratch.path());
  EXPECT_EQ(array_names(checkpoint), (Names{"y", "x"}));
  EXPECT_EQ(checkpoint.arrays[1].file, 1U);
  EXPECT_EQ(checkpoint.files[1].name, "model.safetensors-00002-of-00002.safetensors");
  EXPECT_EQ((*checkpoint.config)["model_type"], "x");
  EXPECT_EQ(sidecar_names(checkpoint), (Names{"config.json", "model.safetensors.index.json"}));
  EXPECT_TRUE(checkpoint.findings.empty());
}

TEST(SafetensorsDirectory, SidecarsAreAllOtherFilesSubfoldersIncluded) {
  const ScratchDir scratch;
  write_shard(scratch / "model.safetensors", "x");
  write_shard(scratch / "adapter_model.safetensors", "factor");
  write_shard(scratch.path() / "eora" / "adapter_model.safetensors", "factor");
  write_shard(scratch.path() / "other" / "model.safetensors", "x");
  write_text(scratch.path() / ".git" / "HEAD", "ref");
  write_text(scratch / "README.md", "# hello");
  const Checkpoint checkpoint = open_checkpoint(scratch.path());
  EXPECT_EQ(array_names(checkpoint), (Names{"x"}));
  EXPECT_EQ(sidecar_names(checkpoint), (Names{"README.md", "adapter_model.safetensors",
                                              "eora/adapter_model.safetensors", "other/model.safetensors"}));
  EXPECT_EQ(checkpoint.sidecars[0].bytes, 7U);
  EXPECT_EQ(checkpoint.sidecar_text("README.md", 100), "# hello");
  EXPECT_FALSE(checkpoint.config.has_value());
}

TEST(SafetensorsDirectory, UnlistedShardIsReadTooAndFound) {
  const ScratchDir scratch;
  write_shard(scratch / "model-00001-of-00001.safetensors", "x");
  write_shard(scratch / "mtp.safetensors", "mtp.fc");
  write_text(scratch / "model.safetensors.index.json", R"({"weight_map":{"x":"model-00001-of-00001.safetensors"}})");
  const Checkpoint checkpoint = open_checkpoint(scratch.path());
  EXPECT_EQ(array_names(checkpoint), (Names{"x", "mtp.fc"}));
  EXPECT_TRUE(has_finding(checkpoint, "shard-unlisted"));
  EXPECT_TRUE(has_finding(checkpoint, "index-tensor-unlisted"));
}

TEST(SafetensorsDirectory, FolderOfAnAdapterAloneIsACheckpoint) {
  const ScratchDir scratch;
  write_shard(scratch / "adapter_model.safetensors", "factor");
  EXPECT_EQ(array_names(open_checkpoint(scratch.path())), (Names{"factor"}));
}

TEST(SafetensorsDirectory, SecondCopyUnderOriginalNamesIsLeftAside) {
  const ScratchDir scratch;
  write_shard(scratch / "model.safetensors", "x");
  write_shard(scratch / "consolidated.safetensors", "layers.0.x");
  EXPECT_EQ(array_names(open_checkpoint(scratch.path())), (Names{"x"}));
}

TEST(SafetensorsDirectory, ShardNamedWithADotIsTheSameFile) {
  const ScratchDir scratch;
  write_shard(scratch / "a.safetensors", "x");
  write_text(scratch / "model.safetensors.index.json", R"({"weight_map":{"x":"./a.safetensors"}})");
  const Checkpoint checkpoint = open_checkpoint(scratch.path());
  EXPECT_EQ(checkpoint.files.size(), 1U);
  EXPECT_TRUE(checkpoint.findings.empty());
}

// Hugging Face writes the bytes of the arrays, GPTQModel those of the files; Qwen3.8's index has a float.
TEST(SafetensorsDirectory, BothReadingsOfTotalSizeAreTaken) {
  const ScratchDir scratch;
  write_shard(scratch / "a.safetensors", "x");
  const auto file_bytes = fs::file_size(scratch / "a.safetensors");
  for (const std::string& total : {std::string("4"), std::string("4.0"), std::to_string(file_bytes)}) {
    write_text(scratch / "model.safetensors.index.json",
               R"({"metadata":{"total_size":)" + total + R"(},"weight_map":{"x":"a.safetensors"}})");
    EXPECT_FALSE(has_finding(open_checkpoint(scratch.path()), "index-total-size")) << total;
  }
  for (const char* total : {"5", "-4", "1e300", "\"4\"", "[]"}) {
    write_text(scratch / "model.safetensors.index.json",
               std::string(R"({"metadata":{"total_size":)") + total + R"(},"weight_map":{"x":"a.safetensors"}})");
    EXPECT_TRUE(has_finding(open_checkpoint(scratch.path()), "index-total-size")) << total;
  }
}

TEST(SafetensorsDirectory, CacheOfHuggingFaceIsMadeOfLinksAndOpens) {
  const ScratchDir scratch;
  const fs::path snapshot = scratch.path() / "snapshots" / "0123abc";
  fs::create_directories(snapshot);
  write_shard(scratch.path() / "blobs" / "aaaa", "x");
  write_text(scratch.path() / "blobs" / "bbbb", R"({"model_type":"m"})");
  fs::create_symlink("../../blobs/aaaa", snapshot / "model.safetensors");
  fs::create_symlink("../../blobs/bbbb", snapshot / "config.json");
  const Checkpoint checkpoint = open_checkpoint(snapshot);
  EXPECT_EQ(array_names(checkpoint), (Names{"x"}));
  EXPECT_EQ((*checkpoint.config)["model_type"], "m");
  EXPECT_EQ(sidecar_names(checkpoint), (Names{"config.json"}));
  EXPECT_TRUE(checkpoint.findings.empty());
}

TEST(SafetensorsDirectory, SidecarLinkThatLeadsOutIsLeftOut) {
  const ScratchDir outside;
  const ScratchDir scratch;
  write_text(outside / "secret", "s");
  write_shard(scratch / "model.safetensors", "x");
  fs::create_symlink(outside / "secret", scratch / "tokenizer.json");
  const Checkpoint checkpoint = open_checkpoint(scratch.path());
  EXPECT_TRUE(checkpoint.sidecars.empty());
  EXPECT_TRUE(has_finding(checkpoint, "sidecar-outside"));
}

TEST(SafetensorsDirectory, ShardsThatDisagreeAboutMetadataGiveAFinding) {
  const ScratchDir scratch;
  const auto with = [](const char* format, const char* array) {
    return safetensors_bytes(std::string(R"({"__metadata__":{"format":")") + format + "\"}," +
                                 safetensors_entry(array, "U8", "[4]", "[0,4]") + "}",
                             4);
  };
  testing::write_whole_file(scratch / "a.safetensors", with("pt", "x"));
  testing::write_whole_file(scratch / "b.safetensors", with("mlx", "y"));
  const Checkpoint checkpoint = open_checkpoint(scratch.path());
  EXPECT_EQ(checkpoint.metadata.get_string("format"), "pt");
  EXPECT_TRUE(has_finding(checkpoint, "shard-metadata-differs"));
}

TEST(SafetensorsDirectory, RepeatedKeyOfTheConfigurationKeepsItsLastValue) {
  const ScratchDir scratch;
  write_shard(scratch / "model.safetensors", "x");
  write_text(scratch / "config.json", R"({"a":1,"a":2})");
  const Checkpoint checkpoint = open_checkpoint(scratch.path());
  EXPECT_EQ((*checkpoint.config)["a"], 2);
  EXPECT_TRUE(has_finding(checkpoint, "config-repeated-key"));
}

TEST(SafetensorsDirectory, GlanceGivesConfigurationAndAllNames) {
  const ScratchDir scratch;
  write_shard(scratch / "a.safetensors", "x");
  write_shard(scratch / "b.safetensors", "y");
  write_text(scratch / "config.json", R"({"k":1})");
  const SafetensorsGlance seen = glance(probe(scratch.path()));
  EXPECT_TRUE(seen.is_safetensors);
  EXPECT_EQ(seen.names, (Names{"x", "y"}));
  EXPECT_EQ((*seen.config)["k"], 1);
  write_text(scratch / "config.json", "[1]");
  EXPECT_FALSE(glance(probe(scratch.path())).config.has_value());
}

class GoldenDirectory : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenDirectory, EveryIndexedArrayIsThere) {
  REGAUGE_GOLDEN_OR_SKIP(path, GetParam());
  const Checkpoint checkpoint = open_safetensors(probe(path));
  EXPECT_GT(checkpoint.arrays.size(), 0U);
  EXPECT_TRUE(checkpoint.config.has_value());
  EXPECT_FALSE(has_finding(checkpoint, "index-total-size"));
  EXPECT_FALSE(has_finding(checkpoint, "shard-unlisted"));
  EXPECT_FALSE(has_finding(checkpoint, "index-tensor-unlisted"));
}

INSTANTIATE_TEST_SUITE_P(Folders, GoldenDirectory,
                         ::testing::Values("qwen35_family/hf-bf16", "qwen35_family/gptq-mixed-eora",
                                           "qwen35_family/gptq-int4-g64", "qwen35_family/gptq-int4-g128-noact",
                                           "qwen35_family/mlx-8865", "qwen35_family/mlx-4bit", "qwen35_tiny/hf",
                                           "gptq/ckpt/mini003", "gptq/ckpt/mini004"));

// As many arrays and shards as the largest quantized 27B checkpoints have, their 30 GB made of holes.
TEST(SafetensorsDirectory, TwentySevenBillionParametersOpenAtOnce) {
  const ScratchDir scratch;
  constexpr std::uint64_t kBytes = 12'500'000;
  constexpr int kShards = 11;
  constexpr int kArrays = 218;
  std::string weight_map;
  for (int shard = 0; shard < kShards; ++shard) {
    const std::string file = "model.safetensors-" + std::to_string(10001 + shard) + "-of-00011.safetensors";
    std::string header = "{";
    for (int i = 0; i < kArrays; ++i) {
      const std::string array =
          "model.language_model.layers." + std::to_string(shard) + ".mlp." + std::to_string(i) + ".weight";
      const std::uint64_t begin = kBytes * static_cast<std::uint64_t>(i);
      header += (i > 0 ? "," : "") +
                safetensors_entry(array, "U8", "[" + std::to_string(kBytes) + "]",
                                  "[" + std::to_string(begin) + "," + std::to_string(begin + kBytes) + "]");
      weight_map += (weight_map.empty() ? "\"" : ",\"") + array + "\":\"" + file + "\"";
    }
    const Bytes head = safetensors_bytes(header + "}", 0);
    testing::write_whole_file(scratch / file, head);
    fs::resize_file(scratch / file, head.size() + kBytes * kArrays);
  }
  write_text(scratch / "model.safetensors.index.json", "{\"weight_map\":{" + weight_map + "}}");
  const auto start = std::chrono::steady_clock::now();
  const Checkpoint checkpoint = open_checkpoint(scratch.path());
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(checkpoint.arrays.size(), static_cast<std::size_t>(kShards * kArrays));
  RecordProperty("open_seconds", std::to_string(elapsed.count()));
  EXPECT_LT(elapsed.count(), 5.0);  // some 0.02 s in fact; slow machines and sanitizers get room
}

}  // namespace
}  // namespace regauge
