#include "tests/support/oracle.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>

#include "base/half.h"

namespace regauge::testing {
namespace {

TEST(Oracle, TypeTableAgreesWithOurs) {
  REGAUGE_ORACLE_OR_SKIP(oracle);
  for (const GgmlType& type : ggml_types()) {
    EXPECT_EQ(oracle.type_name(type.id), type.name) << type.id;
    EXPECT_EQ(oracle.type_block_elements(type.id), type.block_elements) << type.name;
    EXPECT_EQ(static_cast<std::int64_t>(oracle.type_block_bytes(type.id)), type.block_bytes) << type.name;
  }
}

TEST(Oracle, DecodesEveryBlockTypeButQ8_1) {
  REGAUGE_ORACLE_OR_SKIP(oracle);
  for (const GgmlType& type : ggml_types()) {
    if (!type.block) continue;
    EXPECT_EQ(oracle.can_dequantize(*type.block), *type.block != BlockType::q8_1) << type.name;
  }
}

TEST(Oracle, DecodesAQ4_0BlockAsScaleTimesCodeMinusEight) {
  REGAUGE_ORACLE_OR_SKIP(oracle);
  std::array<std::byte, 18> block{};
  block[0] = std::byte{0x00};  // f16 0.5, little endian
  block[1] = std::byte{0x38};
  for (std::size_t i = 0; i < 16; ++i) block[2 + i] = static_cast<std::byte>(i | ((15 - i) << 4));
  std::array<float, 32> out{};
  oracle.dequantize(BlockType::q4_0, block, out);
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(out[static_cast<std::size_t>(i)], 0.5F * static_cast<float>(i - 8));
    EXPECT_EQ(out[static_cast<std::size_t>(16 + i)], 0.5F * static_cast<float>(7 - i));
  }
}

TEST(Oracle, QuantizesWholeRowsBothWays) {
  REGAUGE_ORACLE_OR_SKIP(oracle);
  std::vector<float> values(512);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i));
  std::vector<std::byte> chunk(16 * 34);
  std::vector<std::byte> reference(chunk.size());
  EXPECT_EQ(oracle.quantize_chunk(BlockType::q8_0, values, chunk, 256), chunk.size());
  oracle.quantize_reference(BlockType::q8_0, values, reference);
  EXPECT_EQ(chunk, reference);
  std::vector<float> back(values.size());
  oracle.dequantize(BlockType::q8_0, chunk, back);
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(back[i], values[i], 0.005F);
  EXPECT_TRUE(oracle.validate(BlockType::q8_0, chunk));
  chunk[1] = std::byte{0x7E};  // the first scale becomes a NaN
  EXPECT_FALSE(oracle.validate(BlockType::q8_0, chunk));
}

TEST(Oracle, RefusesSizesThatWouldAbortTheLibrary) {
  REGAUGE_ORACLE_OR_SKIP(oracle);
  std::array<std::byte, 18> block{};
  std::array<float, 31> short_row{};
  EXPECT_THROW(oracle.dequantize(BlockType::q4_0, block, short_row), std::invalid_argument);
  EXPECT_THROW(oracle.dequantize(BlockType::q4_0, std::span(block).first(17), short_row), std::invalid_argument);
  EXPECT_THROW(oracle.quantize_chunk(BlockType::q4_0, short_row, block, 31), std::invalid_argument);
}

TEST(Oracle, AgreesWithOurHalfConversionsOnEveryPattern) {
  REGAUGE_ORACLE_OR_SKIP(oracle);
  std::vector<std::uint16_t> patterns(65536);
  for (std::size_t i = 0; i < patterns.size(); ++i) patterns[i] = static_cast<std::uint16_t>(i);
  std::vector<float> f16(patterns.size());
  std::vector<float> bf16(patterns.size());
  oracle.f16_to_f32(patterns, f16);
  oracle.bf16_to_f32(patterns, bf16);
  std::vector<std::uint16_t> back(patterns.size());
  oracle.f32_to_bf16(bf16, back);
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    // NaNs of binary16 are compared as NaNs: the library's portable and hardware routes keep different payloads.
    const float ours = f16_to_f32(patterns[i]);
    if (std::isnan(ours)) {
      ASSERT_TRUE(std::isnan(f16[i])) << i;
    } else {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(f16[i]), std::bit_cast<std::uint32_t>(ours)) << i;
    }
    ASSERT_EQ(std::bit_cast<std::uint32_t>(bf16[i]), std::bit_cast<std::uint32_t>(bf16_to_f32(patterns[i]))) << i;
    ASSERT_EQ(back[i], f32_to_bf16(bf16[i])) << i;
  }
}

}  // namespace
}  // namespace regauge::testing
