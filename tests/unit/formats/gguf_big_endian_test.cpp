#include <cstring>

#include <gtest/gtest.h>

#include "formats/gguf/big_endian.h"
#include "formats/gguf/gguf.h"
#include "tests/support/builders.h"
#include "tests/support/golden.h"
#include "tests/support/rewrite.h"

namespace regauge {
namespace {

using testing::Bytes;
using testing::GgufBytes;
using testing::read_part;
using testing::ScratchDir;

Checkpoint open_bytes(const GgufBytes& file) {
  const ScratchDir scratch;
  testing::write_whole_file(scratch / "file.gguf", file.bytes());
  return open_gguf(probe(scratch / "file.gguf"));
}

template <typename T>
std::vector<T> numbers(const Part& part) {
  const Bytes bytes = read_part(part);
  std::vector<T> out(bytes.size() / sizeof(T));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

TEST(GgufBigEndian, KeysAndDimensionsAreTurnedAround) {
  GgufBytes file(3, true);
  file.preamble(1, 4).text_key("general.architecture", "llama").key("count", 4).u32(0x01020304);
  file.key("scale", 6).f32(0.25F).key("list", 9).array(5, 2).i32(-2).i32(70000);
  file.tensor("a", {3, 2}, 0, 0).pad();
  for (int i = 0; i < 6; ++i) file.f32(static_cast<float>(i) + 0.5F);
  file.pad();
  const Checkpoint checkpoint = open_bytes(file);
  EXPECT_EQ(checkpoint.format_version, "v3 big endian");
  EXPECT_EQ(*checkpoint.metadata.find("count"), MetaValue(std::uint32_t{0x01020304}));
  EXPECT_EQ(*checkpoint.metadata.find("scale"), MetaValue(0.25F));
  EXPECT_EQ(std::get<std::vector<std::int32_t>>(checkpoint.metadata.get_array("list")->values),
            (std::vector<std::int32_t>{-2, 70000}));
  ASSERT_EQ(checkpoint.tensors.size(), 1U);
  EXPECT_EQ(checkpoint.tensors[0].shape, (Shape{2, 3}));
  EXPECT_EQ(numbers<float>(checkpoint.tensors[0].parts[0]), (std::vector<float>{0.5F, 1.5F, 2.5F, 3.5F, 4.5F, 5.5F}));
}

TEST(GgufBigEndian, DenseTypesOfEveryWidthAreTurnedAround) {
  GgufBytes file(3, true);
  file.preamble(5, 1).text_key("general.architecture", "x");
  file.tensor("f64", {2}, 28, 0).tensor("i64", {1}, 27, 32).tensor("i8", {2}, 24, 64).tensor("bf16", {2}, 30, 96);
  file.tensor("i16", {1}, 25, 128).pad();
  file.number(0.1)
      .number(-2.5)
      .pad()
      .number(std::int64_t{-9})
      .pad()
      .number(std::int8_t{-1})
      .number(std::int8_t{5})
      .pad();
  file.u16(0x3F80).u16(0xC000).pad().number(std::int16_t{-300}).pad();
  const Checkpoint checkpoint = open_bytes(file);
  ASSERT_EQ(checkpoint.tensors.size(), 5U);
  EXPECT_EQ(numbers<double>(checkpoint.tensors[0].parts[0]), (std::vector<double>{0.1, -2.5}));
  EXPECT_EQ(numbers<std::int64_t>(checkpoint.tensors[1].parts[0]), (std::vector<std::int64_t>{-9}));
  EXPECT_EQ(numbers<std::int8_t>(checkpoint.tensors[2].parts[0]), (std::vector<std::int8_t>{-1, 5}));
  EXPECT_EQ(numbers<std::uint16_t>(checkpoint.tensors[3].parts[0]), (std::vector<std::uint16_t>{0x3F80, 0xC000}));
  EXPECT_EQ(numbers<std::int16_t>(checkpoint.tensors[4].parts[0]), (std::vector<std::int16_t>{-300}));
}

/// Two blocks of `type` in a big endian file, as their bytes come out of the reader.
Bytes read_blocks(BlockType type, const Bytes& stored) {
  GgufBytes file(3, true);
  file.preamble(1, 1).text_key("general.architecture", "x");
  const auto elements = static_cast<std::uint64_t>(block_elements(type));
  file.tensor("a", {elements, 2}, static_cast<std::uint32_t>(type), 0).pad().raw(stored).pad();
  const Checkpoint checkpoint = open_bytes(file);
  EXPECT_EQ(checkpoint.tensors.at(0).encoding, Encoding(Blocked{type}));
  return read_part(checkpoint.tensors.at(0).parts[0], 1);
}

Bytes counting(std::size_t count) {
  Bytes bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i % 251);
  return bytes;
}

void swap_pair(Bytes& bytes, std::size_t at) { std::swap(bytes[at], bytes[at + 1]); }
void swap_four(Bytes& bytes, std::size_t at) {
  std::swap(bytes[at], bytes[at + 3]);
  std::swap(bytes[at + 1], bytes[at + 2]);
}

// Which bytes move in Q4_0, Q8_0, Q4_K, Q6_K and MXFP4: ggml-org/llama.cpp gguf-py/gguf/scripts/gguf_convert_endian.py.
TEST(GgufBigEndian, BlocksOfTheTypesThatTheConverterKnowsAreTurnedAround) {
  const auto expect_pairs = [](BlockType type, std::initializer_list<std::size_t> pairs) {
    const auto size = static_cast<std::size_t>(block_bytes(type));
    const Bytes stored = counting(2 * size);
    Bytes expected = stored;
    for (const std::size_t block : {std::size_t{0}, size}) {
      for (const std::size_t at : pairs) swap_pair(expected, block + at);
    }
    EXPECT_EQ(read_blocks(type, stored), expected) << name(type);
  };
  expect_pairs(BlockType::q4_0, {0});
  expect_pairs(BlockType::q8_0, {0});
  expect_pairs(BlockType::q4_K, {0, 2});
  expect_pairs(BlockType::q6_K, {208});
  expect_pairs(BlockType::mxfp4, {});
}

// The struct members of ggml-org/ggml src/ggml-common.h: block_q8_K is float d, int8 qs[256], int16 bsums[16];
// block_iq4_xs is half d, uint16 scales_h and bytes; block_iq3_xxs has eight 32-bit words behind 66 bytes.
TEST(GgufBigEndian, WiderFieldsAreTurnedAroundAsWhatTheyAre) {
  const Bytes q8 = counting(2 * 292);
  Bytes expected = q8;
  for (const std::size_t block : {0U, 292U}) {
    swap_four(expected, block);
    for (std::size_t i = 0; i < 16; ++i) swap_pair(expected, block + 260 + 2 * i);
  }
  EXPECT_EQ(read_blocks(BlockType::q8_K, q8), expected);

  const Bytes iq4 = counting(2 * 136);
  expected = iq4;
  for (const std::size_t block : {0U, 136U}) {
    swap_pair(expected, block);
    swap_pair(expected, block + 2);
  }
  EXPECT_EQ(read_blocks(BlockType::iq4_xs, iq4), expected);

  const Bytes iq3 = counting(2 * 98);
  expected = iq3;
  for (const std::size_t block : {0U, 98U}) {
    swap_pair(expected, block);
    for (std::size_t i = 0; i < 8; ++i) swap_four(expected, block + 66 + 4 * i);
  }
  EXPECT_EQ(read_blocks(BlockType::iq3_xxs, iq3), expected);
}

TEST(GgufBigEndian, BlocksWithoutAnAgreedFormAreCarriedAsTheyAre) {
  for (const BlockType type : {BlockType::iq2_xxs, BlockType::nvfp4}) {
    GgufBytes file(3, true);
    file.preamble(1, 1).text_key("general.architecture", "x");
    file.tensor("a", {static_cast<std::uint64_t>(block_elements(type)), 1}, static_cast<std::uint32_t>(type), 0).pad();
    const Bytes stored = counting(static_cast<std::size_t>(block_bytes(type)));
    file.raw(stored).pad();
    const Checkpoint checkpoint = open_bytes(file);
    EXPECT_TRUE(std::holds_alternative<Opaque>(checkpoint.tensors.at(0).encoding)) << name(type);
    EXPECT_EQ(read_part(checkpoint.tensors.at(0).parts[0]), stored) << name(type);
    EXPECT_TRUE(testing::has_finding(checkpoint, "big-endian-blocks")) << name(type);
  }
}

TEST(GgufBigEndian, FieldsOfEveryTypeLieInsideItsBlockAndApart) {
  for (const GgmlType& type : ggml_types()) {
    const auto layout = gguf::swap_layout(type);
    if (!layout) continue;
    EXPECT_EQ(layout->bytes, static_cast<std::size_t>(type.block_bytes)) << type.name;
    std::size_t end = 0;
    for (const gguf::SwapField& field : layout->fields) {
      EXPECT_GE(field.offset, end) << type.name;
      end = field.offset + std::size_t{field.width} * field.count;
      EXPECT_LE(end, layout->bytes) << type.name;
    }
    const Bytes original = counting(layout->bytes * 3);
    Bytes twice = original;
    gguf::swap_units(*layout, twice);
    gguf::swap_units(*layout, twice);
    EXPECT_EQ(twice, original) << type.name;
  }
}

// Versions 1 and 2 know no byte order of their own.
TEST(GgufBigEndian, OnlyVersionThreeHasIt) {
  for (const std::uint32_t version : {1U, 2U}) EXPECT_ANY_THROW(open_bytes(testing::small_gguf(version, true)));
  EXPECT_EQ(open_bytes(testing::small_gguf(3, true)).format_version, "v3 big endian");
}

}  // namespace
}  // namespace regauge
