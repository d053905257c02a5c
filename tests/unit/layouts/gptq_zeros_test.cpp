#include <string>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "formats/layouts/gptq_words.h"
#include "tests/unit/layouts/words.h"

namespace regauge::layouts {
namespace {

Codes unpack(GptqLayout layout, ZeroConvention convention, const Bytes& words) {
  Codes zeros = unwritten_codes(words.size() * 8 / static_cast<std::size_t>(layout.bits));
  unpack_gptq_zeros(layout, convention, words, zeros);
  return zeros;
}

Bytes pack(GptqLayout layout, ZeroConvention convention, const Codes& zeros) {
  Bytes words = unwritten(zeros.size() * static_cast<std::size_t>(layout.bits) / 8);
  pack_gptq_zeros(layout, convention, zeros, words);
  return words;
}

Bytes converted(GptqLayout layout, ZeroConvention from, ZeroConvention to, Bytes words) {
  convert_gptq_zeros(layout, from, to, words);
  return words;
}

TEST(GptqZeros, BorrowFromTheNextFieldIsUndone) {
  // Zero points 0 and 8: the byte 0x80 stored minus one in every field of the word is 0x6F, whose fields are 15 and 6.
  const Codes zeros = {0, 8, 1, 1, 1, 1, 1, 1};
  const Bytes v2 = bytes_of_words({0x11111180});
  const Bytes v1 = bytes_of_words({0x0000006F});
  EXPECT_EQ(pack({4}, ZeroConvention::v2, zeros), v2);
  EXPECT_EQ(pack({4}, ZeroConvention::v1, zeros), v1);
  EXPECT_EQ(unpack({4}, ZeroConvention::v1, v1), zeros);
  EXPECT_EQ(converted({4}, ZeroConvention::v1, ZeroConvention::v2, v1), v2);
  EXPECT_EQ(converted({4}, ZeroConvention::v2, ZeroConvention::v1, v2), v1);
}

TEST(GptqZeros, ABorrowOutOfTheLastFieldLeavesTheNextWordAlone) {
  EXPECT_EQ(pack({8}, ZeroConvention::v1, {1, 1, 1, 0, 5, 5, 5, 5}), bytes_of_words({0xFF000000, 0x04040404}));
  EXPECT_EQ(unpack({8}, ZeroConvention::v1, bytes_of_words({0xFF000000, 0x04040404})), (Codes{1, 1, 1, 0, 5, 5, 5, 5}));
  EXPECT_EQ(pack({2}, ZeroConvention::v1, Codes(32, 0)), bytes_of_words({0xAAAAAAAB, 0xAAAAAAAB}));
}

TEST(GptqZeros, SymmetricFilesHoldTheMiddleOrOneLess) {
  EXPECT_EQ(pack({4}, ZeroConvention::v1, Codes(8, 8)), bytes_of_words({0x77777777}));
  EXPECT_EQ(pack({8}, ZeroConvention::v1, Codes(4, 128)), bytes_of_words({0x7F7F7F7F}));
  EXPECT_EQ(pack({2}, ZeroConvention::v1, Codes(16, 2)), bytes_of_words({0x55555555}));
  EXPECT_EQ(pack({3}, ZeroConvention::v1, Codes(32, 4)), bytes_of_words({0xDB6DB6DB, 0xB6DB6DB6, 0x6DB6DB6D}));
}

TEST(GptqZeros, ThreeBitFieldsWrapOnTheirOwn) {
  Codes zeros(32, 4);
  zeros[10] = 0;  // the field that words 0 and 1 share
  zeros[31] = 0;
  Codes stored(32, 3);
  stored[10] = 7;
  stored[31] = 7;
  EXPECT_EQ(unpack({3}, ZeroConvention::v2, pack({3}, ZeroConvention::v1, zeros)), stored);
  EXPECT_EQ(unpack({3}, ZeroConvention::v1, pack({3}, ZeroConvention::v2, stored)), zeros);
}

TEST(GptqZeros, OldThreeBitFilesUseConstantsInTheWrongOrder) {
  // 0x24924924, 0x49249249, 0x92492492 are 32 fields of 4; the constants come off in the order word 0, 2, 1 would need.
  EXPECT_EQ(pack({3}, ZeroConvention::v2, Codes(32, 4)), bytes_of_words({0x24924924, 0x49249249, 0x92492492}));
  EXPECT_EQ(pack({3}, ZeroConvention::v1_legacy3, Codes(32, 4)), bytes_of_words({0x00000000, 0xB6DB6DB7, 0x49249249}));
  EXPECT_EQ(unpack({3}, ZeroConvention::v1_legacy3, bytes_of_words({0x00000000, 0xB6DB6DB7, 0x49249249})),
            Codes(32, 4));
}

TEST(GptqZeros, PlanarFieldsWrapOnTheirOwn) {
  for (const int bits : {3, 5, 6, 7}) {
    const GptqLayout layout{bits, GptqPacking::planar};
    const auto most = static_cast<std::uint8_t>((1U << bits) - 1U);
    Codes zeros(64, 1);
    zeros[5] = 0;
    zeros[63] = 0;
    Codes stored(64, 0);
    stored[5] = most;
    stored[63] = most;
    EXPECT_EQ(unpack(layout, ZeroConvention::v2, pack(layout, ZeroConvention::v1, zeros)), stored) << bits;
    EXPECT_EQ(unpack(layout, ZeroConvention::v1, pack(layout, ZeroConvention::v1, zeros)), zeros) << bits;
  }
}

TEST(GptqZeros, PackingIsThatOfColumnsOfOneWordRow) {
  // qzeros packs along its rows what qweight packs along its columns: one column of k codes is a row of k zero points.
  Rng random(4);
  for (int bits = 1; bits <= 8; ++bits) {
    for (const auto packing : {GptqPacking::continuous, GptqPacking::planar}) {
      const Bytes words = random_bytes(random, 64 * static_cast<std::size_t>(bits));
      Codes codes = unwritten_codes(512);
      unpack_gptq_columns({bits, packing}, 1, 512, words, codes);
      EXPECT_EQ(unpack({bits, packing}, ZeroConvention::v2, words), codes) << bits;
    }
  }
}

TEST(GptqZeros, TheQuantumIsAWordWhereCodesFillWords) {
  EXPECT_EQ(gptq_zeros_quantum({2}), 16);
  EXPECT_EQ(gptq_zeros_quantum({4}), 8);
  EXPECT_EQ(gptq_zeros_quantum({8}), 4);
  EXPECT_EQ(gptq_zeros_quantum({3}), 32);
  for (const int bits : {3, 5, 6, 7}) EXPECT_EQ(gptq_zeros_quantum({bits, GptqPacking::planar}), 32);
  EXPECT_EQ(gptq_zeros_quantum({4, GptqPacking::planar}), 8);
}

TEST(GptqZeros, RunsOfOneQuantumMakeUpTheRow) {
  Rng random(5);
  for (const GptqLayout layout :
       {GptqLayout{2}, GptqLayout{3}, GptqLayout{4}, GptqLayout{8}, GptqLayout{6, GptqPacking::planar}}) {
    const auto quantum = static_cast<std::size_t>(gptq_zeros_quantum(layout));
    const auto quantum_bytes = quantum * static_cast<std::size_t>(layout.bits) / 8;
    const Bytes words = random_bytes(random, 192 * static_cast<std::size_t>(layout.bits));  // 1536 zero points
    for (const auto convention : {ZeroConvention::v1, ZeroConvention::v2}) {
      Codes joined;
      for (std::size_t first = 0; first < words.size(); first += quantum_bytes) {
        const auto run = std::span(words).subspan(first, quantum_bytes);
        const Codes zeros = unpack(layout, convention, Bytes(run.begin(), run.end()));
        joined.insert(joined.end(), zeros.begin(), zeros.end());
      }
      EXPECT_EQ(joined, unpack(layout, convention, words)) << layout.bits;
    }
  }
}

struct Case {
  GptqLayout layout;
  ZeroConvention convention = ZeroConvention::v2;
};

Case any_case() {
  const GptqLayout layout{*rc::gen::inRange(2, 9), *rc::gen::element(GptqPacking::continuous, GptqPacking::planar)};
  if (layout == GptqLayout{3}) {
    return {layout, *rc::gen::element(ZeroConvention::v1, ZeroConvention::v2, ZeroConvention::v1_legacy3)};
  }
  return {layout, *rc::gen::element(ZeroConvention::v1, ZeroConvention::v2)};
}

RC_GTEST_PROP(GptqZeros, PackingAndUnpackingUndoEachOther, ()) {
  const auto [layout, convention] = any_case();
  const auto runs = *rc::gen::inRange<std::size_t>(0, 200);
  Rng random(*rc::gen::arbitrary<std::uint64_t>());
  const auto count = runs * static_cast<std::size_t>(gptq_zeros_quantum(layout));
  const Codes zeros = random_codes(random, count, layout.bits);
  const Bytes words = pack(layout, convention, zeros);
  RC_ASSERT(unpack(layout, convention, words) == zeros);
  const Bytes any = random_bytes(random, words.size());
  RC_ASSERT(pack(layout, convention, unpack(layout, convention, any)) == any);
}

RC_GTEST_PROP(GptqZeros, ConversionKeepsTheZeroPointsAndGoesBack, ()) {
  const auto [layout, from] = any_case();
  const auto to = layout == GptqLayout{3}
                      ? *rc::gen::element(ZeroConvention::v1, ZeroConvention::v2, ZeroConvention::v1_legacy3)
                      : *rc::gen::element(ZeroConvention::v1, ZeroConvention::v2);
  Rng random(*rc::gen::arbitrary<std::uint64_t>());
  const Bytes words =
      random_bytes(random, static_cast<std::size_t>(layout.bits) * 4 * *rc::gen::inRange<std::size_t>(0, 40));
  const Bytes there = converted(layout, from, to, words);
  RC_ASSERT(unpack(layout, to, there) == unpack(layout, from, words));
  RC_ASSERT(converted(layout, to, from, there) == words);
}

TEST(GptqZeros, ConventionsThatALayoutCannotHaveAreErrors) {
  Bytes words(12);
  const auto refused = [&](GptqLayout layout, ZeroConvention convention) {
    return error_code_of([&] { convert_gptq_zeros(layout, ZeroConvention::v2, convention, words); }) ==
           ErrorCode::invalid;
  };
  EXPECT_TRUE(refused({4}, ZeroConvention::v1_legacy3));
  EXPECT_TRUE(refused({3, GptqPacking::planar}, ZeroConvention::v1_legacy3));
  EXPECT_TRUE(refused({1}, ZeroConvention::v1));
  Codes zeros(32);
  EXPECT_EQ(
      error_code_of([&] { unpack_gptq_zeros({.bits = 1}, ZeroConvention::v1, std::span(words).first(4), zeros); }),
      ErrorCode::invalid);
}

TEST(GptqZeros, SizesThatMakeNoSenseAreErrors) {
  Bytes words(12);
  Codes zeros(32);
  EXPECT_EQ(error_code_of(
                [&] { convert_gptq_zeros({3}, ZeroConvention::v1, ZeroConvention::v2, std::span(words).first(8)); }),
            ErrorCode::invalid);
  EXPECT_EQ(error_code_of(
                [&] { convert_gptq_zeros({4}, ZeroConvention::v1, ZeroConvention::v2, std::span(words).first(7)); }),
            ErrorCode::invalid);
  EXPECT_EQ(error_code_of([&] { unpack_gptq_zeros({3}, ZeroConvention::v1, words, std::span(zeros).first(16)); }),
            ErrorCode::invalid);
  EXPECT_EQ(error_code_of([&] { unpack_gptq_zeros({4}, ZeroConvention::v1, words, zeros); }), ErrorCode::internal);
  EXPECT_EQ(error_code_of([&] { pack_gptq_zeros({4}, ZeroConvention::v1, zeros, words); }), ErrorCode::internal);
  EXPECT_EQ(error_code_of([&] { unpack_gptq_zeros({12}, ZeroConvention::v1, words, zeros); }), ErrorCode::invalid);
  zeros[31] = 8;
  EXPECT_EQ(error_code_of([&] { pack_gptq_zeros({3}, ZeroConvention::v1, zeros, words); }), ErrorCode::invalid);
}

}  // namespace
}  // namespace regauge::layouts
