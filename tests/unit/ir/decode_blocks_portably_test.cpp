#include <algorithm>
#include <cstddef>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "ir/decode/block_decoders.h"
#include "ir/decode/blocks.h"
#include "ir/ggml_type.h"
#include "tests/support/golden.h"
#include "tests/support/oracle.h"

namespace regauge {
namespace {

std::vector<BlockType> decodable_types() {
  std::vector<BlockType> types;
  for (const GgmlType& type : ggml_types()) {
    if (type.block && can_decode(*type.block)) types.push_back(*type.block);
  }
  return types;
}

class EveryTypeOnAnyCpu : public ::testing::TestWithParam<BlockType> {
 protected:
  static constexpr std::size_t kBlocks = 5000;

  /// Blocks of which every bit is free, scales that are subnormal, infinite or NaN included.
  static std::vector<std::byte> random_blocks(BlockType type) {
    std::mt19937_64 random(17);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same blocks on every run, on purpose
    std::vector<std::byte> blocks(kBlocks * static_cast<std::size_t>(block_bytes(type)));
    std::ranges::generate(blocks, [&] { return static_cast<std::byte>(random() >> 56); });
    return blocks;
  }
  static std::vector<float> room(BlockType type) {
    return std::vector<float>(kBlocks * static_cast<std::size_t>(block_elements(type)), -7.0F);
  }
};
INSTANTIATE_TEST_SUITE_P(BlockType, EveryTypeOnAnyCpu, ::testing::ValuesIn(decodable_types()),
                         [](const auto& type) { return std::string(name(type.param)); });

TEST_P(EveryTypeOnAnyCpu, DecodesAsOnThisOne) {
  const auto blocks = random_blocks(GetParam());
  auto here = room(GetParam());
  auto anywhere = room(GetParam());
  decode_blocks(GetParam(), blocks, here);
  decode_blocks_portably(GetParam(), blocks, anywhere);
  EXPECT_EQ(testing::count_bit_differences(here, anywhere), 0U);
}

TEST_P(EveryTypeOnAnyCpu, DecodesAsTheLibrary) {
  REGAUGE_ORACLE_OR_SKIP(oracle);
  const auto blocks = random_blocks(GetParam());
  auto expected = room(GetParam());
  auto actual = room(GetParam());
  oracle.dequantize(GetParam(), blocks, expected);
  decode_blocks_portably(GetParam(), blocks, actual);
  EXPECT_EQ(testing::count_bit_differences(expected, actual), 0U);
}

}  // namespace
}  // namespace regauge
