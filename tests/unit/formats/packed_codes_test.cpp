// RowSource::packed() of the formats that have it, against their codes packed anew.

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/bits.h"
#include "formats/format.h"
#include "formats/gptq/rows.h"
#include "tests/support/golden.h"

namespace regauge {
namespace {

using layouts::GptqPacking;

/// The codes of rows [range), packed row by row.
std::vector<std::byte> packed_by_definition(const RowSource& codes, RowRange range, int bits) {
  std::vector<std::uint8_t> unpacked(static_cast<std::size_t>(range.size()) * codes.row_bytes());
  codes.read(range, std::as_writable_bytes(std::span(unpacked)));
  std::vector<std::byte> stream(packed_bytes(codes.row_bytes(), bits) * static_cast<std::size_t>(range.size()));
  const std::size_t row_bytes = stream.size() / static_cast<std::size_t>(range.size());
  for (std::size_t r = 0; r < static_cast<std::size_t>(range.size()); ++r)
    pack_bits(std::span(unpacked).subspan(r * codes.row_bytes(), codes.row_bytes()), bits,
              std::span(stream).subspan(r * row_bytes, row_bytes));
  return stream;
}

void expect_same_stream(const RowSource& codes, int bits, const std::string& what) {
  const RowSourcePtr packed = codes.packed();
  ASSERT_NE(packed, nullptr) << what;
  ASSERT_EQ(packed->rows(), codes.rows()) << what;
  ASSERT_EQ(packed->row_bytes(), packed_bytes(codes.row_bytes(), bits)) << what;
  const std::int64_t n = codes.rows();
  for (const RowRange range : {RowRange{0, n}, RowRange{n - 1, n}, RowRange{n / 3, n / 2 + 1}}) {
    std::vector<std::byte> stream(static_cast<std::size_t>(range.size()) * packed->row_bytes());
    packed->read(range, stream);
    EXPECT_TRUE(stream == packed_by_definition(codes, range, bits)) << what << " from " << range.begin;
  }
}

TEST(PackedCodes, GptqWordsOfEveryWidthAreTheStreamUnlessTheyAreBitPlanes) {
  constexpr std::int64_t kN = 100;
  constexpr std::int64_t kK = 96;
  const testing::ScratchDir folder;
  std::vector<std::byte> words(static_cast<std::size_t>(kN * kK) + 1);
  std::mt19937 random(7);
  for (std::byte& byte : words) byte = static_cast<std::byte>(random());
  testing::write_whole_file(folder / "words", words);
  const auto file = std::make_shared<const File>(File::open(folder / "words"));
  for (int bits = 1; bits <= 8; ++bits) {
    const gptq::QweightRows rows({file, 1}, {bits, GptqPacking::continuous}, kN, kK);
    expect_same_stream(rows, bits, std::to_string(bits) + " bits");
    const SliceRows slice(std::make_shared<gptq::QweightRows>(
                              gptq::ArrayAt{file, 1}, layouts::GptqLayout{bits, GptqPacking::continuous}, kN, kK),
                          {20, 61});
    expect_same_stream(slice, bits, "a slice of " + std::to_string(bits) + " bits");
    EXPECT_EQ(gptq::QweightRows({file, 1}, {bits, GptqPacking::planar}, kN, kK).packed(), nullptr);
  }
}

class PackedCodesOf : public ::testing::TestWithParam<const char*> {};

TEST_P(PackedCodesOf, GoldenModulesAreTheirCodesPackedAnew) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(path, std::string("qwen35_family/") + GetParam());
  const Checkpoint checkpoint = open_checkpoint(path);
  int modules = 0;
  for (const Tensor& tensor : checkpoint.tensors) {
    const auto* grouped = std::get_if<Grouped>(&tensor.encoding);
    if (grouped == nullptr) continue;
    expect_same_stream(*tensor.part(PartId::codes).rows, grouped->bits, tensor.name);
    ++modules;
  }
  EXPECT_GT(modules, 20);
}

INSTANTIATE_TEST_SUITE_P(Golden, PackedCodesOf,
                         ::testing::Values("gptq-int4-g64", "gptq-int4-g128-noact", "gptq-mixed-eora", "mlx-4bit",
                                           "mlx-8865"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST(PackedCodes, RowsOfValuesHaveNone) {
  EXPECT_EQ(MemoryRows(std::vector<std::byte>(8), 2, 4).packed(), nullptr);
  EXPECT_EQ(SliceRows(std::make_shared<MemoryRows>(std::vector<std::byte>(8), 2, 4), {0, 1}).packed(), nullptr);
}

}  // namespace
}  // namespace regauge
