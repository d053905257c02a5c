#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "formats/safetensors/safetensors.h"
#include "tests/support/builders.h"
#include "tests/support/golden.h"
#include "tests/support/rewrite.h"

namespace regauge {
namespace {

using testing::Bytes;
using testing::has_finding;
using testing::read_part;
using testing::safetensors_bytes;
using testing::safetensors_entry;
using testing::ScratchDir;

Checkpoint open_bytes(const Bytes& bytes) {
  const ScratchDir scratch;
  testing::write_whole_file(scratch / "file.safetensors", bytes);
  return open_safetensors(probe(scratch / "file.safetensors"));
}

TEST(SafetensorsReader, SmallFileHasItsArrays) {
  const Checkpoint checkpoint = open_bytes(testing::small_safetensors());
  EXPECT_EQ(checkpoint.format, "safetensors");
  EXPECT_EQ(checkpoint.dialect, Dialect::hf);
  ASSERT_EQ(checkpoint.arrays.size(), 2U);
  EXPECT_EQ(checkpoint.arrays[0].name, "a");
  EXPECT_EQ(checkpoint.arrays[0].shape, (Shape{2, 3}));
  EXPECT_EQ(checkpoint.arrays[0].offset, checkpoint.files[0].data_offset);
  EXPECT_EQ(checkpoint.arrays[1].bytes, 4U);
  EXPECT_EQ(checkpoint.tensors[0].encoding, Encoding(Dense{DType::f32}));
  EXPECT_EQ(checkpoint.tensors[1].arrays, std::vector<std::size_t>{1});
  EXPECT_EQ(read_part(checkpoint.tensors[1].parts[0]),
            (Bytes{std::byte{24}, std::byte{25}, std::byte{26}, std::byte{27}}));
  EXPECT_TRUE(checkpoint.findings.empty());
}

TEST(SafetensorsReader, ArraysComeByOffsetWhateverTheHeadersOrder) {
  const Checkpoint checkpoint =
      open_bytes(safetensors_bytes("{" + safetensors_entry("last", "U8", "[2]", "[3,5]") + "," +
                                       safetensors_entry("first", "U8", "[3]", "[0,3]") + "}",
                                   5));
  ASSERT_EQ(checkpoint.arrays.size(), 2U);
  EXPECT_EQ(checkpoint.arrays[0].name, "first");
  EXPECT_EQ(checkpoint.arrays[1].name, "last");
}

TEST(SafetensorsReader, DataNeedNotBeAligned) {
  const Checkpoint checkpoint =
      open_bytes(safetensors_bytes("{" + safetensors_entry("byte", "U8", "[1]", "[0,1]") + "," +
                                       safetensors_entry("f", "F32", "[1]", "[1,5]") + "} ",
                                   5));
  EXPECT_EQ(read_part(checkpoint.tensors[1].parts[0]), (Bytes{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}}));
}

TEST(SafetensorsReader, EveryDtypeOfTheSpecificationIsKept) {
  for (const DType dtype : all_dtypes()) {
    const auto bytes = storage_bytes(dtype, 8).value();
    const std::string offsets = "[0," + std::to_string(bytes) + "]";
    const Checkpoint checkpoint =
        open_bytes(safetensors_bytes("{" + safetensors_entry("a", name(dtype), "[2,4]", offsets) + "}", bytes));
    ASSERT_EQ(checkpoint.arrays.size(), 1U) << name(dtype);
    EXPECT_EQ(std::get<DType>(checkpoint.arrays[0].element), dtype);
    EXPECT_EQ(checkpoint.tensors[0].encoding, Encoding(Dense{dtype}));
    EXPECT_EQ(read_part(checkpoint.tensors[0].parts[0], 1).size(), bytes) << name(dtype);
  }
}

TEST(SafetensorsReader, FourBitRowsThatEndInsideAByteAreOnlyCarried) {
  const Checkpoint checkpoint =
      open_bytes(safetensors_bytes("{" + safetensors_entry("a", "F4", "[2,3]", "[0,3]") + "}", 3));
  EXPECT_EQ(checkpoint.tensors[0].encoding, Encoding(Opaque{"F4"}));
  EXPECT_EQ(std::get<DType>(checkpoint.arrays[0].element), DType::f4);
  EXPECT_EQ(read_part(checkpoint.tensors[0].parts[0]), (Bytes{std::byte{0}, std::byte{1}, std::byte{2}}));
}

TEST(SafetensorsReader, ScalarsAndEmptyArraysAreArrays) {
  const Checkpoint checkpoint =
      open_bytes(safetensors_bytes("{" + safetensors_entry("none", "F32", "[0,5]", "[4,4]") + "," +
                                       safetensors_entry("scalar", "F32", "[]", "[0,4]") + "}",
                                   4));
  ASSERT_EQ(checkpoint.arrays.size(), 2U);
  EXPECT_EQ(checkpoint.tensors[0].shape, Shape{});
  EXPECT_EQ(read_part(checkpoint.tensors[0].parts[0]).size(), 4U);
  EXPECT_EQ(checkpoint.tensors[1].shape, (Shape{0, 5}));
  EXPECT_TRUE(read_part(checkpoint.tensors[1].parts[0]).empty());
  EXPECT_TRUE(has_finding(checkpoint, "empty-tensor"));
}

TEST(SafetensorsReader, MetadataIsKeptInOrder) {
  const Checkpoint checkpoint = open_bytes(safetensors_bytes(
      R"({"__metadata__":{"format":"pt","a":"\u00e9\n"},)" + safetensors_entry("a", "U8", "[0]", "[0,0]") + "}", 0));
  ASSERT_EQ(checkpoint.metadata.entries().size(), 2U);
  EXPECT_EQ(checkpoint.metadata.entries()[0].first, "format");
  EXPECT_EQ(checkpoint.metadata.get_string("a"), "\u00e9\n");
}

TEST(SafetensorsReader, UnknownFieldsOfAnEntryAreIgnoredAsTheReferenceDoes) {
  EXPECT_NO_THROW(
      open_bytes(safetensors_bytes(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"extra":{"x":[1]}}})", 1)));
}

class SafetensorsGolden : public ::testing::TestWithParam<const char*> {};

// Held against a reader of the tests' own that shares nothing with ours.
TEST_P(SafetensorsGolden, NamesTypesShapesAndBytesAreThoseOfAnIndependentReader) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(folder, GetParam());
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.path().extension() != ".safetensors" || entry.path().parent_path().filename() == "odd") continue;
    ++files;
    const testing::GoldenFile golden(entry.path());
    const Checkpoint checkpoint = open_safetensors(probe(entry.path()));
    ASSERT_EQ(checkpoint.arrays.size(), golden.entries().size()) << entry.path();
    std::uint64_t end = checkpoint.files[0].data_offset;
    for (std::size_t i = 0; i < checkpoint.arrays.size(); ++i) {
      const StoredArray& array = checkpoint.arrays[i];
      const auto& expected = golden[array.name];
      EXPECT_EQ(element_name(array), expected.dtype) << array.name;
      EXPECT_EQ(array.shape.dims, expected.shape) << array.name;
      EXPECT_EQ(array.offset, end) << array.name;
      end = array.offset + array.bytes;
      const Bytes data = read_part(checkpoint.tensors[i].parts[0], 5);
      EXPECT_TRUE(std::ranges::equal(data, expected.bytes)) << entry.path() << ' ' << array.name;
    }
    for (const auto& [key, value] : golden.metadata()) EXPECT_EQ(checkpoint.metadata.get_string(key), value);
  }
  EXPECT_GT(files, 0U);
}

INSTANTIATE_TEST_SUITE_P(Folders, SafetensorsGolden,
                         ::testing::Values("qwen35_family", "qwen35_tiny", "qwen35_tiny_moe", "mlx", "gptq", "real"));

TEST(SafetensorsReader, RealFileWithTrailingBytesIsRefusedAtTheFirstOfThem) {
  REGAUGE_GOLDEN_OR_SKIP(path, "real/odd/trailing-bytes.safetensors");
  try {
    open_checkpoint(path);
    FAIL() << "opened";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::malformed);
    EXPECT_EQ(error.byte_offset(), 8U + 75U + 32768U);
    EXPECT_EQ(error.file(), path.native());
  }
}

TEST(SafetensorsReader, NullMetadataOfMlxIsAccepted) {
  REGAUGE_GOLDEN_OR_SKIP(path, "mlx/no_metadata.safetensors");
  const Checkpoint checkpoint = open_safetensors(probe(path));
  EXPECT_TRUE(checkpoint.metadata.empty());
  EXPECT_TRUE(has_finding(checkpoint, "null-metadata"));
}

TEST(SafetensorsGlance, FileGivesItsNamesWithoutJudging) {
  const ScratchDir scratch;
  testing::write_whole_file(scratch / "a.safetensors", testing::small_safetensors());
  const SafetensorsGlance good = glance(probe(scratch / "a.safetensors"));
  EXPECT_TRUE(good.is_safetensors);
  EXPECT_EQ(good.names, (std::vector<std::string>{"a", "b"}));
  EXPECT_FALSE(good.config.has_value());

  testing::write_whole_file(scratch / "b.safetensors", safetensors_bytes("{oh", 0));
  const SafetensorsGlance broken = glance(probe(scratch / "b.safetensors"));
  EXPECT_TRUE(broken.is_safetensors);
  EXPECT_TRUE(broken.names.empty());

  testing::write_whole_file(scratch / "c.gguf", testing::small_gguf().bytes());
  EXPECT_FALSE(glance(probe(scratch / "c.gguf")).is_safetensors);
}

}  // namespace
}  // namespace regauge
