#include "formats/gguf/split_writer.h"

#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "formats/gguf/gguf.h"
#include "tests/support/builders.h"
#include "tests/support/golden.h"
#include "tests/support/rewrite.h"

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::Bytes;
using testing::GgufBytes;
using testing::ScratchDir;

const std::vector<ArrayPlan> kTensors{
    {"a", DType::i8, {32}}, {"b", DType::i8, {40}}, {"c", DType::i8, {8}}, {"d", DType::i8, {100}}};

Metadata keys() {
  Metadata metadata;
  metadata.set("general.architecture", std::string("llama"));
  metadata.set("split.count", std::uint16_t{9});
  return metadata;
}

void write(const fs::path& target, const WriteOptions& options) {
  const auto writer = kGgufFormat.create(target, options);
  writer->begin(keys(), kTensors);
  for (std::size_t i = 0; i < kTensors.size(); ++i) {
    writer->put(i, 0, Bytes(kTensors[i].bytes(), static_cast<std::byte>(i + 1)));
  }
  writer->finish();
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().native());
  std::ranges::sort(names);
  return names;
}

GgufBytes& filled(GgufBytes& file, std::size_t count, std::uint8_t value) {
  for (std::size_t i = 0; i < count; ++i) file.u8(value);
  return file.pad();
}

// Field by field what ggml-org/llama.cpp gguf-py/gguf/gguf_writer.py writes: the model's keys in the first file only, u16,
// u16 and i32 behind them.
TEST(GgufSplitWriter, WritesTheBytesOfLlamaCppsConverter) {
  const ScratchDir scratch;
  write(scratch / "m.gguf", {.shard_bytes = 75});
  EXPECT_EQ(names_in(scratch.path()),
            (std::vector<std::string>{"m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"}));
  const auto split_keys = [](GgufBytes& file, std::uint16_t number) -> GgufBytes& {
    return file.key("split.no", 2).u16(number).key("split.count", 2).u16(3).key("split.tensors.count", 5).i32(4);
  };
  GgufBytes first;
  first.preamble(2, 4).text_key("general.architecture", "llama");
  split_keys(first, 0).tensor("a", {32}, 24, 0).tensor("b", {40}, 24, 32).pad();
  filled(filled(first, 32, 1), 40, 2);
  EXPECT_EQ(testing::read_whole_file(scratch / "m-00001-of-00003.gguf"), first.bytes());
  GgufBytes second;
  second.preamble(1, 3);
  split_keys(second, 1).tensor("c", {8}, 24, 0).pad();
  filled(second, 8, 3);
  EXPECT_EQ(testing::read_whole_file(scratch / "m-00002-of-00003.gguf"), second.bytes());
  GgufBytes third;
  third.preamble(1, 3);
  split_keys(third, 2).tensor("d", {100}, 24, 0).pad();
  filled(third, 100, 4);
  EXPECT_EQ(testing::read_whole_file(scratch / "m-00003-of-00003.gguf"), third.bytes()) << "larger than the limit";
}

TEST(GgufSplitWriter, WhatFitsOneFileIsNotSplit) {
  const ScratchDir scratch;
  write(scratch / "m.gguf", {.shard_bytes = 180});
  write(scratch / "whole.gguf", {});
  EXPECT_EQ(names_in(scratch.path()), (std::vector<std::string>{"m.gguf", "whole.gguf"}));
  EXPECT_EQ(testing::read_whole_file(scratch / "m.gguf"), testing::read_whole_file(scratch / "whole.gguf"));
}

TEST(GgufSplitWriter, ATargetWithoutExtensionKeepsItsName) {
  const ScratchDir scratch;
  write(scratch / "m.v1", {.shard_bytes = 100});
  EXPECT_EQ(names_in(scratch.path()),
            (std::vector<std::string>{"m.v1-00001-of-00002.gguf", "m.v1-00002-of-00002.gguf"}));
}

class GgufSplitGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(GgufSplitGolden, ASplitModelHoldsWhatTheWholeOneHolds) {
  REGAUGE_GOLDEN_OR_SKIP(path, GetParam());
  const ScratchDir scratch;
  const Checkpoint whole = open_checkpoint(path);
  const auto writer = kGgufFormat.create(scratch / "m.gguf", {.shard_bytes = 300'000});
  testing::fill(*writer, whole, whole.metadata);
  const std::uint64_t promised = writer->file_bytes();
  writer->seal();
  EXPECT_EQ(open_checkpoint(writer->sealed_path()).arrays.size(), whole.arrays.size()) << "opens before it appears";
  writer->commit();
  const auto names = names_in(scratch.path());
  const Checkpoint split = open_checkpoint(scratch / names.front());
  EXPECT_TRUE(split.findings.empty());
  EXPECT_EQ(split.files.size(), names.size());
  EXPECT_GE(names.size(), 3U) << "there are more than 600,000 bytes";
  EXPECT_EQ(split.file_bytes(), promised);
  ASSERT_EQ(split.arrays.size(), whole.arrays.size());
  for (std::size_t i = 0; i < whole.arrays.size(); ++i) {
    EXPECT_EQ(split.arrays[i].name, whole.arrays[i].name);
    EXPECT_EQ(split.arrays[i].shape, whole.arrays[i].shape);
    EXPECT_TRUE(split.arrays[i].element == whole.arrays[i].element);
    EXPECT_TRUE(testing::read_part(split.tensors[i].parts[0]) == testing::read_part(whole.tensors[i].parts[0]));
  }
  for (const auto& [key, value] : whole.metadata.entries()) {
    ASSERT_NE(split.metadata.find(key), nullptr) << key;
    EXPECT_TRUE(*split.metadata.find(key) == value) << key;
  }
  EXPECT_EQ(split.metadata.entries().size(), whole.metadata.entries().size() + 3);
  // Put together again it is the very file.
  EXPECT_TRUE(testing::rewrite(split, kGgufFormat, scratch / "whole.gguf") == testing::read_whole_file(path));
}

INSTANTIATE_TEST_SUITE_P(Files, GgufSplitGolden, ::testing::Values("qwen35_tiny/tiny-mtp.gguf"));

TEST(GgufSplitWriter, GivenUpItLeavesNothing) {
  const ScratchDir scratch;
  {
    const auto writer = kGgufFormat.create(scratch / "m.gguf", {.shard_bytes = 75});
    writer->begin(keys(), kTensors);
  }
  EXPECT_TRUE(names_in(scratch.path()).empty());
}

TEST(GgufSplitWriter, AnExistingShardNeedsOverwrite) {
  const ScratchDir scratch;
  write(scratch / "m.gguf", {.shard_bytes = 75});
  EXPECT_THROW(write(scratch / "m.gguf", {.shard_bytes = 75}), Error);
  EXPECT_EQ(names_in(scratch.path()).size(), 3U);
  write(scratch / "m.gguf", {.overwrite = true, .shard_bytes = 75});
  EXPECT_EQ(open_checkpoint(scratch / "m-00002-of-00003.gguf").tensors.size(), 4U);
}

TEST(GgufSplitWriter, AReplacementThatFailsMidwayLeavesNoFirstShard) {
  const ScratchDir scratch;
  write(scratch / "m.gguf", {.shard_bytes = 75});
  {
    const auto writer = kGgufFormat.create(scratch / "m.gguf", {.overwrite = true, .shard_bytes = 75});
    writer->begin(keys(), kTensors);
    for (std::size_t i = 0; i < kTensors.size(); ++i) writer->put(i, 0, Bytes(kTensors[i].bytes()));
    writer->seal();
    fs::remove(scratch / "m-00002-of-00003.gguf");
    fs::create_directory(scratch / "m-00002-of-00003.gguf");
    EXPECT_THROW(writer->commit(), Error);
  }
  EXPECT_FALSE(fs::exists(scratch / "m-00001-of-00003.gguf"));
}

TEST(GgufSplitWriter, TwoTensorsOfOneNameAreRefusedThoughInDifferentFiles) {
  const ScratchDir scratch;
  const auto writer = kGgufFormat.create(scratch / "m.gguf", {.shard_bytes = 1});
  EXPECT_THROW(writer->begin({}, std::vector<ArrayPlan>{{"a", DType::i8, {1}}, {"a", DType::i8, {1}}}), Error);
}

TEST(GgufSplitWriter, MoreFilesThanTheKeysCanCountAreRefusedBeforeAnyIsMade) {
  const ScratchDir scratch;
  std::vector<ArrayPlan> many;
  for (int i = 0; i < 65'536; ++i) many.push_back({std::to_string(i), DType::i8, {1}});
  const auto writer = kGgufFormat.create(scratch / "m.gguf", {.shard_bytes = 1});
  EXPECT_THROW(writer->begin({}, many), Error);
  EXPECT_TRUE(names_in(scratch.path()).empty());
}

}  // namespace
}  // namespace regauge
