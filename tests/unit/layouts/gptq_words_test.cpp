#include "formats/layouts/gptq_words.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/unit/layouts/words.h"

namespace regauge::layouts {
namespace {

struct Plane {
  int first_bit;
  int width;
};

// Written out from docs/gptq_planar.md of ModelCloud/GPTQModel, apart from the library's own table.
std::vector<Plane> planes_of(GptqLayout layout) {
  if (layout.packing == GptqPacking::continuous) return {{0, layout.bits}};
  switch (layout.bits) {
    case 3: return {{0, 2}, {2, 1}};
    case 5: return {{0, 4}, {4, 1}};
    case 6: return {{0, 4}, {4, 2}};
    case 7: return {{0, 4}, {4, 2}, {6, 1}};
    default: return {{0, layout.bits}};
  }
}

// One code of column `column` of `words` [k * bits / 32, n], bit by bit: planes of whole words, each an LSB-first stream
// down the rows of a block of 32.
std::uint8_t code_by_definition(GptqLayout layout, const Bytes& words, std::size_t n, std::size_t column,
                                std::size_t k) {
  Bytes block;
  const auto bits = static_cast<std::size_t>(layout.bits);
  for (std::size_t word = 0; word < bits; ++word) {
    const auto part = std::span(words).subspan(((k / 32 * bits + word) * n + column) * 4, 4);
    block.insert(block.end(), part.begin(), part.end());
  }
  unsigned code = 0;
  std::size_t plane_start = 0;
  for (const auto& [first_bit, width] : planes_of(layout)) {
    const auto w = static_cast<std::size_t>(width);
    code |= static_cast<unsigned>(stream_bits(block, plane_start + k % 32 * w, width)) << first_bit;
    plane_start += 32 * w;
  }
  return static_cast<std::uint8_t>(code);
}

Codes unpack_by_definition(GptqLayout layout, const Bytes& words, std::size_t n, std::size_t k) {
  Codes codes(n * k);
  for (std::size_t column = 0; column < n; ++column) {
    for (std::size_t i = 0; i < k; ++i) codes[column * k + i] = code_by_definition(layout, words, n, column, i);
  }
  return codes;
}

Codes unpack(GptqLayout layout, const Bytes& words, std::size_t n, std::size_t k) {
  Codes codes = unwritten_codes(n * k);
  unpack_gptq_columns(layout, static_cast<std::int64_t>(n), static_cast<std::int64_t>(k), words, codes);
  return codes;
}

Bytes pack(GptqLayout layout, const Codes& codes, std::size_t n, std::size_t k) {
  Bytes words = unwritten(n * k * static_cast<std::size_t>(layout.bits) / 8);
  pack_gptq_columns(layout, static_cast<std::int64_t>(n), static_cast<std::int64_t>(k), codes, words);
  return words;
}

std::vector<GptqLayout> all_layouts() {
  std::vector<GptqLayout> layouts;
  for (int bits = 1; bits <= 8; ++bits) {
    layouts.push_back({bits, GptqPacking::continuous});
    layouts.push_back({bits, GptqPacking::planar});
  }
  return layouts;
}

std::string describe(GptqLayout layout) {
  return std::to_string(layout.bits) + (layout.packing == GptqPacking::planar ? " bits planar" : " bits continuous");
}

TEST(GptqWords, ThreeBitCodesStraddleWordsAtTenAndTwentyOne) {
  const GptqLayout layout{.bits = 3};
  // One column of 32 codes; each line is the three words that hold only the named bits.
  const auto codes_of = [&](const std::vector<std::uint32_t>& words) {
    return unpack(layout, bytes_of_words(words), 1, 32);
  };
  Codes expected(32, 0);
  expected[10] = 3;
  EXPECT_EQ(codes_of({0xC0000000, 0, 0}), expected);
  expected[10] = 4;
  EXPECT_EQ(codes_of({0, 0x00000001, 0}), expected);
  expected[10] = 0;
  expected[21] = 1;
  EXPECT_EQ(codes_of({0, 0x80000000, 0}), expected);
  expected[21] = 6;
  EXPECT_EQ(codes_of({0, 0, 0x00000003}), expected);
  expected[21] = 0;
  expected[31] = 7;
  EXPECT_EQ(codes_of({0, 0, 0xE0000000}), expected);
}

TEST(GptqWords, PlanarCodesTakeTheirHighBitsFromLaterWords) {
  Codes codes(32, 0);
  codes[0] = 0x1F;
  codes[9] = 0x15;
  EXPECT_EQ(pack({5, GptqPacking::planar}, codes, 1, 32), bytes_of_words({0x0000000F, 0x00000050, 0, 0, 0x00000201}));
  codes[0] = 0x7F;
  codes[9] = 0x55;
  codes[17] = 0x20;
  EXPECT_EQ(pack({7, GptqPacking::planar}, codes, 1, 32),
            bytes_of_words({0x0000000F, 0x00000050, 0, 0, 0x00040003, 0x00000008, 0x00000201}));
}

TEST(GptqWords, ColumnsOfWordsBecomeRowsOfCodes) {
  // [2 words, 2 columns] of 8 nibbles... of 4 bits need 4 word rows for 32 codes: rows 0 to 3 of columns A and B.
  const Bytes words = bytes_of_words({0x76543210, 0x00000001, 0xFEDCBA98, 0, 0, 0, 0, 0xF0000000});
  Codes expected(64, 0);
  for (std::size_t i = 0; i < 16; ++i) expected[i] = static_cast<std::uint8_t>(i);
  expected[32] = 1;
  expected[63] = 15;
  EXPECT_EQ(unpack({4}, words, 2, 32), expected);
  EXPECT_EQ(pack({4}, expected, 2, 32), words);
}

TEST(GptqWords, EveryLayoutAgreesWithItsDefinitionBothWays) {
  Rng random(1);
  for (const GptqLayout layout : all_layouts()) {
    for (const std::size_t n : {1U, 3U, 16U, 63U, 64U, 65U, 130U}) {
      for (const std::size_t k : {32U, 64U, 96U}) {
        SCOPED_TRACE(describe(layout) + ", n " + std::to_string(n) + ", k " + std::to_string(k));
        const Bytes words = random_bytes(random, n * k * static_cast<std::size_t>(layout.bits) / 8);
        const Codes codes = unpack(layout, words, n, k);
        ASSERT_EQ(codes, unpack_by_definition(layout, words, n, k));
        ASSERT_EQ(pack(layout, codes, n, k), words);
      }
    }
  }
}

TEST(GptqWords, PlanarIsContinuousWhereCodesFillWords) {
  Rng random(2);
  for (const int bits : {1, 2, 4, 8}) {
    const Bytes words = random_bytes(random, 10 * 64 * static_cast<std::size_t>(bits) / 8);
    EXPECT_EQ(unpack({bits, GptqPacking::planar}, words, 10, 64), unpack({bits}, words, 10, 64)) << bits;
  }
}

TEST(GptqWords, ExtremeCodesComeBack) {
  for (const GptqLayout layout : all_layouts()) {
    const auto most = static_cast<std::uint8_t>((1U << layout.bits) - 1U);
    Codes codes(70 * 96, 0);
    EXPECT_EQ(unpack(layout, pack(layout, codes, 70, 96), 70, 96), codes) << describe(layout);
    std::fill(codes.begin(), codes.end(), most);
    EXPECT_EQ(unpack(layout, pack(layout, codes, 70, 96), 70, 96), codes) << describe(layout);
    for (std::size_t i = 0; i < codes.size(); i += 2) codes[i] = 0;
    EXPECT_EQ(unpack(layout, pack(layout, codes, 70, 96), 70, 96), codes) << describe(layout);
  }
}

RC_GTEST_PROP(GptqWords, UnpackingUndoesPacking, ()) {
  const GptqLayout layout{*rc::gen::inRange(1, 9), *rc::gen::element(GptqPacking::continuous, GptqPacking::planar)};
  const auto n = *rc::gen::inRange<std::size_t>(0, 200);
  const auto k = 32 * *rc::gen::inRange<std::size_t>(0, 9);
  Rng random(*rc::gen::arbitrary<std::uint64_t>());
  const Codes codes = random_codes(random, n * k, layout.bits);
  RC_ASSERT(unpack(layout, pack(layout, codes, n, k), n, k) == codes);
}

TEST(GptqWords, BandsOfColumnsMakeUpTheWhole) {
  Rng random(3);
  const std::size_t n = 100;
  const std::size_t k = 160;
  for (const GptqLayout layout : all_layouts()) {
    const auto word_rows = k * static_cast<std::size_t>(layout.bits) / 32;
    const Bytes words = random_bytes(random, word_rows * n * 4);
    const Codes whole = unpack(layout, words, n, k);
    Codes joined;
    for (std::size_t first = 0; first < n; first += 17) {
      const std::size_t count = std::min<std::size_t>(17, n - first);
      const Codes band = unpack(layout, column_band(words, word_rows, n, first, count, 4), count, k);
      joined.insert(joined.end(), band.begin(), band.end());
    }
    EXPECT_EQ(joined, whole) << describe(layout);
  }
}

TEST(GptqWords, ACodeThatDoesNotFitIsAnErrorWhereverItStands) {
  for (const GptqLayout layout : all_layouts()) {
    if (layout.bits == 8) continue;
    for (const std::size_t place : {0U, 31U, 32U, 63U, 64U, 127U, 128U, 191U}) {
      Codes codes(2 * 96, 0);
      codes[place] = static_cast<std::uint8_t>(1U << layout.bits);
      EXPECT_EQ(error_code_of([&] { pack(layout, codes, 2, 96); }), ErrorCode::invalid) << describe(layout) << place;
    }
  }
}

TEST(GptqWords, SizesThatMakeNoSenseAreErrors) {
  Codes codes(64);
  Bytes words(32);
  const GptqLayout layout{.bits = 4};
  EXPECT_EQ(error_code_of([&] { unpack_gptq_columns(layout, 2, 33, words, codes); }), ErrorCode::invalid);
  EXPECT_EQ(error_code_of([&] { unpack_gptq_columns(layout, 2, -32, words, codes); }), ErrorCode::invalid);
  EXPECT_EQ(error_code_of([&] { unpack_gptq_columns({.bits = 9}, 2, 32, words, codes); }), ErrorCode::invalid);
  EXPECT_EQ(error_code_of([&] { unpack_gptq_columns({0, GptqPacking::planar}, 2, 32, words, codes); }),
            ErrorCode::invalid);
  EXPECT_EQ(error_code_of([&] { unpack_gptq_columns(layout, 3, 32, words, codes); }), ErrorCode::internal);
  EXPECT_EQ(error_code_of([&] { unpack_gptq_columns(layout, -2, 32, words, codes); }), ErrorCode::internal);
  EXPECT_EQ(error_code_of([&] { unpack_gptq_columns(layout, std::int64_t{1} << 60, 64, words, codes); }),
            ErrorCode::internal);
  EXPECT_EQ(error_code_of([&] { pack_gptq_columns(layout, 2, 32, codes, std::span(words).first(28)); }),
            ErrorCode::internal);
  EXPECT_EQ(error_code_of([&] { pack_gptq_columns(layout, 2, 32, std::span(codes).first(63), words); }),
            ErrorCode::internal);
}

}  // namespace
}  // namespace regauge::layouts
