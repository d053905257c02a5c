#include <array>
#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/error.h"
#include "formats/gguf/gguf.h"
#include "tests/support/builders.h"
#include "tests/support/golden.h"
#include "tests/support/rewrite.h"

namespace regauge {
namespace {

using testing::Bytes;
using testing::GgufBytes;
using testing::has_finding;
using testing::read_part;
using testing::ScratchDir;

Checkpoint open_bytes(const Bytes& bytes) {
  const ScratchDir scratch;
  testing::write_whole_file(scratch / "file.gguf", bytes);
  return open_gguf(probe(scratch / "file.gguf"));
}

Checkpoint open_bytes(const GgufBytes& file) { return open_bytes(file.bytes()); }

TEST(GgufReader, SmallFileHasItsKeysAndTensors) {
  const Checkpoint checkpoint = open_bytes(testing::small_gguf());
  EXPECT_EQ(checkpoint.format, "gguf");
  EXPECT_EQ(checkpoint.format_version, "v3 little endian");
  EXPECT_EQ(checkpoint.dialect, Dialect::gguf);
  EXPECT_EQ(checkpoint.metadata.get_string("general.architecture"), "llama");
  EXPECT_EQ(checkpoint.metadata.get_uint("llama.block_count"), 1U);
  ASSERT_EQ(checkpoint.tensors.size(), 2U);
  EXPECT_EQ(checkpoint.tensors[0].shape, (Shape{2, 4}));
  EXPECT_EQ(checkpoint.tensors[0].encoding, Encoding(Dense{DType::f32}));
  EXPECT_EQ(checkpoint.tensors[1].shape, (Shape{2, 32}));
  EXPECT_EQ(checkpoint.tensors[1].encoding, Encoding(Blocked{BlockType::q8_0}));
  EXPECT_EQ(checkpoint.tensors[1].part(PartId::blocks).shape, (Shape{2, 34}));
  EXPECT_TRUE(checkpoint.findings.empty());
  const Bytes data = read_part(checkpoint.tensors[1].parts[0]);
  ASSERT_EQ(data.size(), 68U);
  for (std::size_t i = 0; i < data.size(); ++i) EXPECT_EQ(data[i], static_cast<std::byte>(i));
}

TEST(GgufReader, EveryValueTypeComesThrough) {
  GgufBytes file;
  file.preamble(0, 13).text_key("general.architecture", "x");
  file.key("u8", 0).u8(200).key("i8", 1).number(std::int8_t{-3}).key("u16", 2).u16(60000);
  file.key("i16", 3).number(std::int16_t{-300}).key("u32", 4).u32(4000000000U).key("i32", 5).i32(-7);
  file.key("f32", 6).f32(1.5F).key("bool", 7).u8(1).key("u64", 10).u64(std::uint64_t{1} << 63);
  file.key("i64", 11).number(std::int64_t{-5}).key("f64", 12).number(0.1);
  file.key("list", 9).array(7, 3).u8(1).u8(0).u8(1);
  const Metadata metadata = open_bytes(file).metadata;
  EXPECT_EQ(*metadata.find("u8"), MetaValue(std::uint8_t{200}));
  EXPECT_EQ(*metadata.find("i8"), MetaValue(std::int8_t{-3}));
  EXPECT_EQ(*metadata.find("u16"), MetaValue(std::uint16_t{60000}));
  EXPECT_EQ(*metadata.find("i16"), MetaValue(std::int16_t{-300}));
  EXPECT_EQ(*metadata.find("u32"), MetaValue(std::uint32_t{4000000000U}));
  EXPECT_EQ(*metadata.find("i32"), MetaValue(std::int32_t{-7}));
  EXPECT_EQ(*metadata.find("f32"), MetaValue(1.5F));
  EXPECT_EQ(*metadata.find("bool"), MetaValue(true));
  EXPECT_EQ(*metadata.find("u64"), MetaValue(std::uint64_t{1} << 63));
  EXPECT_EQ(*metadata.find("i64"), MetaValue(std::int64_t{-5}));
  EXPECT_EQ(*metadata.find("f64"), MetaValue(0.1));
  const MetaArray& list = *metadata.get_array("list");
  EXPECT_EQ(list.element, MetaType::boolean);
  EXPECT_EQ(std::get<std::vector<std::uint8_t>>(list.values), (std::vector<std::uint8_t>{1, 0, 1}));
}

TEST(GgufReader, KeysKeepTheirOrder) {
  GgufBytes file;
  file.preamble(0, 3).key("z", 4).u32(1).key("general.architecture", 8).string("x").key("a", 4).u32(2);
  const Checkpoint checkpoint = open_bytes(file);
  ASSERT_EQ(checkpoint.metadata.entries().size(), 3U);
  EXPECT_EQ(checkpoint.metadata.entries()[0].first, "z");
  EXPECT_EQ(checkpoint.metadata.entries()[2].first, "a");
}

// Versions 1 and 3 differ in the width of counts, lengths and dimensions only; 2 is 3 under another number.
TEST(GgufReader, VersionsOneAndTwoReadTheSame) {
  const Checkpoint newest = open_bytes(testing::small_gguf(3));
  for (const std::uint32_t version : {1U, 2U}) {
    const Checkpoint older = open_bytes(testing::small_gguf(version));
    EXPECT_EQ(older.format_version, "v" + std::to_string(version) + " little endian");
    ASSERT_EQ(older.tensors.size(), newest.tensors.size());
    for (std::size_t i = 0; i < older.tensors.size(); ++i) {
      EXPECT_EQ(older.tensors[i].name, newest.tensors[i].name);
      EXPECT_EQ(older.tensors[i].shape, newest.tensors[i].shape);
      EXPECT_EQ(read_part(older.tensors[i].parts[0]), read_part(newest.tensors[i].parts[0]));
    }
    EXPECT_EQ(older.metadata.entries(), newest.metadata.entries());
  }
}

TEST(GgufReader, AnyPowerOfTwoAligns) {
  for (std::uint32_t alignment = 1; alignment <= 4096; alignment *= 2) {
    GgufBytes file;
    const std::uint64_t second = (8 + alignment - 1) / alignment * alignment;
    file.preamble(2, 2).text_key("general.architecture", "x").key("general.alignment", 4).u32(alignment);
    file.tensor("a", {2}, 0, 0)
        .tensor("b", {1}, 0, second)
        .pad(alignment)
        .data(8)
        .pad(alignment)
        .f32(0.5F)
        .pad(alignment);
    const Checkpoint checkpoint = open_bytes(file);
    ASSERT_EQ(checkpoint.tensors.size(), 2U) << alignment;
    float value = 0;
    std::memcpy(&value, read_part(checkpoint.tensors[1].parts[0]).data(), sizeof value);
    EXPECT_EQ(value, 0.5F) << alignment;
    EXPECT_EQ(has_finding(checkpoint, "alignment-not-32"), alignment != 32) << alignment;
  }
}

TEST(GgufReader, UnknownTypeIsCarriedWithTheSizeThatTheOffsetsTell) {
  GgufBytes file;
  file.preamble(3, 1).text_key("general.architecture", "x");
  file.tensor("before", {8}, 0, 0)
      .tensor("strange", {128, 2}, 144, 32)
      .tensor("after", {8}, 0, 96)
      .pad()
      .data(32 + 64 + 32);
  const Checkpoint checkpoint = open_bytes(file);
  ASSERT_EQ(checkpoint.tensors.size(), 3U);
  EXPECT_EQ(checkpoint.tensors[1].encoding, Encoding(Opaque{"ggml type 144"}));
  EXPECT_EQ(checkpoint.arrays[1].bytes, 64U);
  const Bytes data = read_part(checkpoint.tensors[1].parts[0], 5);
  ASSERT_EQ(data.size(), 64U);
  EXPECT_EQ(data.front(), std::byte{32});
  EXPECT_EQ(data.back(), std::byte{95});
  EXPECT_TRUE(has_finding(checkpoint, "type-unknown"));
}

TEST(GgufReader, ImatrixFileNeedsNoArchitecture) {
  GgufBytes file;
  file.preamble(2, 4).text_key("general.type", "imatrix").key("imatrix.datasets", 9).array(8, 1).string("wiki");
  file.key("imatrix.chunk_count", 4).u32(1).key("imatrix.chunk_size", 4).u32(512);
  file.tensor("blk.0.attn_q.weight.in_sum2", {4, 1}, 0, 0).tensor("blk.0.attn_q.weight.counts", {1, 1}, 0, 32);
  file.pad().data(16).pad().data(4).pad();
  const Checkpoint checkpoint = open_bytes(file);
  EXPECT_EQ(checkpoint.tensors.size(), 2U);
  EXPECT_TRUE(checkpoint.findings.empty());
}

TEST(GgufReader, ManyEqualRemarksBecomeOneFinding) {
  GgufBytes file;
  file.preamble(0, 301).text_key("general.architecture", "x");
  for (int i = 0; i < 300; ++i) file.key("flag" + std::to_string(i), 7).u8(2);
  const Checkpoint checkpoint = open_bytes(file);
  ASSERT_EQ(checkpoint.findings.size(), 1U);
  EXPECT_EQ(checkpoint.findings[0].code, "bool-not-0-or-1");
  EXPECT_EQ(checkpoint.findings[0].tensor, "flag0");
  EXPECT_NE(checkpoint.findings[0].message.find("300"), std::string::npos);
}

TEST(GgufReader, LongVocabularyOpensQuickly) {
  GgufBytes file;
  constexpr std::uint64_t kTokens = 250'000;
  file.preamble(0, 2).text_key("general.architecture", "x").key("tokenizer.ggml.tokens", 9).array(8, kTokens);
  for (std::uint64_t i = 0; i < kTokens; ++i) file.string("token" + std::to_string(i));
  const Checkpoint checkpoint = open_bytes(file);
  const auto& tokens =
      std::get<std::vector<std::string>>(checkpoint.metadata.get_array("tokenizer.ggml.tokens")->values);
  ASSERT_EQ(tokens.size(), kTokens);
  EXPECT_EQ(tokens.front(), "token0");
  EXPECT_EQ(tokens.back(), "token249999");
}

std::string golden_type(const std::string& text) {
  if (text == "str") return "string";
  if (text == "arr") return "array";
  return text;
}

/// The text of json.dumps(list, ensure_ascii=False), which the golden files hash.
template <typename T>
std::string python_list(const std::vector<T>& values) {
  std::string text = "[";
  for (const T& value : values) text += (text.size() > 1 ? ", " : "") + nlohmann::json(value).dump();
  return text + "]";
}

void expect_value(const MetaValue& value, const nlohmann::json& expected, const std::string& key) {
  if (const auto* array = std::get_if<MetaArray>(&value)) {
    EXPECT_EQ(std::string(name(array->element)), golden_type(expected["elem"])) << key;
    ASSERT_EQ(array->size(), expected["n"].get<std::size_t>()) << key;
    const std::string text = std::visit([](const auto& values) { return python_list(values); }, array->values);
    EXPECT_EQ(hex(Sha256::of(bytes_of(text))), expected["sha256_json"].get<std::string>()) << key;
    return;
  }
  if (const auto* text = std::get_if<std::string>(&value)) {
    EXPECT_EQ(*text, expected.get<std::string>()) << key;
  } else if (const auto* flag = std::get_if<bool>(&value)) {
    EXPECT_EQ(*flag, expected.get<bool>()) << key;
  } else if (const auto* number = std::get_if<float>(&value)) {
    EXPECT_EQ(*number, expected.get<float>()) << key;
  } else {
    EXPECT_EQ(to_string(value), expected.dump()) << key;
  }
}

class GgufGolden : public ::testing::TestWithParam<const char*> {};

// The .json beside each file was made by the tools that made the file; see the folder's README.
TEST_P(GgufGolden, HeaderAndDataAreWhatItsMakerSays) {
  const std::string stem = std::string("gguf/tiny-qwen35-") + GetParam();
  REGAUGE_GOLDEN_OR_SKIP(path, stem + ".gguf");
  REGAUGE_GOLDEN_OR_SKIP(json_path, stem + ".json");
  const auto expected = nlohmann::json::parse(std::ifstream(json_path));
  const Checkpoint checkpoint = open_checkpoint(path);
  EXPECT_TRUE(checkpoint.findings.empty());
  ASSERT_EQ(checkpoint.files.size(), 1U);
  EXPECT_EQ(checkpoint.files[0].data_offset, expected["data_offset"].get<std::uint64_t>());
  EXPECT_EQ(checkpoint.file_bytes(), expected["file_bytes"].get<std::uint64_t>());

  const auto& keys = checkpoint.metadata.entries();
  ASSERT_EQ(keys.size(), expected["kv"].size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const auto& key = expected["kv"][i];
    EXPECT_EQ(keys[i].first, key[0].get<std::string>());
    EXPECT_EQ(std::string(name(type_of(keys[i].second))), golden_type(key[1]));
    expect_value(keys[i].second, key[2], keys[i].first);
  }

  ASSERT_EQ(checkpoint.arrays.size(), expected["tensors"].size());
  for (std::size_t i = 0; i < checkpoint.arrays.size(); ++i) {
    const auto& tensor = expected["tensors"][i];
    const StoredArray& array = checkpoint.arrays[i];
    EXPECT_EQ(array.name, tensor["name"].get<std::string>());
    auto ne = tensor["ne"].get<std::vector<std::int64_t>>();
    std::ranges::reverse(ne);
    EXPECT_EQ(array.shape.dims, ne) << array.name;
    EXPECT_EQ(array.offset, tensor["offset"].get<std::uint64_t>()) << array.name;
    EXPECT_EQ(array.bytes, tensor["bytes"].get<std::uint64_t>()) << array.name;
    const Bytes data = read_part(checkpoint.tensors[i].parts[0], 3);
    EXPECT_EQ(hex(Sha256::of(data)), tensor["sha256"].get<std::string>()) << array.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Files, GgufGolden, ::testing::Values("q4_0", "q4_k_m", "q8_0"));

struct Vocabulary {
  const char* file;
  std::size_t keys;
  std::size_t tokens;
};

class GgufVocabulary : public ::testing::TestWithParam<Vocabulary> {};

// Counts from the README of the files' folder, which has them from the files' publishers.
TEST_P(GgufVocabulary, OpensWithoutTensors) {
  REGAUGE_GOLDEN_OR_SKIP(path, std::string("real/gguf/") + GetParam().file);
  const Checkpoint checkpoint = open_checkpoint(path);
  EXPECT_EQ(checkpoint.format, "gguf");
  EXPECT_TRUE(checkpoint.tensors.empty());
  EXPECT_EQ(checkpoint.metadata.entries().size(), GetParam().keys);
  EXPECT_EQ(checkpoint.metadata.get_array("tokenizer.ggml.tokens")->size(), GetParam().tokens);
}

INSTANTIATE_TEST_SUITE_P(Files, GgufVocabulary,
                         ::testing::Values(Vocabulary{"ggml-vocab-gpt-2.gguf", 16, 50257},
                                           Vocabulary{"ggml-vocab-phi-3.gguf", 26, 32064},
                                           Vocabulary{"ggml-vocab-falcon.gguf", 18, 65024},
                                           Vocabulary{"ggml-vocab-bert-bge.gguf", 20, 30522}));

TEST(GgufReader, RealFileWithoutTensorsOrPaddingOpens) {
  REGAUGE_GOLDEN_OR_SKIP(path, "real/odd/no-tensors.gguf");
  const Checkpoint checkpoint = open_checkpoint(path);
  EXPECT_TRUE(checkpoint.tensors.empty());
  EXPECT_EQ(checkpoint.metadata.get_string("general.architecture"), "llama");
}

TEST(GgufReader, RealFileCutOffBeforeItsDataIsRefusedWithTheTensorsName) {
  REGAUGE_GOLDEN_OR_SKIP(path, "real/odd/truncated-tensor-data.gguf");
  try {
    open_checkpoint(path);
    FAIL() << "opened";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::malformed);
    EXPECT_EQ(error.tensor_name(), "test.weight.0");
    EXPECT_EQ(error.file(), path.native());
    EXPECT_TRUE(error.byte_offset().has_value());
  }
}

}  // namespace
}  // namespace regauge
