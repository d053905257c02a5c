#include <filesystem>
#include <set>
#include <string>

#include <fmt/format.h>

#include "formats/layouts/gptq_words.h"
#include "formats/layouts/marlin.h"
#include "tests/support/golden.h"
#include "tests/unit/layouts/words.h"

namespace regauge::layouts {
namespace {

using regauge::testing::GoldenFile;

Bytes bytes_of(const GoldenFile::Entry& entry) { return {entry.bytes.begin(), entry.bytes.end()}; }

struct Shape {
  int bits;
  std::size_t k;
  std::size_t n;
  std::int64_t group_size;
};

Shape shape_of(const GoldenFile& file) {
  const auto& metadata = file.metadata();
  return {std::stoi(metadata.at("bits")), std::stoul(metadata.at("K")), std::stoul(metadata.at("N")),
          std::stol(metadata.at("group_size"))};
}

// Codes in the order of `stored`, out of Marlin words: in one piece and in bands of 64 columns; and back.
void expect_weights(const Shape& shape, const Codes& stored, const Bytes& words) {
  const auto n = static_cast<std::int64_t>(shape.n);
  const auto k = static_cast<std::int64_t>(shape.k);
  Codes codes = unwritten_codes(stored.size());
  unpack_marlin_columns(shape.bits, n, k, words, codes);
  EXPECT_EQ(codes, stored);
  Bytes packed = unwritten(words.size());
  pack_marlin_columns(shape.bits, n, k, stored, packed);
  EXPECT_EQ(packed, words);

  Codes joined;
  const std::size_t tile_words = 32 * static_cast<std::size_t>(shape.bits);
  for (std::size_t tile = 0; tile < shape.n / 64; ++tile) {
    const Bytes band = column_band(words, shape.k / 16, shape.n / 64 * tile_words, tile * tile_words, tile_words, 4);
    Codes part = unwritten_codes(64 * shape.k);
    unpack_marlin_columns(shape.bits, 64, k, band, part);
    joined.insert(joined.end(), part.begin(), part.end());
  }
  EXPECT_EQ(joined, stored);
}

void expect_scales(MarlinScaleOrder order, const GoldenFile::Entry& natural, const GoldenFile::Entry& marlin) {
  const auto from = natural.as<std::uint16_t>();
  const auto to = marlin.as<std::uint16_t>();
  std::vector<std::uint16_t> out(from.size(), 0xA5A5);
  permute_marlin_scales(order, from, out);
  EXPECT_EQ(out, to);
  out.assign(from.size(), 0xA5A5);
  restore_marlin_scales(order, to, out);
  EXPECT_EQ(out, from);
}

Codes gptq_codes(const Shape& shape, const GoldenFile::Entry& qweight) {
  Codes codes = unwritten_codes(shape.n * shape.k);
  unpack_gptq_columns({shape.bits}, static_cast<std::int64_t>(shape.n), static_cast<std::int64_t>(shape.k),
                      bytes_of(qweight), codes);
  return codes;
}

class MarlinGolden : public ::testing::TestWithParam<std::string> {};

// Files of the run-time form: vLLM's reference and GPTQModel's own functions made the outputs.
TEST_P(MarlinGolden, EveryTensorIsMadeFromGptqAndTurnedBack) {
  REGAUGE_GOLDEN_OR_SKIP(path, "gptq/marlin/" + GetParam());
  const GoldenFile file(path);
  const Shape shape = shape_of(file);
  const Codes natural = gptq_codes(shape, file["qweight"]);

  Codes stored = natural;
  const bool act_order = file.metadata().at("desc_act") == "True";
  ASSERT_EQ(file.contains("marlin_sort_indices"), act_order);
  ASSERT_EQ(file.contains("marlin_g_idx"), act_order);
  if (act_order) {
    const auto group_index = file["g_idx"].as<std::int32_t>();
    const auto sort = act_order_sort(group_index);
    EXPECT_EQ(sort, file["marlin_sort_indices"].as<std::int32_t>());
    require_permutation(sort);
    std::vector<std::int32_t> indices(shape.k);
    sort_columns(sort, group_index, indices);
    EXPECT_EQ(indices, file["marlin_g_idx"].as<std::int32_t>());
    std::vector<std::int32_t> restored(shape.k);
    unsort_columns(sort, indices, restored);
    EXPECT_EQ(restored, group_index);
    Codes back = unwritten_codes(natural.size());
    for (std::size_t row = 0; row < shape.n; ++row) {
      const std::size_t first = row * shape.k;
      sort_columns(sort, std::span(natural).subspan(first, shape.k), std::span(stored).subspan(first, shape.k));
      unsort_columns(sort, std::span<const std::uint8_t>(stored).subspan(first, shape.k),
                     std::span(back).subspan(first, shape.k));
    }
    EXPECT_NE(stored, natural);
    EXPECT_EQ(back, natural);
  }
  expect_weights(shape, stored, bytes_of(file["marlin_qweight"]));

  expect_scales(marlin_scale_order(shape.group_size, static_cast<std::int64_t>(shape.k)), file["scales"],
                file["marlin_scales"]);
  expect_scales(MarlinScaleOrder::single, file["bias"], file["marlin_bias"]);

  const Codes zeros = file["zp"].as<std::uint8_t>();
  const Bytes zero_words = bytes_of(file["marlin_zp"]);
  Bytes packed = unwritten(zero_words.size());
  pack_marlin_zeros(shape.bits, zeros, packed);
  EXPECT_EQ(packed, zero_words);
  Codes unpacked = unwritten_codes(zeros.size());
  unpack_marlin_zeros(shape.bits, zero_words, unpacked);
  EXPECT_EQ(unpacked, zeros);
}

std::vector<std::string> runtime_files() {
  std::vector<std::string> files;
  for (const std::string bits : {"4", "8"}) {
    for (const std::string shape : {"g32_act_128x64", "g32_noact_128x64", "g64_act_256x64", "g64_noact_256x64",
                                    "g128_act_256x128", "g128_noact_256x128", "gall_noact_256x64"}) {
      files.push_back(fmt::format("gptq_marlin_b{}_{}.safetensors", bits, shape));
    }
  }
  return files;
}

std::vector<std::string> serialized_files() {
  return {"ist_marlin_b4_g128_256x256.safetensors", "ist_marlin_b4_gall_128x256.safetensors"};
}

std::string name_of(const ::testing::TestParamInfo<std::string>& info) {
  return std::filesystem::path(info.param).stem().string();
}

INSTANTIATE_TEST_SUITE_P(Files, MarlinGolden, ::testing::ValuesIn(runtime_files()), name_of);

class SerializedMarlinGolden : public ::testing::TestWithParam<std::string> {};

// Files of the checkpoint form `B` and `s`, which IST-DASLab/marlin's own Layer.pack wrote.
TEST_P(SerializedMarlinGolden, WeightsAndScalesAreMadeFromGptqAndTurnedBack) {
  REGAUGE_GOLDEN_OR_SKIP(path, "gptq/marlin/" + GetParam());
  const GoldenFile file(path);
  const Shape shape = shape_of(file);
  const Codes codes = transposed<std::uint8_t>(file["codes"].as<std::uint8_t>(), shape.k, shape.n);
  EXPECT_EQ(gptq_codes(shape, file["gptq_qweight"]), codes);
  expect_weights(shape, codes, bytes_of(file["B"]));
  expect_scales(marlin_scale_order(shape.group_size, static_cast<std::int64_t>(shape.k)), file["gptq_scales"],
                file["s"]);
}

INSTANTIATE_TEST_SUITE_P(Files, SerializedMarlinGolden, ::testing::ValuesIn(serialized_files()), name_of);

TEST(MarlinGoldenFolder, NoFileIsLeftOut) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(one, "gptq/marlin/" + serialized_files().front());
  std::set<std::string> there;
  for (const auto& entry : std::filesystem::directory_iterator(one.parent_path())) {
    there.insert(entry.path().filename().string());
  }
  std::set<std::string> tested;
  for (const auto& file : runtime_files()) tested.insert(file);
  for (const auto& file : serialized_files()) tested.insert(file);
  EXPECT_EQ(there, tested);
}

}  // namespace
}  // namespace regauge::layouts
