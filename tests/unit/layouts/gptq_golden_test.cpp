#include <filesystem>
#include <set>
#include <string>

#include <fmt/format.h>

#include "formats/layouts/gptq_words.h"
#include "tests/support/golden.h"
#include "tests/unit/layouts/words.h"

namespace regauge::layouts {
namespace {

using regauge::testing::GoldenFile;

Bytes bytes_of(const GoldenFile::Entry& entry) { return {entry.bytes.begin(), entry.bytes.end()}; }

// One of the files that ModelCloud/GPTQModel wrote; the golden set's README says how.
class GptqGolden : public ::testing::TestWithParam<std::string> {
 protected:
  static GptqLayout layout_of(const GoldenFile& file) {
    const auto& metadata = file.metadata();
    const auto format = metadata.find("format");
    const bool planar = format != metadata.end() && format->second == "gptq_p";
    return {std::stoi(metadata.at("bits")), planar ? GptqPacking::planar : GptqPacking::continuous};
  }

  // [G, N]; files without the tensor are symmetric, where every zero point is the middle code.
  static Codes zeros_of(const GoldenFile& file) {
    if (file.contains("zeros")) return file["zeros"].as<std::uint8_t>();
    EXPECT_EQ(file.metadata().at("sym"), "True");
    return Codes(file["scales"].bytes.size() / 2, static_cast<std::uint8_t>(1U << (layout_of(file).bits - 1)));
  }
};

TEST_P(GptqGolden, CodesComeOutAsTheyWentInAndGoBack) {
  REGAUGE_GOLDEN_OR_SKIP(path, "gptq/" + GetParam());
  const GoldenFile file(path);
  const GptqLayout layout = layout_of(file);
  const std::size_t k = std::stoul(file.metadata().at("K"));
  const std::size_t n = std::stoul(file.metadata().at("N"));
  const Codes expected = transposed<std::uint8_t>(file["codes"].as<std::uint8_t>(), k, n);
  const Bytes words = bytes_of(file["qweight"]);

  Codes codes = unwritten_codes(n * k);
  unpack_gptq_columns(layout, static_cast<std::int64_t>(n), static_cast<std::int64_t>(k), words, codes);
  EXPECT_EQ(codes, expected);
  Bytes back = unwritten(words.size());
  pack_gptq_columns(layout, static_cast<std::int64_t>(n), static_cast<std::int64_t>(k), expected, back);
  EXPECT_EQ(back, words);

  const std::size_t band = 8;
  const std::size_t word_rows = words.size() / 4 / n;
  Codes joined;
  for (std::size_t first = 0; first < n; first += band) {
    Codes part = unwritten_codes(band * k);
    unpack_gptq_columns(layout, band, static_cast<std::int64_t>(k), column_band(words, word_rows, n, first, band, 4),
                        part);
    joined.insert(joined.end(), part.begin(), part.end());
  }
  EXPECT_EQ(joined, expected);
}

TEST_P(GptqGolden, ZeroPointsOfEveryConventionComeOutAndGoBack) {
  REGAUGE_GOLDEN_OR_SKIP(path, "gptq/" + GetParam());
  const GoldenFile file(path);
  const GptqLayout layout = layout_of(file);
  const Codes zeros = zeros_of(file);
  // "qzeros" is the planar files' name; they hold true zero points.
  std::vector<std::pair<Bytes, ZeroConvention>> stored;
  if (file.contains("qzeros")) stored.emplace_back(bytes_of(file["qzeros"]), ZeroConvention::v2);
  if (file.contains("qzeros_v2")) stored.emplace_back(bytes_of(file["qzeros_v2"]), ZeroConvention::v2);
  if (file.contains("qzeros_v1")) stored.emplace_back(bytes_of(file["qzeros_v1"]), ZeroConvention::v1);
  if (file.contains("qzeros_v1_gptqmodel_6_0_3")) {
    stored.emplace_back(bytes_of(file["qzeros_v1_gptqmodel_6_0_3"]), ZeroConvention::v1_legacy3);
  }
  const std::size_t expected_tensors = layout.packing == GptqPacking::planar ? 1 : layout.bits == 3 ? 3 : 2;
  ASSERT_EQ(stored.size(), expected_tensors);

  for (const auto& [words, convention] : stored) {
    SCOPED_TRACE(static_cast<int>(convention));
    Codes unpacked = unwritten_codes(zeros.size());
    unpack_gptq_zeros(layout, convention, words, unpacked);
    EXPECT_EQ(unpacked, zeros);
    Bytes packed = unwritten(words.size());
    pack_gptq_zeros(layout, convention, zeros, packed);
    EXPECT_EQ(packed, words);
    for (const auto& [other_words, other] : stored) {
      Bytes converted = words;
      convert_gptq_zeros(layout, convention, other, converted);
      EXPECT_EQ(converted, other_words) << "to " << static_cast<int>(other);
    }
  }
}

std::vector<std::string> grid_files() {
  std::vector<std::string> files;
  for (const std::string bits : {"2", "3", "4", "8"}) {
    for (const std::string group : {"32", "64", "128", "all"}) {
      for (const std::string zeros : {"sym", "asym"}) {
        for (const std::string act : {"act", "noact"}) {
          files.push_back(fmt::format("grid/b{}_g{}_{}_{}.safetensors", bits, group, zeros, act));
        }
      }
    }
  }
  return files;
}

std::vector<std::string> edge_files() {
  return {"edge/edge_b2.safetensors",
          "edge/edge_b3.safetensors",
          "edge/edge_b4.safetensors",
          "edge/edge_b8.safetensors",
          "edge/planar_b3.safetensors",
          "edge/planar_b5.safetensors",
          "edge/planar_b6.safetensors",
          "edge/planar_b7.safetensors",
          "edge/ragged_b4_K320_g128.safetensors",
          "edge/ragged_b8_K320_g128.safetensors"};
}

std::string name_of(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = std::filesystem::path(info.param).stem().string();
  return name;
}

INSTANTIATE_TEST_SUITE_P(Grid, GptqGolden, ::testing::ValuesIn(grid_files()), name_of);
INSTANTIATE_TEST_SUITE_P(Edge, GptqGolden, ::testing::ValuesIn(edge_files()), name_of);

TEST(GptqGoldenFolders, NoFileIsLeftOut) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source,
                              "gptq/grid/source.safetensors");  // the weight the grid was made from: nothing packed
  std::set<std::string> there;
  for (const std::string folder : {"grid", "edge"}) {
    for (const auto& entry : std::filesystem::directory_iterator(source.parent_path().parent_path() / folder)) {
      there.insert(folder + "/" + entry.path().filename().string());
    }
  }
  std::set<std::string> tested = {"grid/source.safetensors"};
  for (const auto& file : grid_files()) tested.insert(file);
  for (const auto& file : edge_files()) tested.insert(file);
  EXPECT_EQ(there, tested);
}

class GptqEdgeZeros : public ::testing::TestWithParam<int> {};

TEST_P(GptqEdgeZeros, GoBackAsTheWritersOwnInverseDoes) {
  REGAUGE_GOLDEN_OR_SKIP(path, "gptq/edge/edge_b" + std::to_string(GetParam()) + ".safetensors");
  const GoldenFile file(path);
  const GptqLayout layout{.bits = GetParam()};
  Bytes words = bytes_of(file["qzeros_v1"]);
  convert_gptq_zeros(layout, ZeroConvention::v1, ZeroConvention::v2, words);
  EXPECT_EQ(words, bytes_of(file["qzeros_v1_back_to_v2"]));
  if (GetParam() != 3) return;
  words = bytes_of(file["qzeros_v1_gptqmodel_6_0_3"]);
  convert_gptq_zeros(layout, ZeroConvention::v1_legacy3, ZeroConvention::v2, words);
  EXPECT_EQ(words, bytes_of(file["qzeros_v1_gptqmodel_6_0_3_back_to_v2"]));
}

// GPTQModel's field-wise variant of v1 is the same file at 3 bits; at 2, 4 and 8 it is another one in just those words
// where a zero point of 0 has a neighbour above it to borrow from.
TEST_P(GptqEdgeZeros, DifferFromTheFieldWiseVariantOnlyWhereAZeroBorrows) {
  REGAUGE_GOLDEN_OR_SKIP(path, "gptq/edge/edge_b" + std::to_string(GetParam()) + ".safetensors");
  const GoldenFile file(path);
  const int bits = GetParam();
  const GptqLayout layout{.bits = bits};
  const Codes zeros = file["zeros"].as<std::uint8_t>();
  const Bytes per_field = bytes_of(file["qzeros_v1_per_field"]);
  Codes fields = unwritten_codes(zeros.size());
  unpack_gptq_zeros(layout, ZeroConvention::v2, per_field, fields);
  for (auto& field : fields) field = static_cast<std::uint8_t>((field + 1U) & ((1U << bits) - 1U));
  EXPECT_EQ(fields, zeros);

  Bytes ours = unwritten(per_field.size());
  pack_gptq_zeros(layout, ZeroConvention::v1, zeros, ours);
  if (bits == 3) {
    EXPECT_EQ(ours, per_field);
    return;
  }
  const auto per_word = static_cast<std::size_t>(32 / bits);
  std::size_t borrowing_words = 0;
  for (std::size_t word = 0; word < per_field.size() / 4; ++word) {
    const auto word_zeros = std::span(zeros).subspan(word * per_word, per_word);
    const bool borrows = std::ranges::find(word_zeros.first(per_word - 1), 0) != word_zeros.end() - 1;
    const bool differs = std::memcmp(ours.data() + word * 4, per_field.data() + word * 4, 4) != 0;
    EXPECT_EQ(differs, borrows) << "word " << word;
    borrowing_words += borrows ? 1 : 0;
  }
  EXPECT_GT(borrowing_words, 0U) << "the file no longer shows a borrow";
}

INSTANTIATE_TEST_SUITE_P(Bits, GptqEdgeZeros, ::testing::Values(2, 3, 4, 8));

}  // namespace
}  // namespace regauge::layouts
