#include <gtest/gtest.h>

#include "base/error.h"
#include "formats/safetensors/safetensors.h"
#include "tests/support/builders.h"
#include "tests/support/golden.h"
#include "tests/support/rewrite.h"

namespace regauge {
namespace {

using testing::Bytes;
using testing::ScratchDir;

class SafetensorsFixedPoint : public ::testing::TestWithParam<const char*> {};

// Files of the reference serialiser: by falling dtype rank, then by name. (Files of GPTQModel and MLX have orders of
// their own and are not here.)
TEST_P(SafetensorsFixedPoint, FileOfTheReferenceSerialiserComesOutTheSame) {
  REGAUGE_GOLDEN_OR_SKIP(path, GetParam());
  const ScratchDir scratch;
  const Checkpoint checkpoint = open_safetensors(probe(path));
  EXPECT_TRUE(testing::rewrite(checkpoint, kSafetensorsFormat, scratch / "copy.safetensors") ==
              testing::read_whole_file(path));
}

INSTANTIATE_TEST_SUITE_P(Files, SafetensorsFixedPoint,
                         ::testing::Values("qwen35_family/hf-bf16/model.safetensors-00001-of-00002.safetensors",
                                           "qwen35_family/hf-bf16/model.safetensors-00002-of-00002.safetensors",
                                           "qwen35_tiny/hf/model.safetensors-00001-of-00002.safetensors",
                                           "qwen35_tiny/hf/model.safetensors-00002-of-00002.safetensors"));

std::string header_of(const Bytes& file) {
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  return std::string(reinterpret_cast<const char*>(file.data()) + 8, length);
}

Bytes write(const std::vector<ArrayPlan>& plans, const Metadata& metadata = {}) {
  const ScratchDir scratch;
  const auto writer = kSafetensorsFormat.create(scratch / "a.safetensors", {});
  writer->begin(metadata, plans);
  for (std::size_t i = 0; i < plans.size(); ++i)
    writer->put(i, 0, Bytes(plans[i].bytes(), static_cast<std::byte>(i + 1)));
  writer->finish();
  return testing::read_whole_file(scratch / "a.safetensors");
}

// The order of dtypes is that of the reference's enum, last first: huggingface/safetensors safetensors/src/tensor.rs.
TEST(SafetensorsWriter, WiderDtypesComeFirstThenNames) {
  const Bytes file =
      write({{"b", DType::u8, {1}}, {"z", DType::f32, {1}}, {"a", DType::u8, {2}}, {"y", DType::i64, {1}}});
  std::string expected =
      R"({"__metadata__":{"format":"pt"},"y":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
      R"("z":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"a":{"dtype":"U8","shape":[2],"data_offsets":[12,14]},)"
      R"("b":{"dtype":"U8","shape":[1],"data_offsets":[14,15]}})";
  expected.resize((expected.size() + 7) / 8 * 8, ' ');
  EXPECT_EQ(header_of(file), expected);
  ASSERT_EQ(file.size(), 8 + expected.size() + 15);
  EXPECT_EQ(file[8 + expected.size()], std::byte{4});
  EXPECT_EQ(file[8 + expected.size() + 8], std::byte{2});
  EXPECT_EQ(file[8 + expected.size() + 12], std::byte{3});
  EXPECT_EQ(file.back(), std::byte{1});
}

TEST(SafetensorsWriter, GivenMetadataTakesThePlaceOfTheUsual) {
  Metadata metadata;
  metadata.set("format", std::string("mlx"));
  metadata.set("note", std::string("a\"b\\\n\x01/\u00e9"));
  EXPECT_TRUE(header_of(write({{"a", DType::u8, {1}}}, metadata))
                  .starts_with(R"({"__metadata__":{"format":"mlx","note":"a\"b\\\n\u0001/é"},"a":)"));
}

TEST(SafetensorsWriter, EmptyAndScalarArraysRoundTrip) {
  const ScratchDir scratch;
  const Bytes file = write({{"none", DType::f32, {0, 5}}, {"scalar", DType::f32, {}}, {"half", DType::f4, {2, 1}}});
  testing::write_whole_file(scratch / "b.safetensors", file);
  const Checkpoint written = open_safetensors(probe(scratch / "b.safetensors"));
  ASSERT_EQ(written.arrays.size(), 3U);
  EXPECT_EQ(written.find_array("none")->shape, (Shape{0, 5}));
  EXPECT_EQ(written.find_array("scalar")->shape, Shape{});
  EXPECT_EQ(written.find_array("half")->bytes, 1U);
}

TEST(SafetensorsWriter, FileWithoutArraysIsAFile) {
  const ScratchDir scratch;
  testing::write_whole_file(scratch / "b.safetensors", write({}));
  EXPECT_TRUE(open_safetensors(probe(scratch / "b.safetensors")).arrays.empty());
}

TEST(SafetensorsWriter, MetadataThatIsNoTextIsRefused) {
  Metadata metadata;
  metadata.set("count", std::uint32_t{1});
  EXPECT_THROW(write({}, metadata), Error);
}

TEST(SafetensorsWriter, WhatTheFormatCannotHoldIsRefused) {
  const std::vector<ArrayPlan> plans{{"a", BlockType::q4_0, {1, 32}},
                                     {"__metadata__", DType::u8, {1}},
                                     {"a\nb", DType::u8, {1}},
                                     {"../a", DType::u8, {1}},
                                     {"\xff", DType::u8, {1}},
                                     {"a", DType::f4, {3}},
                                     {"a", DType::f32, {std::int64_t{1} << 40, std::int64_t{1} << 40}}};
  for (const ArrayPlan& plan : plans) {
    EXPECT_TRUE(kSafetensorsFormat.can_hold(plan).has_value()) << plan.name;
    EXPECT_THROW(write({plan}), Error) << plan.name;
  }
}

TEST(SafetensorsWriter, TwoArraysOfOneNameAreRefused) {
  EXPECT_THROW(write({{"a", DType::u8, {1}}, {"a", DType::f32, {1}}}), Error);
}

TEST(SafetensorsWriter, ExistingTargetStaysUnlessOverwritingIsAskedFor) {
  const ScratchDir scratch;
  testing::write_whole_file(scratch / "a.safetensors", testing::small_safetensors());
  EXPECT_THROW(kSafetensorsFormat.create(scratch / "a.safetensors", {}), Error);
  {
    const auto writer = kSafetensorsFormat.create(scratch / "a.safetensors", {.overwrite = true});
    writer->begin({}, {});
  }
  EXPECT_EQ(testing::read_whole_file(scratch / "a.safetensors"), testing::small_safetensors());
}

}  // namespace
}  // namespace regauge
