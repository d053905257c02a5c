#include "ir/decode/blocks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "base/error.h"
#include "base/half.h"
#include "ir/ggml_type.h"
#include "tests/support/golden.h"
#include "tests/support/oracle.h"

namespace regauge {
namespace {

using testing::count_bit_differences;
using testing::GoldenFile;

std::vector<BlockType> all_block_types() {
  std::vector<BlockType> types;
  for (const GgmlType& type : ggml_types()) {
    if (type.block) types.push_back(*type.block);
  }
  return types;
}

std::vector<BlockType> decodable_block_types() {
  auto types = all_block_types();
  std::erase(types, BlockType::q8_1);
  return types;
}

std::size_t bytes_in_block(BlockType type) { return static_cast<std::size_t>(block_bytes(type)); }
std::size_t elements_in_block(BlockType type) { return static_cast<std::size_t>(block_elements(type)); }

std::vector<float> decoded(BlockType type, std::span<const std::byte> blocks) {
  std::vector<float> values(blocks.size() / bytes_in_block(type) * elements_in_block(type));
  decode_blocks(type, blocks, values);
  return values;
}

/// A block written field by field, as the layout comments list them.
class BlockBytes {
 public:
  BlockBytes& f16(float value) { return u16(f32_to_f16(value)); }
  BlockBytes& u16(unsigned value) { return bytes({value & 255U, value >> 8}); }
  BlockBytes& u32(std::uint32_t value) { return u16(value & 0xFFFFU).u16(value >> 16); }
  BlockBytes& bytes(std::initializer_list<unsigned> values) {
    for (const unsigned value : values) bytes_.push_back(static_cast<std::byte>(value));
    return *this;
  }
  BlockBytes& fill(std::size_t count, unsigned value) {
    bytes_.insert(bytes_.end(), count, static_cast<std::byte>(value));
    return *this;
  }
  std::vector<float> decode(BlockType type) const { return decoded(type, bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

class EveryDecodableType : public ::testing::TestWithParam<BlockType> {};
INSTANTIATE_TEST_SUITE_P(BlockType, EveryDecodableType, ::testing::ValuesIn(decodable_block_types()),
                         [](const auto& type) { return std::string(name(type.param)); });

TEST_P(EveryDecodableType, EqualsTheGoldenDequantizations) {
  const BlockType type = GetParam();
  REGAUGE_GOLDEN_OR_SKIP(path, "ggml/" + std::string(ggml_type(type).name) + ".safetensors");
  const GoldenFile golden(path);
  EXPECT_EQ(golden.metadata().at("block_bytes"), std::to_string(block_bytes(type)));
  EXPECT_EQ(golden.metadata().at("block_elems"), std::to_string(block_elements(type)));
  std::size_t compared = 0;
  const auto compare = [&](const std::string& blocks, const std::string& values) {
    const auto expected = golden[values].as<float>();
    EXPECT_EQ(count_bit_differences(expected, decoded(type, golden[blocks].bytes)), 0U) << values;
    compared += expected.size();
  };
  compare("quantized", "dequantized");
  // q8_K alone comes without random blocks: its f32 scale would be infinite or NaN too often.
  if (type != BlockType::q8_K) compare("random_bytes", "random_dequantized");
  RecordProperty("values_compared", static_cast<int>(compared));
}

/// Compares `count` random blocks, every bit of them free, so that scales are also infinite, NaN, subnormal and -0.
void compare_random_blocks(const testing::Oracle& oracle, BlockType type, std::uint64_t seed, std::size_t count) {
  SCOPED_TRACE("set REGAUGE_TEST_SEED=" + std::to_string(seed) + " to see this again");
  constexpr std::size_t kBatch = 500;
  std::mt19937_64 random(seed);
  std::vector<std::byte> blocks(kBatch * bytes_in_block(type));
  std::vector<float> expected(kBatch * elements_in_block(type));
  std::vector<float> actual(expected.size());
  for (std::size_t done = 0; done < count; done += kBatch) {
    std::ranges::generate(blocks, [&] { return static_cast<std::byte>(random() >> 56); });
    oracle.dequantize(type, blocks, expected);
    std::ranges::fill(actual, std::numeric_limits<float>::quiet_NaN());
    decode_blocks(type, blocks, actual);
    ASSERT_EQ(count_bit_differences(expected, actual), 0U) << "in blocks from " << done << " on";
  }
}

TEST_P(EveryDecodableType, EqualsTheLibraryOnRandomBlocks) {
  REGAUGE_ORACLE_OR_SKIP(oracle);
  constexpr std::size_t kBlocks = 20'000;
  constexpr std::uint64_t kSeed = 20260928;
  compare_random_blocks(oracle, GetParam(), kSeed, kBlocks);
  std::random_device device;
  std::uint64_t fresh = std::uint64_t{device()} << 32 | device();
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here changes the environment
  if (const char* chosen = std::getenv("REGAUGE_TEST_SEED"); chosen != nullptr) fresh = std::stoull(chosen);
  RecordProperty("seed", std::to_string(fresh));
  RecordProperty("blocks_compared", static_cast<int>(2 * kBlocks));
  compare_random_blocks(oracle, GetParam(), fresh, kBlocks);
}

TEST_P(EveryDecodableType, ABlockDecodesTheSameAloneAndAtAnOddAddress) {
  const BlockType type = GetParam();
  const std::size_t size = bytes_in_block(type);
  constexpr std::size_t kBlocks = 5;
  std::mt19937_64 random(3);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same blocks on every run, on purpose
  std::vector<std::byte> blocks(kBlocks * size);
  std::ranges::generate(blocks, [&] { return static_cast<std::byte>(random() >> 56); });
  const std::vector<float> together = decoded(type, blocks);
  for (std::size_t i = 0; i < kBlocks; ++i) {
    std::vector<std::byte> shifted(size + 1);
    std::memcpy(shifted.data() + 1, blocks.data() + i * size, size);
    const auto alone = decoded(type, std::span(shifted).subspan(1));
    const auto expected = std::span(together).subspan(i * alone.size(), alone.size());
    EXPECT_EQ(count_bit_differences(expected, alone, true), 0U) << "block " << i;
  }
}

TEST_P(EveryDecodableType, SpansThatAreNotTheSameWholeNumberOfBlocksAreRefused) {
  const BlockType type = GetParam();
  const std::size_t bytes = bytes_in_block(type);
  const std::size_t elements = elements_in_block(type);
  struct Sizes {
    std::size_t bytes, elements;
  };
  for (const Sizes sizes :
       {Sizes{bytes - 1, elements}, Sizes{bytes + 1, elements}, Sizes{bytes, elements - 1}, Sizes{bytes, elements + 1},
        Sizes{2 * bytes, elements}, Sizes{bytes, 2 * elements}, Sizes{0, elements}, Sizes{bytes, 0}}) {
    const std::vector<std::byte> blocks(sizes.bytes);
    std::vector<float> out(sizes.elements);
    try {
      decode_blocks(type, blocks, out);
      ADD_FAILURE() << sizes.bytes << " bytes, " << sizes.elements << " values";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid);
    }
  }
  EXPECT_NO_THROW(decode_blocks(type, {}, {}));
}

TEST(DecodeBlocks, Q8_1IsRefusedBecauseItsOwnerHasNoDecoder) {
  EXPECT_FALSE(can_decode(BlockType::q8_1));
  EXPECT_TRUE(std::ranges::all_of(decodable_block_types(), [](BlockType type) { return can_decode(type); }));
  const std::vector<std::byte> block(36);
  std::vector<float> out(32);
  try {
    decode_blocks(BlockType::q8_1, block, out);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
  }
  REGAUGE_ORACLE_OR_SKIP(oracle);
  for (const BlockType type : all_block_types()) EXPECT_EQ(can_decode(type), oracle.can_dequantize(type)) << name(type);
}

TEST(GgmlTypes, SizesEqualTheGoldenTable) {
  REGAUGE_GOLDEN_OR_SKIP(path, "ggml/types.json");
  const auto golden = nlohmann::json::parse(std::ifstream(path));
  ASSERT_EQ(golden.size(), ggml_types().size());
  for (const auto& row : golden) {
    const GgmlType* type = find_ggml_type(row["id"].get<std::uint32_t>());
    ASSERT_NE(type, nullptr) << row;
    EXPECT_EQ(type->name, row["name"].get<std::string>());
    EXPECT_EQ(type->block_elements, row["blck"].get<std::int64_t>()) << row;
    EXPECT_EQ(type->block_bytes, row["size"].get<std::int64_t>()) << row;
    EXPECT_EQ(type->block.has_value(), row["is_quantized"].get<bool>()) << row;
  }
}

TEST(GgmlTypes, SizesEqualTheLibraryForEveryId) {
  REGAUGE_ORACLE_OR_SKIP(oracle);
  constexpr std::uint32_t kIds = 43;  // GGML_TYPE_COUNT of llama.cpp v0.5.0; the library aborts beyond it
  for (std::uint32_t id = 0; id < kIds; ++id) {
    const GgmlType* type = find_ggml_type(id);
    EXPECT_EQ(is_retired_ggml_type(id), type == nullptr) << id;
    EXPECT_EQ(oracle.type_block_elements(id), type == nullptr ? 0 : type->block_elements) << id;
    EXPECT_EQ(oracle.type_block_bytes(id), type == nullptr ? 0U : static_cast<std::size_t>(type->block_bytes)) << id;
    if (type != nullptr) {
      EXPECT_EQ(oracle.type_name(id), type->name) << id;
    }
  }
  EXPECT_EQ(find_ggml_type(kIds), nullptr);
}

TEST(GgmlTypes, StoredSizesEqualTheirDecodedShape) {
  for (const GgmlType& type : ggml_types()) {
    if (!type.dtype) continue;
    EXPECT_EQ(storage_bytes(*type.dtype, 1), static_cast<std::uint64_t>(type.block_bytes)) << type.name;
  }
}

// The tests below need no other software: their values are worked out by hand from the layouts.

TEST(LegacyBlocks, Q4_0KeepsTheFirstHalfInTheLowNibblesAndSubtractsEight) {
  const auto values = BlockBytes().f16(0.5F).bytes({0x80, 0xF1}).fill(14, 0x88).decode(BlockType::q4_0);
  EXPECT_EQ(values[0], -4.0F);
  EXPECT_EQ(values[1], -3.5F);
  EXPECT_EQ(values[2], 0.0F);
  EXPECT_EQ(values[16], 0.0F);
  EXPECT_EQ(values[17], 3.5F);
}

TEST(LegacyBlocks, ZeroTimesANegativeScaleStaysNegativeZero) {
  const auto values = BlockBytes().f16(-2.0F).fill(16, 0x88).decode(BlockType::q4_0);
  EXPECT_TRUE(std::ranges::all_of(values, [](float value) { return value == 0 && std::signbit(value); }));
}

TEST(LegacyBlocks, Q4_1AddsTheMinimumAndRoundsOnce) {
  const auto values = BlockBytes().f16(0.5F).f16(-3.0F).bytes({0xFF, 0x20}).fill(14, 0).decode(BlockType::q4_1);
  EXPECT_EQ(values[0], 4.5F);
  EXPECT_EQ(values[1], -3.0F);
  EXPECT_EQ(values[17], -2.0F);
  // 15360 + 2^-11 lies halfway between two floats, and 15360 is the even one.
  const auto tie = BlockBytes().f16(1024.0F).f16(0x1p-11F).fill(16, 0x0F).decode(BlockType::q4_1);
  EXPECT_EQ(tie[0], 15360.0F);
}

TEST(LegacyBlocks, Q5_0TakesTheFifthBitOfElementIFromBitIOfTheHighWord) {
  const auto values = BlockBytes().f16(1.0F).u32(1U << 3 | 1U << 17).fill(16, 0x00).decode(BlockType::q5_0);
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(values[i], i == 3 || i == 17 ? 0.0F : -16.0F) << i;
}

TEST(LegacyBlocks, Q5_1HasNoOffsetAndAddsTheMinimum) {
  const auto values = BlockBytes().f16(2.0F).f16(-1.0F).u32(1U << 31).fill(16, 0x21).decode(BlockType::q5_1);
  EXPECT_EQ(values[0], 1.0F);
  EXPECT_EQ(values[16], 3.0F);
  EXPECT_EQ(values[31], 35.0F);
}

TEST(LegacyBlocks, Q8_0CodesAreSigned) {
  const auto values = BlockBytes().f16(0.25F).bytes({0x80, 0x7F, 0xFF}).fill(29, 0).decode(BlockType::q8_0);
  EXPECT_EQ(values[0], -32.0F);
  EXPECT_EQ(values[1], 31.75F);
  EXPECT_EQ(values[2], -0.25F);
}

TEST(LegacyBlocks, Q1_0AndQ2_0StartAtTheLowestBit) {
  const auto signs = BlockBytes().f16(3.0F).bytes({0x05}).fill(15, 0).decode(BlockType::q1_0);
  EXPECT_EQ((std::vector(signs.begin(), signs.begin() + 4)), (std::vector{3.0F, -3.0F, 3.0F, -3.0F}));
  const auto codes = BlockBytes().f16(3.0F).bytes({0xE4}).fill(15, 0).decode(BlockType::q2_0);
  EXPECT_EQ((std::vector(codes.begin(), codes.begin() + 4)), (std::vector{-3.0F, 0.0F, 3.0F, 6.0F}));
}

TEST(KBlocks, Q4_KUpperSubBlocksBorrowTheTopBitsOfTheLowerOnes) {
  // Sub-block 4: scale = low nibble of byte 8 with the top bits of byte 0; min = high nibble with those of byte 4.
  const auto values = BlockBytes()
                          .f16(1.0F)
                          .f16(1.0F)
                          .bytes({0x41, 0, 0, 0, 0x82, 0, 0, 0, 0x75, 0, 0, 0})
                          .fill(128, 0x11)
                          .decode(BlockType::q4_K);
  EXPECT_EQ(values[0], 1.0F - 2.0F);
  EXPECT_EQ(values[128], (0x05 | 0x10) - (0x07 | 0x20));
  EXPECT_EQ(values[32], 0.0F);
}

TEST(KBlocks, Q3_KTakesFourOffWhereTheMaskBitIsClear) {
  // All scales 33 - 32 = 1: low nibbles 1, upper bits 2.
  const auto values =
      BlockBytes().fill(1, 0x01).fill(31, 0x00).fill(64, 0xFF).fill(8, 0x11).fill(4, 0xAA).f16(1.0F).decode(
          BlockType::q3_K);
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(values[i], i == 0 ? 3.0F : -1.0F) << i;
}

TEST(KBlocks, Q6_KFourthRunOfAHalfLiesInHighNibblesAndTheTopBits) {
  // Element 97: low bits from the high nibble of ql[33], upper bits from bits 6 and 7 of qh[1], scale number 97 / 16.
  const auto values = BlockBytes()
                          .fill(33, 0)
                          .bytes({0x50})
                          .fill(94, 0)
                          .bytes({0, 0x80})
                          .fill(62, 0)
                          .fill(6, 1)
                          .bytes({0xFE})
                          .fill(9, 1)
                          .f16(0.5F)
                          .decode(BlockType::q6_K);
  EXPECT_EQ(values[97], 0.5F * -2 * ((5 | 2 << 4) - 32));
  EXPECT_EQ(values[96], 0.5F * -2 * -32);
  EXPECT_EQ(values[33], 0.5F * -32);
}

TEST(KBlocks, Q5_KTakesTheFifthBitFromTheBitOfItsSubBlock) {
  const auto values = BlockBytes()
                          .f16(1.0F)
                          .f16(1.0F)
                          .bytes({1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1})
                          .bytes({0x20})
                          .fill(31, 0)
                          .fill(128, 0)
                          .decode(BlockType::q5_K);
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(values[i], i == 5 * 32 ? 16.0F : 0.0F) << i;
}

TEST(Fp4Blocks, Mxfp4ScaleIsHalvedAndCode8IsPositiveZero) {
  const auto values = BlockBytes().bytes({127, 0x87, 0x1F}).fill(14, 0).decode(BlockType::mxfp4);
  EXPECT_EQ(values[0], 6.0F);
  EXPECT_EQ(values[1], -6.0F);
  EXPECT_EQ(values[16], 0.0F);
  EXPECT_FALSE(std::signbit(values[16]));
  EXPECT_EQ(values[17], 0.5F);
  const auto largest = BlockBytes().bytes({255, 0x01}).fill(15, 0).decode(BlockType::mxfp4);
  EXPECT_EQ(largest[0], 0x1p127F);
}

TEST(Fp4Blocks, Nvfp4ScalesIgnoreTheSignAndReadOnly7FAsZero) {
  const auto values = BlockBytes().bytes({0x38, 0xB8, 0x7F, 0xFF}).fill(32, 0x22).decode(BlockType::nvfp4);
  EXPECT_EQ(values[0], 1.0F);
  EXPECT_EQ(values[16], 1.0F);
  EXPECT_EQ(values[32], 0.0F);
  EXPECT_EQ(values[48], 480.0F);
}

TEST(TernaryBlocks, Tq1_0DigitsComeFromTheMostSignificantOn) {
  // Digits 2 0 1 2 0 are 2*81 + 9 + 2*3 = 177 of 243; stored as the ceiling of 177 * 256 / 243 = 187.
  const auto values = BlockBytes().fill(32, 187).fill(16, 187).fill(4, 187).f16(1.0F).decode(BlockType::tq1_0);
  const std::array<float, 5> digits{1, -1, 0, 1, -1};
  for (std::size_t n = 0; n < 5; ++n) {
    EXPECT_EQ(values[32 * n], digits[n]) << n;
    EXPECT_EQ(values[160 + 16 * n], digits[n]) << n;
    if (n < 4) {
      EXPECT_EQ(values[240 + 4 * n], digits[n]) << n;
    }
  }
}

TEST(IqBlocks, Iq4_XsCombinesBothScaleFieldsAndSubtracts32) {
  const auto values =
      BlockBytes().f16(1.0F).u16(2U << 2).bytes({0x30, 0, 0, 0}).fill(128, 0xF0).decode(BlockType::iq4_xs);
  EXPECT_EQ(values[0], -32.0F * -127.0F);
  EXPECT_EQ(values[32], 3.0F * -127.0F);
  EXPECT_EQ(values[48], 3.0F * 113.0F);
}

TEST(IqBlocks, Iq1_MGathersItsScaleFromTheTopNibblesOfFourWords) {
  // f16 1.0 is 0x3C00; the second run of 16 has scale bits 2, the second run of 8 a negative delta. Entry 0 is all -1.
  const auto values =
      BlockBytes().fill(32, 0).bytes({0x80}).fill(15, 0).u16(2U << 3).u16(0).u16(0xC000).u16(0x3000).decode(
          BlockType::iq1_m);
  EXPECT_EQ(values[0], -0.875F);
  EXPECT_EQ(values[8], -1.125F);
  EXPECT_EQ(values[16], 5 * -0.875F);
  EXPECT_EQ(values[32], -0.875F);
}

TEST(IqBlocks, Iq3_SScalesAreOddAndSignsAreStoredInFull) {
  const auto values =
      BlockBytes().f16(1.0F).fill(64 + 8, 0).bytes({0x11}).fill(31, 0).bytes({0x20, 0, 0, 0}).decode(BlockType::iq3_s);
  EXPECT_EQ((std::vector(values.begin(), values.begin() + 5)), (std::vector{-1.0F, 1.0F, 1.0F, 1.0F, -1.0F}));
  EXPECT_EQ(values[32], 5.0F);
}

TEST(IqBlocks, SevenStoredSignsMakeAnEvenNumberOfMinusSigns) {
  // iq2_xxs with d = 8 and scale bits 0: the first entry of its codebook is all eights.
  const auto values = BlockBytes().f16(8.0F).fill(4, 0).u32(1U).fill(56, 0).decode(BlockType::iq2_xxs);
  EXPECT_EQ(values[0], -8.0F);
  EXPECT_EQ(values[1], 8.0F);
  EXPECT_EQ(values[7], -8.0F);
  EXPECT_EQ(values[8], 8.0F);
}

}  // namespace
}  // namespace regauge
