#include <gtest/gtest.h>

#include <thread>

#include "base/error.h"
#include "formats/gguf/gguf.h"
#include "tests/support/builders.h"
#include "tests/support/golden.h"
#include "tests/support/rewrite.h"

namespace regauge {
namespace {

using testing::Bytes;
using testing::GgufBytes;
using testing::ScratchDir;

class GgufFixedPoint : public ::testing::TestWithParam<const char*> {};

// All of these were written by llama.cpp, gguf-py or other tools (see the READMEs of their folders), none by us.
TEST_P(GgufFixedPoint, FileOfAnotherWriterComesOutTheSame) {
  REGAUGE_GOLDEN_OR_SKIP(path, GetParam());
  const ScratchDir scratch;
  const Bytes written = testing::rewrite(open_checkpoint(path), kGgufFormat, scratch / "copy.gguf");
  EXPECT_TRUE(written == testing::read_whole_file(path));
}

INSTANTIATE_TEST_SUITE_P(Files, GgufFixedPoint,
                         ::testing::Values("qwen35_family/hf-bf16.gguf", "qwen35_family/hf-bf16.mmproj.gguf",
                                           "qwen35_family/hf-bf16-q4_0.gguf", "qwen35_family/gptq-int4-g128-noact.gguf",
                                           "qwen35_family/gptq-mixed-eora.adapter.gguf", "gguf/tiny-qwen35-q4_0.gguf",
                                           "gguf/tiny-qwen35-q4_k_m.gguf", "gguf/tiny-qwen35-q8_0.gguf",
                                           "qwen35_tiny/tiny.gguf", "qwen35_tiny/tiny-mtp.gguf",
                                           "real/gguf/ggml-vocab-gpt-2.gguf", "real/gguf/ggml-vocab-phi-3.gguf",
                                           "real/gguf/ggml-vocab-falcon.gguf", "real/gguf/ggml-vocab-bert-bge.gguf",
                                           "real/odd/no-tensors.gguf", "mlx/gguf_import.gguf"));

TEST(GgufWriter, SmallFileIsTheSameBytes) {
  const ScratchDir scratch;
  const GgufBytes small = testing::small_gguf();
  testing::write_whole_file(scratch / "a.gguf", small.bytes());
  EXPECT_EQ(testing::rewrite(open_checkpoint(scratch / "a.gguf"), kGgufFormat, scratch / "b.gguf"), small.bytes());
}

TEST(GgufWriter, EveryValueTypeIsWrittenAsItWasRead) {
  const ScratchDir scratch;
  GgufBytes file;
  file.preamble(0, 14).text_key("general.architecture", "x");
  file.key("u8", 0).u8(200).key("i8", 1).number(std::int8_t{-3}).key("u16", 2).u16(60000);
  file.key("i16", 3).number(std::int16_t{-300}).key("u32", 4).u32(4000000000U).key("i32", 5).i32(-7);
  file.key("f32", 6).u32(0x7FC12345).key("bool", 7).u8(1).key("u64", 10).u64(std::uint64_t{1} << 63);
  file.key("i64", 11).number(std::int64_t{-5}).key("f64", 12).number(0.1);
  file.key("flags", 9).array(7, 2).u8(1).u8(0).key("texts", 9).array(8, 2).string("").string("\xff");
  testing::write_whole_file(scratch / "a.gguf", file.bytes());
  EXPECT_EQ(testing::rewrite(open_checkpoint(scratch / "a.gguf"), kGgufFormat, scratch / "b.gguf"), file.bytes());
}

TEST(GgufWriter, OtherAlignmentAndSplitKeysStayBehind) {
  const ScratchDir scratch;
  Metadata metadata;
  metadata.set("general.architecture", std::string("x"));
  metadata.set("general.alignment", std::uint32_t{64});
  metadata.set("split.no", std::uint16_t{0});
  metadata.set("split.count", std::uint16_t{2});
  metadata.set("split.tensors.count", std::int32_t{7});
  metadata.set("last", true);
  const auto writer = kGgufFormat.create(scratch / "a.gguf", {});
  writer->begin(metadata, {});
  writer->finish();
  const Checkpoint written = open_checkpoint(scratch / "a.gguf");
  ASSERT_EQ(written.metadata.entries().size(), 2U);
  EXPECT_EQ(written.metadata.entries()[0].first, "general.architecture");
  EXPECT_EQ(written.metadata.entries()[1].first, "last");
}

TEST(GgufWriter, RankIsKept) {
  const ScratchDir scratch;
  const std::vector<ArrayPlan> plans{{"scalar", DType::f32, {}},
                                     {"vector", DType::f16, {3}},
                                     {"ones", DType::i8, {1, 1, 1, 5}},
                                     {"none", DType::i64, {0, 4}},
                                     {"stack", BlockType::q4_K, {2, 3, 256}}};
  const auto writer = kGgufFormat.create(scratch / "a.gguf", {});
  writer->begin({}, plans);
  for (std::size_t i = 0; i < plans.size(); ++i) writer->put(i, 0, Bytes(plans[i].bytes()));
  writer->finish();
  const Checkpoint written = open_checkpoint(scratch / "a.gguf");
  ASSERT_EQ(written.arrays.size(), plans.size());
  for (std::size_t i = 0; i < plans.size(); ++i) EXPECT_EQ(written.arrays[i].shape, plans[i].shape) << plans[i].name;
  EXPECT_EQ(written.arrays[4].bytes, 2U * 3U * 144U);
}

TEST(GgufWriter, ManyThreadsMayPutAtOnce) {
  const ScratchDir scratch;
  constexpr int kThreads = 4;
  std::vector<ArrayPlan> plans;
  for (int i = 0; i < kThreads; ++i) plans.push_back({"t" + std::to_string(i), DType::i8, {100, 1000}});
  const auto writer = kGgufFormat.create(scratch / "a.gguf", {});
  writer->begin({}, plans);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&writer, i] {
      const Bytes row(1000, static_cast<std::byte>(i + 1));
      for (std::uint64_t r = 0; r < 100; ++r) writer->put(static_cast<std::size_t>(i), r * 1000, row);
    });
  }
  for (std::thread& thread : threads) thread.join();
  writer->finish();
  const Checkpoint written = open_checkpoint(scratch / "a.gguf");
  for (int i = 0; i < kThreads; ++i) {
    EXPECT_EQ(testing::read_part(written.tensors[static_cast<std::size_t>(i)].parts[0]),
              Bytes(100'000, static_cast<std::byte>(i + 1)));
  }
}

TEST(GgufWriter, WhatIsNotFinishedLeavesNothing) {
  const ScratchDir scratch;
  {
    const auto writer = kGgufFormat.create(scratch / "a.gguf", {});
    const std::vector<ArrayPlan> plans{{"a", DType::f32, {4}}};
    writer->begin({}, plans);
    EXPECT_THROW(writer->finish(), Error);  // nothing was put
  }
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path()));
}

// The source stays open on the old file until the new one takes its name.
TEST(GgufWriter, MayReplaceTheFileThatItReadsFrom) {
  const ScratchDir scratch;
  const Bytes small = testing::small_gguf().bytes();
  testing::write_whole_file(scratch / "a.gguf", small);
  const Checkpoint source = open_checkpoint(scratch / "a.gguf");
  const auto writer = kGgufFormat.create(scratch / "a.gguf", {.overwrite = true});
  const auto plans = testing::plans_of(source);
  writer->begin(source.metadata, plans);
  for (std::size_t i = 0; i < plans.size(); ++i) writer->put(i, 0, testing::read_part(source.tensors[i].parts[0]));
  writer->finish();
  EXPECT_EQ(testing::read_whole_file(scratch / "a.gguf"), small);
}

TEST(GgufWriter, PutOutsideOfAnArrayIsRefused) {
  const ScratchDir scratch;
  const auto writer = kGgufFormat.create(scratch / "a.gguf", {});
  const std::vector<ArrayPlan> plans{{"a", DType::f32, {4}}};
  writer->begin({}, plans);
  EXPECT_THROW(writer->put(0, 4, Bytes(16)), Error);
  EXPECT_THROW(writer->put(0, 17, {}), Error);
  EXPECT_NO_THROW(writer->put(0, 0, Bytes(16)));
}

struct Unholdable {
  const char* why;
  ArrayPlan plan;
};

class GgufUnholdable : public ::testing::TestWithParam<Unholdable> {};

TEST_P(GgufUnholdable, IsRefusedWithAReason) {
  EXPECT_TRUE(kGgufFormat.can_hold(GetParam().plan).has_value());
  const ScratchDir scratch;
  const auto writer = kGgufFormat.create(scratch / "a.gguf", {});
  try {
    writer->begin({}, std::span(&GetParam().plan, 1));
    FAIL() << "begun";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
    EXPECT_EQ(error.tensor_name(), GetParam().plan.name);
  }
}

INSTANTIATE_TEST_SUITE_P(Plans, GgufUnholdable,
                         ::testing::Values(Unholdable{"dtype", {"a", DType::u8, {4}}},
                                           Unholdable{"dtype", {"a", DType::f8_e4m3, {4}}},
                                           Unholdable{"dtype", {"a", DType::boolean, {4}}},
                                           Unholdable{"name", {std::string(64, 'n'), DType::f32, {4}}},
                                           Unholdable{"name", {std::string("a\0b", 3), DType::f32, {4}}},
                                           Unholdable{"rank", {"a", DType::f32, {1, 1, 1, 1, 1}}},
                                           Unholdable{"row", {"a", BlockType::q4_K, {2, 128}}},
                                           Unholdable{"row", {"a", BlockType::q4_0, {32}}}));

TEST(GgufWriter, HoldsEveryTypeOfGgml) {
  for (const GgmlType& type : ggml_types()) {
    ArrayPlan plan{std::string(63, 'n'), DType::f32, {2, type.block_elements * 2}};
    if (type.dtype) plan.element = *type.dtype;
    if (type.block) plan.element = *type.block;
    EXPECT_EQ(kGgufFormat.can_hold(plan), std::nullopt) << type.name;
    EXPECT_EQ(plan.row_bytes(), static_cast<std::uint64_t>(2 * type.block_bytes)) << type.name;
  }
}

TEST(GgufWriter, TwoArraysOfOneNameAreRefused) {
  const ScratchDir scratch;
  const auto writer = kGgufFormat.create(scratch / "a.gguf", {});
  const std::vector<ArrayPlan> plans{{"a", DType::f32, {4}}, {"a", DType::f32, {4}}};
  EXPECT_THROW(writer->begin({}, plans), Error);
}

TEST(GgufWriter, KeysThatGgmlRefusesAreRefused) {
  for (const std::string& key : {std::string(), std::string("a\0b", 3)}) {
    const ScratchDir scratch;
    Metadata metadata;
    metadata.set(key, true);
    EXPECT_THROW(kGgufFormat.create(scratch / "a.gguf", {})->begin(metadata, {}), Error);
  }
}

}  // namespace
}  // namespace regauge
