#include "formats/safetensors/directory_writer.h"

#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/error.h"
#include "formats/gptq/gptq.h"
#include "formats/mlx/mlx.h"
#include "formats/mlx/writer.h"
#include "formats/safetensors/safetensors.h"
#include "formats/safetensors/writer.h"
#include "tests/support/array_file.h"
#include "tests/support/builders.h"
#include "tests/support/golden.h"
#include "tests/support/rewrite.h"

namespace regauge {
namespace {

namespace fs = std::filesystem;
using safetensors::FileStyle;
using testing::Bytes;
using testing::ScratchDir;

std::string text_at(const fs::path& path) { return std::string(text_of(testing::read_whole_file(path))); }

std::set<std::string> names_below(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_directory()) names.insert(entry.path().lexically_relative(folder).native());
  }
  return names;
}

std::uint64_t bytes_below(const fs::path& folder) {
  std::uint64_t total = 0;
  for (const std::string& name : names_below(folder)) total += fs::file_size(folder / name);
  return total;
}

const std::vector<ArrayPlan> kThree{{"z", DType::u8, {4}}, {"a", DType::f32, {2}}, {"m", DType::u8, {2}}};

/// Writes kThree, array i filled with the byte i + 1.
void write_three(Writer& writer) {
  writer.begin({}, kThree);
  for (std::size_t i = 0; i < kThree.size(); ++i) {
    writer.put(i, 0, Bytes(kThree[i].bytes(), static_cast<std::byte>(i + 1)));
  }
}

class DirectoryWriterTest : public ::testing::Test {
 protected:
  fs::path target() const { return scratch_ / "model"; }

  std::unique_ptr<Writer> create(WriteOptions options = {}) const {
    options.directory = true;
    return kSafetensorsFormat.create(target(), options);
  }

  void write(WriteOptions options = {}) const {
    const auto writer = create(std::move(options));
    write_three(*writer);
    const std::uint64_t promised = writer->file_bytes();
    writer->finish();
    EXPECT_EQ(bytes_below(target()), promised);
  }

  ScratchDir scratch_;
};

TEST_F(DirectoryWriterTest, EverythingInOneFileNeedsNoIndex) {
  write();
  EXPECT_EQ(names_below(target()), (std::set<std::string>{"model.safetensors"}));
  const auto alone = kSafetensorsFormat.create(scratch_ / "alone.safetensors", {});
  write_three(*alone);
  alone->finish();
  EXPECT_EQ(testing::read_whole_file(target() / "model.safetensors"),
            testing::read_whole_file(scratch_ / "alone.safetensors"));
}

// The text is what Python's json.dumps(index, indent=2, sort_keys=True) + "\n" makes of it, as transformers calls it
// (huggingface/transformers src/transformers/modeling_utils.py, save_pretrained).
TEST_F(DirectoryWriterTest, ShardsAreFilledInTheOrderGivenAndListedByName) {
  write({.shard_bytes = 12});
  EXPECT_EQ(names_below(target()),
            (std::set<std::string>{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                                   "model.safetensors.index.json"}));
  EXPECT_EQ(text_at(target() / "model.safetensors.index.json"),
            "{\n"
            "  \"metadata\": {\n"
            "    \"total_size\": 14\n"
            "  },\n"
            "  \"weight_map\": {\n"
            "    \"a\": \"model-00001-of-00002.safetensors\",\n"
            "    \"m\": \"model-00002-of-00002.safetensors\",\n"
            "    \"z\": \"model-00001-of-00002.safetensors\"\n"
            "  }\n"
            "}\n");
  const Checkpoint written = open_checkpoint(target());
  EXPECT_TRUE(written.findings.empty());
  ASSERT_EQ(written.arrays.size(), 3U);
  for (std::size_t i = 0; i < kThree.size(); ++i) {
    const Tensor* tensor = written.find(kThree[i].name);
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(testing::read_part(tensor->parts[0]), Bytes(kThree[i].bytes(), static_cast<std::byte>(i + 1)));
  }
}

TEST_F(DirectoryWriterTest, AnArrayAboveTheLimitGetsAFileOfItsOwn) {
  write({.shard_bytes = 5});
  const Checkpoint written = open_checkpoint(target());
  ASSERT_EQ(written.files.size(), 3U);
  EXPECT_EQ(written.files[2].name, "model-00003-of-00003.safetensors");
}

TEST_F(DirectoryWriterTest, NamesBeyondAsciiAreEscapedInTheIndexAsPythonDoes) {
  const auto writer = create({.shard_bytes = 1});
  writer->begin({}, std::vector<ArrayPlan>{{"\xC3\xA9", DType::u8, {1}}, {"b", DType::u8, {1}}});
  for (std::size_t i = 0; i < 2; ++i) writer->put(i, 0, Bytes(1));
  writer->finish();
  EXPECT_NE(text_at(target() / "model.safetensors.index.json").find("\"\\u00e9\": \"model-00001"), std::string::npos);
  EXPECT_TRUE(open_checkpoint(target()).findings.empty());
}

TEST_F(DirectoryWriterTest, ADirectoryWithoutArraysIsADirectory) {
  const auto writer = create();
  writer->begin({}, {});
  writer->finish();
  EXPECT_TRUE(open_checkpoint(target()).arrays.empty());
}

TEST_F(DirectoryWriterTest, CarriedFilesComeAlongByTheByte) {
  testing::write_text(scratch_ / "source.bin", std::string(3'000'000, 'x') + "end");
  const auto file = std::make_shared<const File>(File::open(scratch_ / "source.bin"));
  testing::write_text(scratch_ / "empty", "");
  const auto empty = std::make_shared<const File>(File::open(scratch_ / "empty"));
  write({.files = {{"config.json", std::string("{}\n")}, {"eora/deep/adapter.bin", file}, {"empty.txt", empty}}});
  EXPECT_EQ(names_below(target()),
            (std::set<std::string>{"model.safetensors", "config.json", "eora/deep/adapter.bin", "empty.txt"}));
  EXPECT_EQ(text_at(target() / "config.json"), "{}\n");
  EXPECT_EQ(text_at(target() / "eora/deep/adapter.bin"), text_at(scratch_ / "source.bin"));
  EXPECT_EQ(fs::file_size(target() / "empty.txt"), 0U);
}

TEST_F(DirectoryWriterTest, CarriedFilesNeitherLeaveTheDirectoryNorTakeThePlaceOfAnother) {
  for (const char* name : {"../config.json", "/tmp/config.json", "", ".", "a//b", "a/../b", "model.safetensors",
                           "model.safetensors.index.json"}) {
    const auto writer = create({.files = {{name, std::string("x")}}});
    EXPECT_THROW(writer->begin({}, kThree), Error) << name;
  }
  const auto twice = create({.files = {{"a", std::string("x")}, {"a", std::string("y")}}});
  EXPECT_THROW(twice->begin({}, kThree), Error);
  EXPECT_FALSE(fs::exists(target()));
  EXPECT_FALSE(fs::exists(scratch_ / "config.json"));
}

TEST_F(DirectoryWriterTest, ACarriedFileMayHaveTheNameOfAShardThatIsNotWritten) {
  write({.files = {{"model-00001-of-00002.txt", std::string("x")}}});
  EXPECT_EQ(text_at(target() / "model-00001-of-00002.txt"), "x");
}

TEST_F(DirectoryWriterTest, TheSealedDirectoryOpensUnderItsPartialName) {
  const auto writer = create({.shard_bytes = 12});
  write_three(*writer);
  writer->seal();
  EXPECT_FALSE(fs::exists(target()));
  EXPECT_EQ(open_checkpoint(writer->sealed_path()).arrays.size(), 3U);
  writer->commit();
  EXPECT_EQ(open_checkpoint(target()).arrays.size(), 3U);
}

TEST_F(DirectoryWriterTest, AWriterThatIsGivenUpLeavesNothing) {
  {
    const auto writer = create({.shard_bytes = 5, .files = {{"eora/a", std::string("x")}}});
    write_three(*writer);
  }
  EXPECT_TRUE(names_below(scratch_.path()).empty());
  EXPECT_FALSE(fs::exists(scratch_ / "model.partial"));
}

TEST_F(DirectoryWriterTest, AResumedRunKeepsWhatWasWrittenAndNeedsOnlyTheRest) {
  {
    const auto writer = create({.keep_partial = true, .shard_bytes = 5, .files = {{"config.json", std::string("{}")}}});
    writer->begin({}, kThree);
    writer->put(1, 0, Bytes(8, std::byte{7}));
  }
  EXPECT_THROW(create(), Error);
  const auto writer = create({.resume = true, .shard_bytes = 5, .files = {{"config.json", std::string("{}")}}});
  writer->begin({}, kThree);
  Bytes back(4);
  writer->read_back(1, 3, back);
  EXPECT_EQ(back, Bytes(4, std::byte{7}));
  writer->put(0, 0, Bytes(4));
  writer->put(2, 0, Bytes(2));
  writer->finish();
  EXPECT_EQ(testing::read_part(open_checkpoint(target()).find("a")->parts[0]), Bytes(8, std::byte{7}));
}

TEST_F(DirectoryWriterTest, MissingBytesAreNoticed) {
  const auto writer = create({.shard_bytes = 5});
  writer->begin({}, kThree);
  writer->put(0, 0, Bytes(4));
  writer->put(2, 0, Bytes(2));
  EXPECT_THROW(writer->seal(), Error);
  EXPECT_THROW(writer->put(0, 2, Bytes(3)), Error) << "beyond the array";
}

TEST_F(DirectoryWriterTest, TwoArraysOfOneNameAreRefusedThoughInDifferentShards) {
  const auto writer = create({.shard_bytes = 1});
  EXPECT_THROW(writer->begin({}, std::vector<ArrayPlan>{{"a", DType::u8, {1}}, {"a", DType::u8, {1}}}), Error);
}

TEST_F(DirectoryWriterTest, OneFileCannotBeSplit) {
  EXPECT_THROW(kSafetensorsFormat.create(scratch_ / "a.safetensors", {.shard_bytes = 5}), Error);
}

/// A checkpoint whose tensors are its arrays.
Checkpoint arrays_of(const fs::path& path) { return open_safetensors(probe(path)); }

class OthersFileStyle : public ::testing::TestWithParam<const char*> {};

/// The file written again with its data in the order in which they lie.
Bytes written_again(const fs::path& path, const FileStyle& style) {
  const ScratchDir scratch;
  const auto writer = safetensors::create_writer(scratch / "copy.safetensors", {}, style);
  testing::fill(*writer, arrays_of(path), {});
  writer->finish();
  return testing::read_whole_file(scratch / "copy.safetensors");
}

// Written by GPTQModel's own shard writer.
TEST_P(OthersFileStyle, FilesOfGptqModelComeOutTheSame) {
  REGAUGE_GOLDEN_OR_SKIP(path, GetParam());
  EXPECT_TRUE(written_again(path, {.data = FileStyle::Data::as_given}) == testing::read_whole_file(path));
}

INSTANTIATE_TEST_SUITE_P(GptqModel, OthersFileStyle,
                         ::testing::Values("qwen35_family/gptq-mixed-eora/model-00001-of-00003.safetensors",
                                           "qwen35_family/gptq-mixed-eora/model-00002-of-00003.safetensors",
                                           "qwen35_family/gptq-mixed-eora/model-00003-of-00003.safetensors",
                                           "qwen35_family/gptq-int4-g64/model.safetensors",
                                           "qwen35_family/gptq-int4-g128-noact/model.safetensors",
                                           "gptq/ckpt/mini003/model-00001-of-00003.safetensors",
                                           "gptq/ckpt/mini004/model.safetensors"));

class MlxFileStyle : public ::testing::TestWithParam<const char*> {};

// Written by mlx.core.save_safetensors, the order of whose data is that of a hash table; all else is its own.
TEST_P(MlxFileStyle, FilesOfMlxComeOutTheSame) {
  REGAUGE_GOLDEN_OR_SKIP(path, GetParam());
  const bool marked = std::string(GetParam()).find("no_metadata") == std::string::npos;
  const FileStyle style{.mark = marked ? "mlx" : "",
                        .data = FileStyle::Data::as_given,
                        .keys = FileStyle::Keys::sorted,
                        .is_padded = false};
  EXPECT_TRUE(written_again(path, style) == testing::read_whole_file(path));
}

INSTANTIATE_TEST_SUITE_P(Mlx, MlxFileStyle,
                         ::testing::Values("qwen35_family/mlx-8865/model.safetensors",
                                           "qwen35_family/mlx-4bit/model.safetensors", "mlx/affine_bf16.safetensors",
                                           "mlx/affine_f16.safetensors", "mlx/affine_f32.safetensors",
                                           "mlx/fp_modes.safetensors", "mlx/gguf_import.safetensors",
                                           "mlx/raw_codes.safetensors", "mlx/no_metadata.safetensors",
                                           "mlx/stacked_and_global.safetensors"));

WriteOptions with_config(const fs::path& source) {
  WriteOptions options;
  options.files.push_back({"config.json", text_at(source / "config.json")});
  return options;
}

/// Every array of one checkpoint, byte for byte in the other.
void expect_same_arrays(const Checkpoint& expected, const Checkpoint& actual) {
  ASSERT_EQ(expected.arrays.size(), actual.arrays.size());
  for (const Tensor& tensor : expected.tensors) {
    const Tensor* other = actual.find(tensor.name);
    ASSERT_NE(other, nullptr) << tensor.name;
    EXPECT_EQ(other->shape, tensor.shape);
    EXPECT_TRUE(testing::read_part(tensor.parts[0]) == testing::read_part(other->parts[0])) << tensor.name;
  }
}

class MlxDirectory : public ::testing::TestWithParam<const char*> {};

TEST_P(MlxDirectory, TheIndexIsTheTextOfMlxLm) {
  REGAUGE_GOLDEN_OR_SKIP(source, GetParam());
  const ScratchDir scratch;
  const auto writer = kMlxFormat.create(scratch / "model", with_config(source));
  testing::fill(*writer, arrays_of(source), {});
  writer->finish();
  EXPECT_EQ(text_at(scratch / "model/model.safetensors.index.json"), text_at(source / "model.safetensors.index.json"));
  expect_same_arrays(arrays_of(source), arrays_of(scratch / "model"));
  const Checkpoint written = open_checkpoint(scratch / "model");
  EXPECT_EQ(written.format, "mlx");
  for (const StoredArray& array : written.arrays) {
    EXPECT_EQ(array.offset % static_cast<std::uint64_t>(bits(std::get<DType>(array.element)) / 8), 0U) << array.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Family, MlxDirectory, ::testing::Values("qwen35_family/mlx-8865", "qwen35_family/mlx-4bit"));

TEST(GptqDirectory, ShardsHoldTheArraysOfTheSource) {
  REGAUGE_GOLDEN_OR_SKIP(source, "qwen35_family/gptq-mixed-eora");
  const ScratchDir scratch;
  WriteOptions options = with_config(source);
  options.shard_bytes = 1'000'000;
  const auto writer = kGptqFormat.create(scratch / "model", options);
  testing::fill(*writer, arrays_of(source), {});
  writer->finish();
  expect_same_arrays(arrays_of(source), arrays_of(scratch / "model"));
  const Checkpoint written = open_checkpoint(scratch / "model");
  EXPECT_EQ(written.format, "gptq");
  EXPECT_GE(written.files.size(), 3U) << "the arrays have 2.7 million bytes";
  for (const SourceFile& file : written.files) EXPECT_LE(file.file->size() - file.data_offset, 1'000'000U);
  EXPECT_TRUE(written.findings.empty());
}

TEST(MlxParameters, WidthsComeFromTheConfigOrFromShapesThatAllowOneOnly) {
  // A row of 64 codes: 8 words of 4 bits in two groups of 32, or as many of 2 bits in two groups of 64.
  const std::vector<ArrayPlan> plans{{"m.proj.weight", DType::u32, {3, 8}}, {"m.proj.scales", DType::f16, {3, 2}},
                                     {"m.proj.biases", DType::f16, {3, 2}}, {"m.proj.bias", DType::f16, {3}},
                                     {"m.norm.weight", DType::f16, {5}},    {"m.A_log", DType::f32, {7}}};
  const auto count = [&](std::string config) {
    return mlx::count_parameters(plans, std::vector<CarriedFile>{{"config.json", std::move(config)}});
  };
  EXPECT_EQ(count(R"({"quantization":{"group_size":32,"bits":4}})"), 3U * 64 + 3 + 5);
  EXPECT_EQ(count(R"({"quantization":{"group_size":32,"bits":4,"m.proj":{"group_size":64,"bits":2}}})"),
            3U * 128 + 3 + 5);
  EXPECT_EQ(mlx::count_parameters(plans, {}), std::nullopt);
  std::vector<ArrayPlan> clear = plans;
  clear[1].shape = clear[2].shape = {3, 4};  // 64 = 2 bits in groups of 32
  EXPECT_EQ(mlx::count_parameters(clear, {}), 3U * 128 + 3 + 5);
}

TEST(MlxWriter, DtypesThatMlxDoesNotReadAreRefused) {
  for (const DType dtype : {DType::f64, DType::f8_e5m2, DType::f8_e4m3, DType::f4}) {
    EXPECT_TRUE(kMlxFormat.can_hold({"a", dtype, {2, 2}}).has_value()) << name(dtype);
  }
  for (const DType dtype : {DType::f32, DType::bf16, DType::u32, DType::u8, DType::boolean}) {
    EXPECT_FALSE(kMlxFormat.can_hold({"a", dtype, {2, 2}}).has_value()) << name(dtype);
  }
  EXPECT_TRUE(kMlxFormat.can_hold({"a", BlockType::q4_0, {1, 32}}).has_value());
}

}  // namespace
}  // namespace regauge
