#include "verify/checksum.h"

#include <numeric>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "base/error.h"
#include "formats/format.h"
#include "tests/support/builders.h"
#include "tests/support/golden.h"
#include "verify/manifest_check.h"

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::GgufBytes;
using testing::ScratchDir;
using testing::write_whole_file;

constexpr std::uint32_t kI8 = 24;

/// The file that llama-gguf-hash of llama.cpp v0.5.0 was run on: I8 "a" is 0 to 31, I8 "b" is 1 to 5.
testing::Bytes hashed_gguf() {
  GgufBytes file;
  file.preamble(2, 1).text_key("general.architecture", "none");
  file.tensor("a", {32}, kI8, 0).tensor("b", {5}, kI8, 32).pad().data(32);
  for (std::uint8_t i = 1; i <= 5; ++i) file.u8(i);
  return file.pad().bytes();
}

SumOptions with(std::vector<DigestAlgorithm> algorithms) { return {std::move(algorithms), false, 1}; }

StoredSums sums_of(const fs::path& path, const SumOptions& options) { return checksum(open_checkpoint(path), options); }

// Source: llama-gguf-hash --all --uuid on that file.
TEST(Checksum, PrintsTheLinesOfLlamaGgufHash) {
  const ScratchDir scratch;
  write_whole_file(scratch / "h.gguf", hashed_gguf());
  StoredSums sums =
      sums_of(scratch / "h.gguf",
              with({DigestAlgorithm::uuid, DigestAlgorithm::sha256, DigestAlgorithm::xxh64, DigestAlgorithm::sha1}));
  sums.files.front().label = "h.gguf";
  const std::string lines = render_lines(sums);
  EXPECT_TRUE(
      lines.starts_with("xxh64     cbf59c5116ff32b4  h.gguf:a\n"
                        "sha1      ae5bd8efea5322c4d9986d06680a781392f9a642  h.gguf:a\n"
                        "sha256    630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd  h.gguf:a\n"
                        "xxh64     8d85ab4884c0d62f  h.gguf:b\n"))
      << lines;
  EXPECT_TRUE(
      lines.ends_with("xxh64     57babf1e39d8ee48  h.gguf\n"
                      "sha1      43441306a3869347aa2be3abf6cb2ba9b57bea4b  h.gguf\n"
                      "sha256    5ad40006b611158b0884d33cc738dbe90d6bc66bac8fa1a75d1c630be910af52  h.gguf\n"
                      "uuid      e8bb2415-f6c6-58af-90ad-954ac7d1b423  h.gguf\n"))
      << lines;
}

// Source: llama-gguf-hash --check reads such lines, the unknown hash being passed over.
TEST(Checksum, HoldsAFileAgainstLinesThatAnotherProgramWrote) {
  const ScratchDir scratch;
  write_whole_file(scratch / "renamed.gguf", hashed_gguf());
  const Manifest manifest = parse_manifest(
      "blake9    00  h.gguf:a\n"
      "xxh64     cbf59c5116ff32b4  models/h.gguf:a\n"
      "xxh64     8d85ab4884c0d62e  models/h.gguf:b\n"
      "xxh64     57babf1e39d8ee48  models/h.gguf\n"
      "xxh64     57babf1e39d8ee48  models/h.gguf:c\n",
      "manifest");
  ASSERT_EQ(manifest.algorithm(), DigestAlgorithm::xxh64);
  const StoredSums sums = sums_of(scratch / "renamed.gguf", with({DigestAlgorithm::xxh64}));
  const ManifestReport report = check_stored(manifest, std::vector{sums}, DigestAlgorithm::xxh64);
  EXPECT_EQ(report.same, 1U);
  EXPECT_EQ(report.changed, std::vector<std::string>{"renamed.gguf:b"});
  EXPECT_EQ(report.missing, std::vector<std::string>{"renamed.gguf:c"});
  EXPECT_TRUE(report.added.empty());
}

TEST(Checksum, WithoutLinesForArraysChecksTheFile) {
  const ScratchDir scratch;
  write_whole_file(scratch / "h.gguf", hashed_gguf());
  const Manifest manifest = parse_manifest("uuid  e8bb2415-f6c6-58af-90ad-954ac7d1b423  h.gguf\n", "manifest");
  const StoredSums sums = sums_of(scratch / "h.gguf", with({DigestAlgorithm::uuid}));
  EXPECT_EQ(check_stored(manifest, std::vector{sums}, DigestAlgorithm::uuid).same, 1U);
}

TEST(Checksum, IsTheSameOnAnyNumberOfThreads) {
  const Checkpoint checkpoint = open_checkpoint(testing::sample_path("qwen35-bf16-tiny"));
  const StoredSums one = checksum(checkpoint, {{DigestAlgorithm::xxh3_128}, true, 1});
  const StoredSums three = checksum(checkpoint, {{DigestAlgorithm::xxh3_128}, true, 3});
  EXPECT_EQ(render_lines(one), render_lines(three));
  EXPECT_EQ(one.arrays.size(), checkpoint.arrays.size());
}

TEST(Manifest, InJsonComesBackAsItWasWritten) {
  const Checkpoint checkpoint = open_checkpoint(testing::sample_path("qwen35-bf16-tiny"));
  const std::vector sums{checksum(checkpoint, {{DigestAlgorithm::xxh3_128, DigestAlgorithm::sha1}, true, 1})};
  const auto architecture = recognise(checkpoint);
  const ValueDigests values = value_digests(std::vector{OpenedPath{&checkpoint, architecture.get()}});
  const Manifest manifest = parse_manifest(checksum_to_json(sums, &values).dump(), "manifest");
  ASSERT_TRUE(manifest.values.has_value());
  EXPECT_EQ(manifest.values->model, values.model);
  for (const DigestAlgorithm algorithm : {DigestAlgorithm::xxh3_128, DigestAlgorithm::sha1}) {
    const ManifestReport report = check_stored(manifest, sums, algorithm);
    EXPECT_TRUE(report.equal());
    EXPECT_EQ(report.same, checkpoint.arrays.size());
  }
  EXPECT_EQ(check_whole_files(manifest, sums).same, checkpoint.files.size() + checkpoint.sidecars.size());
  EXPECT_EQ(check_values(manifest, values).same, values.tensors.size());
}

TEST(Manifest, TellsAnotherTypeOverTheSameBytes) {
  const ScratchDir scratch;
  write_whole_file(scratch / "a.safetensors",
                   testing::safetensors_bytes("{" + testing::safetensors_entry("w", "F32", "[2]", "[0,8]") + "}", 8));
  write_whole_file(scratch / "b.safetensors",
                   testing::safetensors_bytes("{" + testing::safetensors_entry("w", "I32", "[2]", "[0,8]") + "}", 8));
  const std::vector first{sums_of(scratch / "a.safetensors", with({DigestAlgorithm::xxh3_128}))};
  const std::vector second{sums_of(scratch / "b.safetensors", with({DigestAlgorithm::xxh3_128}))};
  const Manifest manifest = parse_manifest(checksum_to_json(first, nullptr).dump(), "manifest");
  const ManifestReport report = check_stored(manifest, second, DigestAlgorithm::xxh3_128);
  EXPECT_EQ(report.retyped, std::vector<std::string>{"b.safetensors:w"});
  EXPECT_FALSE(report.equal());
}

TEST(Manifest, ThatIsNoneIsRefused) {
  for (
      const char* text :
      {"", "hello\n", "{}", R"({"schema":"regauge.checksum/1"})",
       R"({"schema":"regauge.checksum/1","values":{"model":"00"}})",
       R"({"schema":"regauge.checksum/1","paths":[{"files":[{}]}]})",
       R"({"schema":"regauge.checksum/1","paths":[{"arrays":[{"name":"a","file":"b","dtype":"F32","shape":["x"]}]}]})"}) {
    try {
      parse_manifest(text, "manifest");
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::malformed) << text;
      EXPECT_EQ(error.file(), "manifest") << text;
    }
  }
}

// Wherever in the data of a shard a bit flips, the array that holds it is named, and no other.
TEST(Checksum, NamesTheArrayOfEveryFlippedBit) {
  const ScratchDir scratch;
  const fs::path sample = testing::sample_path("qwen35-tiny-mtp.gguf");
  const Checkpoint original = open_checkpoint(sample);
  testing::Bytes bytes = testing::read_whole_file(sample);
  const Manifest manifest = parse_manifest(
      checksum_to_json(std::vector{checksum(original, with({DigestAlgorithm::xxh3_128}))}, nullptr).dump(), "manifest");
  std::mt19937_64 random(20260801);
  for (int i = 0; i < 60; ++i) {
    const StoredArray& array = original.arrays[random() % original.arrays.size()];
    const std::size_t at = array.offset + random() % array.bytes;
    const auto bit = std::byte{static_cast<unsigned char>(1U << (random() % 8))};
    bytes[at] ^= bit;
    write_whole_file(scratch / "flipped.gguf", bytes);
    const StoredSums sums = sums_of(scratch / "flipped.gguf", with({DigestAlgorithm::xxh3_128}));
    const ManifestReport report = check_stored(manifest, std::vector{sums}, DigestAlgorithm::xxh3_128);
    EXPECT_EQ(report.changed, std::vector<std::string>{"flipped.gguf:" + array.name});
    EXPECT_EQ(report.same, original.arrays.size() - 1);
    bytes[at] ^= bit;
  }
}

}  // namespace
}  // namespace regauge
