#include "formats/layouts/marlin.h"

#include <array>
#include <numeric>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/unit/layouts/words.h"

namespace regauge::layouts {
namespace {

// The weight map as the writers' python states it: a permutation list of a tile's 1024 codes, of which every run of one
// word is interleaved and packed. The library uses the closed form, so this is a second opinion.
// Source: IST-DASLab/marlin marlin/__init__.py; vllm-project/vllm quantization/utils/marlin_utils_test.py.
struct Element {
  std::size_t k;
  std::size_t n;
};

std::vector<Element> tile_in_stream_order(int bits) {
  std::vector<Element> natural;
  for (std::size_t lane = 0; lane < 32; ++lane) {
    for (std::size_t sub_tile = 0; sub_tile < 4; ++sub_tile) {
      for (std::size_t half = 0; half < 2; ++half) {
        const std::size_t first_row = 2 * (lane % 4);
        for (const std::size_t row : {first_row, first_row + 1, first_row + 8, first_row + 9}) {
          natural.push_back({row, 16 * sub_tile + lane / 4 + 8 * half});
        }
      }
    }
  }
  const std::vector<std::size_t> interleave =
      bits == 4 ? std::vector<std::size_t>{0, 2, 4, 6, 1, 3, 5, 7} : std::vector<std::size_t>{0, 2, 1, 3};
  std::vector<Element> stored;
  for (std::size_t run = 0; run < natural.size(); run += interleave.size()) {
    for (const std::size_t i : interleave) stored.push_back(natural[run + i]);
  }
  return stored;
}

Codes unpack_by_definition(int bits, const Bytes& words, std::size_t n, std::size_t k) {
  Codes codes(n * k);
  const auto order = tile_in_stream_order(bits);
  std::size_t at = 0;
  for (std::size_t tile_k = 0; tile_k < k; tile_k += 16) {
    for (std::size_t tile_n = 0; tile_n < n; tile_n += 64) {
      for (const Element& element : order) {
        codes[(tile_n + element.n) * k + tile_k + element.k] = stream_bits(words, at, bits);
        at += static_cast<std::size_t>(bits);
      }
    }
  }
  return codes;
}

Codes unpack(int bits, const Bytes& words, std::size_t n, std::size_t k) {
  Codes codes = unwritten_codes(n * k);
  unpack_marlin_columns(bits, static_cast<std::int64_t>(n), static_cast<std::int64_t>(k), words, codes);
  return codes;
}

Bytes pack(int bits, const Codes& codes, std::size_t n, std::size_t k) {
  Bytes words = unwritten(n * k * static_cast<std::size_t>(bits) / 8);
  pack_marlin_columns(bits, static_cast<std::int64_t>(n), static_cast<std::int64_t>(k), codes, words);
  return words;
}

TEST(MarlinWeights, TheClosedFormIsThePermutationListBothWays) {
  Rng random(1);
  for (const int bits : {4, 8}) {
    for (const std::size_t n : {64U, 128U, 256U}) {
      for (const std::size_t k : {16U, 32U, 144U}) {
        const Bytes words = random_bytes(random, n * k * static_cast<std::size_t>(bits) / 8);
        const Codes codes = unpack(bits, words, n, k);
        ASSERT_EQ(codes, unpack_by_definition(bits, words, n, k)) << bits << " bits, " << n << " by " << k;
        ASSERT_EQ(pack(bits, codes, n, k), words) << bits << " bits, " << n << " by " << k;
      }
    }
  }
}

RC_GTEST_PROP(MarlinWeights, UnpackingUndoesPacking, ()) {
  const int bits = *rc::gen::element(4, 8);
  const auto n = 64 * *rc::gen::inRange<std::size_t>(0, 5);
  const auto k = 16 * *rc::gen::inRange<std::size_t>(0, 9);
  Rng random(*rc::gen::arbitrary<std::uint64_t>());
  const Codes codes = random_codes(random, n * k, bits);
  RC_ASSERT(unpack(bits, pack(bits, codes, n, k), n, k) == codes);
}

TEST(MarlinWeights, SizesAndWidthsThatMakeNoSenseAreErrors) {
  Codes codes(64 * 16);
  Bytes words(512);
  EXPECT_EQ(error_code_of([&] { unpack_marlin_columns(3, 64, 16, words, codes); }), ErrorCode::invalid);
  EXPECT_EQ(error_code_of([&] { unpack_marlin_columns(4, 32, 32, words, codes); }), ErrorCode::invalid);
  EXPECT_EQ(error_code_of([&] { unpack_marlin_columns(4, 128, 8, words, codes); }), ErrorCode::invalid);
  EXPECT_EQ(error_code_of([&] { unpack_marlin_columns(8, 64, 16, words, codes); }), ErrorCode::internal);
  EXPECT_EQ(error_code_of([&] { pack_marlin_columns(4, 128, 16, codes, words); }), ErrorCode::internal);
  codes[1023] = 16;
  EXPECT_EQ(error_code_of([&] { pack_marlin_columns(4, 64, 16, codes, words); }), ErrorCode::invalid);
}

std::vector<std::uint16_t> counting(std::size_t count) {
  std::vector<std::uint16_t> values(count);
  std::iota(values.begin(), values.end(), std::uint16_t{0});
  return values;
}

TEST(MarlinScales, GroupedRunsAreTransposedAndSingleRunsDealtInPairs) {
  std::vector<std::uint16_t> out(128);
  permute_marlin_scales(MarlinScaleOrder::grouped, counting(128), out);
  for (std::uint16_t p = 0; p < 8; ++p) {
    EXPECT_EQ(out[p], 8 * p);
    EXPECT_EQ(out[64 + 8 + p], 64 + 8 * p + 1);
  }
  permute_marlin_scales(MarlinScaleOrder::single, counting(128), out);
  EXPECT_EQ(std::vector(out.begin(), out.begin() + 16),
            (std::vector<std::uint16_t>{0, 1, 8, 9, 16, 17, 24, 25, 2, 3, 10, 11, 18, 19, 26, 27}));
  EXPECT_EQ(out[32], 32);
  EXPECT_EQ(out[127], 127);
}

TEST(MarlinScales, RestoringUndoesPermuting) {
  for (const auto order : {MarlinScaleOrder::grouped, MarlinScaleOrder::single}) {
    std::vector<std::uint16_t> permuted(192, 0xA5A5);
    std::vector<std::uint16_t> restored(192, 0xA5A5);
    permute_marlin_scales(order, counting(192), permuted);
    EXPECT_NE(permuted, counting(192));
    restore_marlin_scales(order, permuted, restored);
    EXPECT_EQ(restored, counting(192));
  }
}

TEST(MarlinScales, AGroupAsLargeAsTheRowIsSingle) {
  EXPECT_EQ(marlin_scale_order(-1, 256), MarlinScaleOrder::single);
  EXPECT_EQ(marlin_scale_order(128, 128), MarlinScaleOrder::single);
  EXPECT_EQ(marlin_scale_order(128, 64), MarlinScaleOrder::single);
  EXPECT_EQ(marlin_scale_order(128, 256), MarlinScaleOrder::grouped);
}

TEST(MarlinScales, RunsThatAreNotWholeAreErrors) {
  std::vector<std::uint16_t> values(96);
  EXPECT_EQ(error_code_of([&] { permute_marlin_scales(MarlinScaleOrder::grouped, counting(96), values); }),
            ErrorCode::invalid);
  EXPECT_EQ(error_code_of([&] { restore_marlin_scales(MarlinScaleOrder::single, counting(80), values); }),
            ErrorCode::invalid);
  EXPECT_EQ(error_code_of([&] { restore_marlin_scales(MarlinScaleOrder::single, counting(64), values); }),
            ErrorCode::internal);
}

TEST(MarlinZeros, AreTransposedInterleavedAndPacked) {
  Codes zeros(64, 0);
  zeros[16] = 15;  // transposed to place 2, interleaved to slot 1 of word 0
  Bytes words(32);
  pack_marlin_zeros(4, zeros, words);
  std::vector<std::uint32_t> expected(8, 0);
  expected[0] = 0xF0;
  EXPECT_EQ(words, bytes_of_words(expected));
  zeros = Codes(64, 0);
  zeros[8] = 255;  // transposed to place 1, interleaved to slot 2 of word 0
  words.resize(64);
  pack_marlin_zeros(8, zeros, words);
  expected.assign(16, 0);
  expected[0] = 0x00FF0000;
  EXPECT_EQ(words, bytes_of_words(expected));
}

TEST(MarlinZeros, UnpackingUndoesPacking) {
  Rng random(2);
  for (const int bits : {4, 8}) {
    const Codes zeros = random_codes(random, 320, bits);
    Bytes words = unwritten(zeros.size() * static_cast<std::size_t>(bits) / 8);
    pack_marlin_zeros(bits, zeros, words);
    Codes back = unwritten_codes(zeros.size());
    unpack_marlin_zeros(bits, words, back);
    EXPECT_EQ(back, zeros);
  }
}

TEST(MarlinZeros, SizesAndWidthsThatMakeNoSenseAreErrors) {
  Codes zeros(64);
  Bytes words(32);
  EXPECT_EQ(error_code_of([&] { unpack_marlin_zeros(2, words, zeros); }), ErrorCode::invalid);
  EXPECT_EQ(error_code_of([&] { unpack_marlin_zeros(4, words, std::span(zeros).first(32)); }), ErrorCode::invalid);
  EXPECT_EQ(error_code_of([&] { unpack_marlin_zeros(8, words, zeros); }), ErrorCode::internal);
  zeros[63] = 16;
  EXPECT_EQ(error_code_of([&] { pack_marlin_zeros(4, zeros, words); }), ErrorCode::invalid);
}

TEST(ActOrder, ColumnsOfOneGroupKeepTheirOrder) {
  const std::vector<std::int32_t> group_index = {1, 0, 2, 0, 1, 0};
  const auto sort = act_order_sort(group_index);
  EXPECT_EQ(sort, (std::vector<std::int32_t>{1, 3, 5, 0, 4, 2}));
  std::vector<std::int32_t> sorted(6);
  sort_columns(sort, group_index, sorted);
  EXPECT_EQ(sorted, (std::vector<std::int32_t>{0, 0, 0, 1, 1, 2}));
  std::vector<std::int32_t> natural(6);
  unsort_columns(sort, sorted, natural);
  EXPECT_EQ(natural, group_index);
}

TEST(ActOrder, CodesFollowTheirColumns) {
  const std::vector<std::int32_t> sort = {2, 0, 1};
  const Codes row = {10, 11, 12};
  Codes sorted(3);
  sort_columns(sort, row, sorted);
  EXPECT_EQ(sorted, (Codes{12, 10, 11}));
  Codes natural(3);
  unsort_columns(sort, sorted, natural);
  EXPECT_EQ(natural, row);
  EXPECT_EQ(error_code_of([&] { sort_columns(sort, std::span(row).first(2), sorted); }), ErrorCode::internal);
  EXPECT_EQ(error_code_of([&] { unsort_columns(sort, row, std::span(natural).first(2)); }), ErrorCode::internal);
}

TEST(ActOrder, SortIndicesThatAreNoPermutationAreMalformed) {
  EXPECT_NO_THROW(require_permutation(std::vector<std::int32_t>{2, 0, 1}));
  EXPECT_NO_THROW(require_permutation({}));
  for (const auto& bad : {std::vector<std::int32_t>{0, 0, 1}, {0, 1, 3}, {-1, 0, 1}, {0, 1, INT32_MIN}}) {
    EXPECT_EQ(error_code_of([&] { require_permutation(bad); }), ErrorCode::malformed);
  }
}

}  // namespace
}  // namespace regauge::layouts
