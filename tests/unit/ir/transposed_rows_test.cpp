#include "ir/transposed_rows.h"

#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/golden.h"

namespace regauge {
namespace {

/// A file of `lead` bytes, then element i holding the number i.
template <typename T>
std::shared_ptr<const File> counting_file(const testing::ScratchDir& folder, std::size_t lead, std::size_t count) {
  std::vector<T> values(count);
  std::iota(values.begin(), values.end(), T{0});
  std::vector<std::byte> bytes(lead + count * sizeof(T));
  std::memcpy(bytes.data() + lead, values.data(), count * sizeof(T));
  testing::write_whole_file(folder / "matrix", bytes);
  return std::make_shared<const File>(File::open(folder / "matrix"));
}

template <typename T>
class TransposedRowsOf : public ::testing::Test {};
using Elements = ::testing::Types<std::uint8_t, std::uint16_t, std::uint32_t, std::uint64_t>;
TYPED_TEST_SUITE(TransposedRowsOf, Elements);

TYPED_TEST(TransposedRowsOf, EveryBandHoldsTheColumnsOfTheStoredMatrix) {
  constexpr std::int64_t kStoredRows = 5;
  constexpr std::int64_t kStoredColumns = 43;  // more than one tile
  const testing::ScratchDir folder;
  const TransposedRows rows(counting_file<TypeParam>(folder, 3, kStoredRows * kStoredColumns), 3, kStoredRows,
                            kStoredColumns, sizeof(TypeParam));
  ASSERT_EQ(rows.rows(), kStoredColumns);
  for (const RowRange range : {RowRange{0, kStoredColumns}, RowRange{0, 1}, RowRange{40, 43}, RowRange{7, 41}}) {
    std::vector<TypeParam> band(static_cast<std::size_t>(range.size() * kStoredRows));
    rows.read(range, std::as_writable_bytes(std::span(band)));
    for (std::int64_t i = 0; i < range.size(); ++i) {
      for (std::int64_t j = 0; j < kStoredRows; ++j) {
        ASSERT_EQ(band[static_cast<std::size_t>(i * kStoredRows + j)],
                  static_cast<TypeParam>(j * kStoredColumns + range.begin + i))
            << range.begin << " " << i << " " << j;
      }
    }
  }
}

TYPED_TEST(TransposedRowsOf, BandsOfManyBlocksAndOddEdgesHoldThemToo) {
  // Blocks of 64 stored rows and tiles of 32, neither of which divides these.
  constexpr std::int64_t kStoredRows = 197;
  constexpr std::int64_t kStoredColumns = 8'203;
  const testing::ScratchDir folder;
  const TransposedRows rows(counting_file<TypeParam>(folder, 1, kStoredRows * kStoredColumns), 1, kStoredRows,
                            kStoredColumns, sizeof(TypeParam));
  for (const RowRange range : {RowRange{0, kStoredColumns}, RowRange{1, 60}, RowRange{8'170, 8'203}}) {
    std::vector<TypeParam> band(static_cast<std::size_t>(range.size() * kStoredRows));
    rows.read(range, std::as_writable_bytes(std::span(band)));
    std::vector<TypeParam> expected;
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      for (std::int64_t j = 0; j < kStoredRows; ++j) expected.push_back(static_cast<TypeParam>(j * kStoredColumns + i));
    }
    ASSERT_TRUE(band == expected) << range.begin;
  }
}

TYPED_TEST(TransposedRowsOf, AMatrixIsTurnedWhicheverOfItsSidesIsLonger) {
  for (const auto& [rows, columns] : {std::pair{1, 7}, {7, 1}, {33, 130}, {130, 33}, {64, 64}, {3, 1000}, {1000, 3}}) {
    std::vector<TypeParam> from(static_cast<std::size_t>(rows * columns));
    std::iota(from.begin(), from.end(), TypeParam{0});
    std::vector<TypeParam> to(from.size());
    transpose(rows, columns, sizeof(TypeParam), std::as_bytes(std::span(from)), std::as_writable_bytes(std::span(to)));
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < columns; ++c) {
        ASSERT_EQ(to[static_cast<std::size_t>(c * rows + r)], from[static_cast<std::size_t>(r * columns + c)])
            << rows << " x " << columns << " at " << r << ", " << c;
      }
    }
  }
}

TYPED_TEST(TransposedRowsOf, ATileIsTurnedIntoItsPlaceAndNothingElseIsTouched) {
  constexpr auto kUntouched = TypeParam{77};
  for (const auto& [rows, columns] : {std::pair{1, 7}, {32, 16}, {48, 130}, {130, 33}, {64, 64}}) {
    for (const std::size_t wider : {0U, 3U, 16U, 64U}) {
      for (const std::size_t first : {0U, 1U, 4U, 16U}) {
        std::vector<TypeParam> from(static_cast<std::size_t>(rows * columns));
        std::iota(from.begin(), from.end(), TypeParam{0});
        const std::size_t stride = static_cast<std::size_t>(rows) + wider;
        std::vector<TypeParam> to(first + stride * static_cast<std::size_t>(columns), kUntouched);
        std::vector<TypeParam> expected = to;
        for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r) {
          for (std::size_t c = 0; c < static_cast<std::size_t>(columns); ++c)
            expected[first + c * stride + r] = from[r * static_cast<std::size_t>(columns) + c];
        }
        transpose(rows, columns, sizeof(TypeParam), std::as_bytes(std::span(from)),
                  std::as_writable_bytes(std::span(to).subspan(first)), stride * sizeof(TypeParam));
        ASSERT_TRUE(to == expected) << rows << " x " << columns << " in " << stride << " from " << first;
      }
    }
  }
}

TEST(TransposedRows, AFileThatBecameShorterIsAnIoError) {
  const testing::ScratchDir folder;
  const TransposedRows rows(counting_file<std::uint16_t>(folder, 0, 11), 0, 3, 4, 2);
  std::vector<std::byte> band(3 * 2);
  EXPECT_NO_THROW(rows.read({0, 1}, band));
  try {
    rows.read({3, 4}, band);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::io);
  }
}

TEST(TransposedRows, OtherElementSizesAreOurMistake) {
  const testing::ScratchDir folder;
  const auto file = counting_file<std::uint8_t>(folder, 0, 12);
  EXPECT_THROW(TransposedRows(file, 0, 2, 2, 3), Error);
  std::vector<std::byte> twelve(12);
  EXPECT_THROW(transpose(2, 2, 3, twelve, twelve), Error);
  EXPECT_THROW(transpose(2, 2, 2, twelve, twelve), Error);
  const auto four = std::span(twelve).first(4);
  EXPECT_THROW(transpose(2, 2, 1, four, twelve, 1), Error) << "rows would overlap";
  EXPECT_THROW(transpose(2, 2, 1, four, twelve, 11), Error) << "the last row would end behind the band";
}

}  // namespace
}  // namespace regauge
