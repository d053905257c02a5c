#include "formats/layouts/mlx_stream.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/unit/layouts/words.h"

namespace regauge::layouts {
namespace {

Codes unpack(int bits, const Bytes& words, std::size_t rows, std::size_t columns) {
  Codes codes = unwritten_codes(rows * columns);
  unpack_mlx_rows(bits, static_cast<std::int64_t>(rows), static_cast<std::int64_t>(columns), words, codes);
  return codes;
}

Bytes pack(int bits, const Codes& codes, std::size_t rows, std::size_t columns) {
  Bytes words = unwritten(rows * columns * static_cast<std::size_t>(bits) / 8);
  pack_mlx_rows(bits, static_cast<std::int64_t>(rows), static_cast<std::int64_t>(columns), codes, words);
  return words;
}

TEST(MlxStream, ElementsStraddleWordsWhereTheWidthSaysSo) {
  Codes codes(32, 0);
  codes[6] = 31;  // 5 bits: stream bits 30 to 34
  EXPECT_EQ(pack(5, codes, 1, 32), bytes_of_words({0xC0000000, 0x00000007, 0, 0, 0}));
  codes.assign(16, 0);
  codes[5] = 63;  // 6 bits: stream bits 30 to 35
  EXPECT_EQ(pack(6, codes, 1, 16), bytes_of_words({0xC0000000, 0x0000000F, 0}));
  codes.assign(32, 0);
  codes[21] = 7;  // 3 bits: stream bits 63 to 65
  EXPECT_EQ(pack(3, codes, 1, 32), bytes_of_words({0, 0x80000000, 0x00000003}));
  EXPECT_EQ(pack(4, {1, 2, 3, 4, 5, 6, 7, 8}, 1, 8), bytes_of_words({0x87654321}));
}

TEST(MlxStream, EveryWidthReadsItsBitsInOrder) {
  Rng random(1);
  for (int bits = 1; bits <= 8; ++bits) {
    const std::size_t columns = 96;
    const auto row_bytes = static_cast<std::size_t>(mlx_row_bytes(bits, columns));
    EXPECT_EQ(row_bytes, columns * static_cast<std::size_t>(bits) / 8);
    const Bytes words = random_bytes(random, 5 * row_bytes);
    const Codes codes = unpack(bits, words, 5, columns);
    for (std::size_t row = 0; row < 5; ++row) {
      const auto row_words = std::span(words).subspan(row * row_bytes, row_bytes);
      for (std::size_t c = 0; c < columns; ++c) {
        ASSERT_EQ(codes[row * columns + c], stream_bits(row_words, c * static_cast<std::size_t>(bits), bits))
            << bits << " bits, row " << row << ", column " << c;
      }
    }
    EXPECT_EQ(pack(bits, codes, 5, columns), words);
  }
}

RC_GTEST_PROP(MlxStream, UnpackingUndoesPacking, ()) {
  const int bits = *rc::gen::inRange(1, 9);
  const auto rows = *rc::gen::inRange<std::size_t>(0, 20);
  const auto columns = 32 * *rc::gen::inRange<std::size_t>(0, 12);
  Rng random(*rc::gen::arbitrary<std::uint64_t>());
  const Codes codes = random_codes(random, rows * columns, bits);
  RC_ASSERT(unpack(bits, pack(bits, codes, rows, columns), rows, columns) == codes);
}

TEST(MlxStream, RowsMustFillWholeWords) {
  EXPECT_EQ(mlx_row_bytes(4, 8), 4);
  EXPECT_EQ(mlx_row_bytes(8, 4), 4);
  EXPECT_EQ(mlx_row_bytes(6, 16), 12);
  EXPECT_EQ(mlx_row_bytes(1, 32), 4);
  for (const auto& [bits, columns] :
       {std::pair{4, 4}, {8, 2}, {6, 8}, {5, 16}, {3, 8}, {1, 16}, {4, -8}, {0, 32}, {9, 32}}) {
    const auto call = [b = bits, c = columns] { (void)mlx_row_bytes(b, c); };  // clang 14 captures no bindings by name
    EXPECT_EQ(error_code_of(call), ErrorCode::invalid) << bits << " " << columns;
  }
}

TEST(MlxStream, SizesThatMakeNoSenseAreErrors) {
  Codes codes(64);
  Bytes words(32);
  EXPECT_EQ(error_code_of([&] { unpack_mlx_rows(4, 1, 32, words, codes); }), ErrorCode::internal);
  EXPECT_EQ(error_code_of([&] { unpack_mlx_rows(4, 2, 32, words, std::span(codes).first(63)); }), ErrorCode::internal);
  EXPECT_EQ(error_code_of([&] { pack_mlx_rows(5, 2, 32, codes, words); }), ErrorCode::internal);
  codes[40] = 16;
  EXPECT_EQ(error_code_of([&] { pack_mlx_rows(4, 2, 32, codes, words); }), ErrorCode::invalid);
}

}  // namespace
}  // namespace regauge::layouts
