#include "formats/layouts/ggml_blocks.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "base/bits.h"
#include "tests/unit/layouts/words.h"

namespace regauge::layouts {
namespace {

using Scales = std::vector<std::uint16_t>;

constexpr BlockType kAffineTypes[] = {BlockType::q4_0, BlockType::q4_1, BlockType::q5_0,
                                      BlockType::q5_1, BlockType::q8_0, BlockType::q2_0};

std::size_t elements_of(BlockType type) { return static_cast<std::size_t>(block_elements(type)); }
std::size_t bytes_of(BlockType type) { return static_cast<std::size_t>(block_bytes(type)); }

Bytes pack(BlockType type, const Codes& codes, const Scales& d, const Scales& m) {
  Bytes out = unwritten(d.size() * bytes_of(type));
  pack_blocks_row(type, codes, d, m, out);
  return out;
}

Bytes pack_fp4(BlockType type, const Codes& codes, const Codes& scales) {
  Bytes out = unwritten(codes.size() / elements_of(type) * bytes_of(type));
  pack_fp4_blocks_row(type, codes, scales, out);
  return out;
}

unsigned at(const Bytes& bytes, std::size_t i) { return std::to_integer<unsigned>(bytes.at(i)); }

// The code of element i as the dequantize_row_ functions of ggml-org/ggml src/ggml-quants.c index it.
unsigned code_by_definition(BlockType type, const Bytes& block, std::size_t i) {
  const std::size_t j = i % 16;
  const auto nibble = [&](std::size_t qs) { return i < 16 ? at(block, qs + j) & 15U : at(block, qs + j) >> 4; };
  const auto fifth = [&](std::size_t qh) { return (at(block, qh + i / 8) >> (i % 8) & 1U) << 4; };
  switch (type) {
    case BlockType::q4_0: return nibble(2);
    case BlockType::q4_1: return nibble(4);
    case BlockType::q5_0: return nibble(6) | fifth(2);
    case BlockType::q5_1: return nibble(8) | fifth(4);
    case BlockType::q8_0: return at(block, 2 + i);
    case BlockType::q2_0: return at(block, 2 + i / 4) >> (2 * (i % 4)) & 3U;
    case BlockType::mxfp4: return nibble(1);
    case BlockType::nvfp4: {
      const unsigned byte = at(block, 4 + 8 * (i / 16) + i % 8);
      return i % 16 < 8 ? byte & 15U : byte >> 4;
    }
    default: break;
  }
  ADD_FAILURE() << "no definition";
  return 0;
}

TEST(GgmlBlocks, NibblesHoldAHalfBlockEach) {
  Codes codes(32, 0);
  codes[0] = 1;
  codes[16] = 2;
  codes[31] = 15;
  Bytes expected(18);
  expected[0] = std::byte{0x34};
  expected[1] = std::byte{0x12};
  expected[2] = std::byte{0x21};
  expected[17] = std::byte{0xF0};
  EXPECT_EQ(pack(BlockType::q4_0, codes, {0x1234}, {}), expected);
}

TEST(GgmlBlocks, FifthBitsLieBetweenTheScalesAndTheNibbles) {
  Codes codes(32, 0);
  codes[0] = 0x1A;
  codes[17] = 0x10;
  codes[31] = 0x15;
  Bytes expected(24);
  expected[0] = std::byte{0x01};
  expected[2] = std::byte{0x02};
  expected[4] = std::byte{0x01};
  expected[6] = std::byte{0x02};
  expected[7] = std::byte{0x80};
  expected[8] = std::byte{0x0A};
  expected[23] = std::byte{0x50};
  EXPECT_EQ(pack(BlockType::q5_1, codes, {0x0001}, {0x0002}), expected);
}

TEST(GgmlBlocks, Nvfp4DealsNibblesWithinEverySixteen) {
  Codes codes(64, 0);
  codes[0] = 1;
  codes[8] = 2;
  codes[63] = 7;
  Bytes expected(36);
  for (unsigned i = 0; i < 4; ++i) expected[i] = static_cast<std::byte>(0x40 + i);
  expected[4] = std::byte{0x21};
  expected[35] = std::byte{0x70};
  EXPECT_EQ(pack_fp4(BlockType::nvfp4, codes, {0x40, 0x41, 0x42, 0x43}), expected);
}

TEST(GgmlBlocks, EveryBitOfRandomBlocksIsInOnePiece) {
  Rng random(1);
  for (const BlockType type : kAffineTypes) {
    SCOPED_TRACE(name(type));
    const std::size_t blocks = 50;
    const Bytes bytes = random_bytes(random, blocks * bytes_of(type));
    Codes codes = unwritten_codes(blocks * elements_of(type));
    Scales d(blocks, 0xA5A5);
    Scales m(block_has_minimum(type) ? blocks : 0, 0xA5A5);
    unpack_blocks_row(type, bytes, codes, d, m);
    for (std::size_t b = 0; b < blocks; ++b) {
      const auto first = bytes.begin() + static_cast<std::ptrdiff_t>(b * bytes_of(type));
      const Bytes block(first, first + block_bytes(type));
      ASSERT_EQ(d[b], at(block, 0) | at(block, 1) << 8);
      if (!m.empty()) {
        ASSERT_EQ(m[b], at(block, 2) | at(block, 3) << 8);
      }
      for (std::size_t i = 0; i < elements_of(type); ++i) {
        ASSERT_EQ(codes[b * elements_of(type) + i], code_by_definition(type, block, i)) << "element " << i;
      }
    }
    EXPECT_EQ(pack(type, codes, d, m), bytes);
    Scales d_alone(d.size());
    Scales m_alone(m.size());
    unpack_block_scales(type, bytes, d_alone, m_alone);
    EXPECT_EQ(d_alone, d);
    EXPECT_EQ(m_alone, m);
  }
}

TEST(GgmlBlocks, StreamsAreTheCodesPackedTogether) {
  Rng random(3);
  for (const BlockType type : {BlockType::q4_0, BlockType::q4_1}) {
    SCOPED_TRACE(name(type));
    const std::size_t blocks = 37;
    const Bytes bytes = random_bytes(random, blocks * bytes_of(type));
    Codes codes = unwritten_codes(blocks * elements_of(type));
    Scales d(blocks);
    Scales m(block_has_minimum(type) ? blocks : 0);
    unpack_blocks_row(type, bytes, codes, d, m);
    Bytes expected(codes.size() / 2);
    pack_bits(codes, 4, expected);
    Bytes stream = unwritten(expected.size());
    unpack_block_stream(type, bytes, stream);
    EXPECT_EQ(stream, expected);
    Bytes back = unwritten(bytes.size());
    pack_block_stream(type, stream, d, m, back);
    EXPECT_EQ(back, bytes);
    EXPECT_EQ(error_code_of([&] { pack_block_stream(type, std::span(stream).first(32), d, m, back); }),
              ErrorCode::internal);
    EXPECT_EQ(error_code_of([&] { unpack_block_stream(type, bytes, std::span(stream).first(16)); }),
              ErrorCode::internal);
  }
  Bytes bytes(34);
  Bytes stream(16);
  EXPECT_FALSE(block_takes_stream(BlockType::q8_0));
  EXPECT_EQ(error_code_of([&] { unpack_block_stream(BlockType::q8_0, bytes, stream); }), ErrorCode::invalid);
  EXPECT_EQ(error_code_of([&] { pack_block_stream(BlockType::q5_0, stream, {}, {}, bytes); }), ErrorCode::invalid);
}

TEST(GgmlBlocks, EveryBitOfRandomFp4BlocksIsInOnePiece) {
  Rng random(2);
  for (const BlockType type : {BlockType::mxfp4, BlockType::nvfp4}) {
    SCOPED_TRACE(name(type));
    const std::size_t blocks = 50;
    const std::size_t scales_per_block = type == BlockType::mxfp4 ? 1 : 4;
    const Bytes bytes = random_bytes(random, blocks * bytes_of(type));
    Codes codes = unwritten_codes(blocks * elements_of(type));
    Codes scales = unwritten_codes(blocks * scales_per_block);
    unpack_fp4_blocks_row(type, bytes, codes, scales);
    for (std::size_t b = 0; b < blocks; ++b) {
      const auto first = bytes.begin() + static_cast<std::ptrdiff_t>(b * bytes_of(type));
      const Bytes block(first, first + block_bytes(type));
      for (std::size_t s = 0; s < scales_per_block; ++s) ASSERT_EQ(scales[b * scales_per_block + s], at(block, s));
      for (std::size_t i = 0; i < elements_of(type); ++i) {
        ASSERT_EQ(codes[b * elements_of(type) + i], code_by_definition(type, block, i)) << "element " << i;
      }
    }
    EXPECT_EQ(pack_fp4(type, codes, scales), bytes);
  }
}

RC_GTEST_PROP(GgmlBlocks, UnpackingUndoesPacking, ()) {
  const BlockType type = *rc::gen::elementOf(std::vector<BlockType>(std::begin(kAffineTypes), std::end(kAffineTypes)));
  const auto blocks = *rc::gen::inRange<std::size_t>(0, 30);
  Rng random(*rc::gen::arbitrary<std::uint64_t>());
  const Codes codes = random_codes(random, blocks * elements_of(type), block_code_bits(type));
  Scales d(blocks);
  Scales m(block_has_minimum(type) ? blocks : 0);
  for (auto& scale : d) scale = static_cast<std::uint16_t>(random());
  for (auto& minimum : m) minimum = static_cast<std::uint16_t>(random());
  const Bytes packed = pack(type, codes, d, m);
  Codes codes_back = unwritten_codes(codes.size());
  Scales d_back(d.size());
  Scales m_back(m.size());
  unpack_blocks_row(type, packed, codes_back, d_back, m_back);
  RC_ASSERT(codes_back == codes);
  RC_ASSERT(d_back == d);
  RC_ASSERT(m_back == m);
}

TEST(GgmlBlocks, CodesThatDoNotFitAreErrorsWhereverTheyStand) {
  for (const BlockType type : kAffineTypes) {
    if (block_code_bits(type) == 8) continue;
    const Scales m(block_has_minimum(type) ? 2 : 0);
    for (const std::size_t place :
         {std::size_t{0}, elements_of(type) - 1, elements_of(type), 2 * elements_of(type) - 1}) {
      Codes codes(2 * elements_of(type), 0);
      codes[place] = static_cast<std::uint8_t>(1U << block_code_bits(type));
      EXPECT_EQ(error_code_of([&] { pack(type, codes, {1, 1}, m); }), ErrorCode::invalid) << name(type) << " " << place;
    }
  }
  Codes codes(64, 0);
  codes[63] = 16;
  EXPECT_EQ(error_code_of([&] { pack_fp4(BlockType::nvfp4, codes, Codes(4)); }), ErrorCode::invalid);
  EXPECT_EQ(error_code_of([&] { pack_fp4(BlockType::mxfp4, codes, Codes(2)); }), ErrorCode::invalid);
}

TEST(GgmlBlocks, TypesThatAreNotCodesAndScalesAreErrors) {
  Bytes bytes(256);
  Codes codes(256);
  Scales scales(1);
  for (const BlockType type : {BlockType::q4_K, BlockType::iq4_nl, BlockType::q8_1}) {
    EXPECT_EQ(error_code_of([&] { (void)block_code_bits(type); }), ErrorCode::invalid);
    EXPECT_EQ(error_code_of([&] { (void)block_has_minimum(type); }), ErrorCode::invalid);
    EXPECT_EQ(error_code_of([&] { pack_blocks_row(type, codes, scales, {}, bytes); }), ErrorCode::invalid);
    EXPECT_EQ(error_code_of([&] { unpack_fp4_blocks_row(type, bytes, codes, codes); }), ErrorCode::invalid);
  }
  EXPECT_EQ(error_code_of([&] { pack_blocks_row(BlockType::mxfp4, codes, scales, {}, bytes); }), ErrorCode::invalid);
  EXPECT_EQ(error_code_of([&] { pack_fp4_blocks_row(BlockType::q4_0, codes, codes, bytes); }), ErrorCode::invalid);
}

TEST(GgmlBlocks, SizesThatMakeNoSenseAreErrors) {
  const Codes codes(64);
  EXPECT_EQ(error_code_of([&] { pack(BlockType::q4_0, Codes(33), {1}, {}); }), ErrorCode::invalid);
  EXPECT_EQ(error_code_of([&] { pack(BlockType::q4_0, codes, {1}, {}); }), ErrorCode::internal);
  EXPECT_EQ(error_code_of([&] { pack(BlockType::q4_0, codes, {1, 2}, {3, 4}); }), ErrorCode::internal);
  EXPECT_EQ(error_code_of([&] { pack(BlockType::q4_1, codes, {1, 2}, {}); }), ErrorCode::internal);
  EXPECT_EQ(error_code_of([&] { pack_fp4(BlockType::nvfp4, codes, Codes(2)); }), ErrorCode::internal);
  Bytes short_row(35);
  EXPECT_EQ(error_code_of([&] { pack_blocks_row(BlockType::q4_0, codes, Scales(2), {}, short_row); }),
            ErrorCode::internal);
  EXPECT_EQ(error_code_of([&] { pack_fp4_blocks_row(BlockType::nvfp4, codes, Codes(4), short_row); }),
            ErrorCode::internal);
}

}  // namespace
}  // namespace regauge::layouts
