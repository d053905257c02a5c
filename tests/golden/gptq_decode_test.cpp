#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/half.h"
#include "formats/gptq/gptq.h"
#include "ir/decode/tensor.h"
#include "tests/support/array_file.h"
#include "tests/support/golden.h"

// What GPTQModel and IST-DASLab's Marlin wrote, read by the gptq reader: codes, zero points and values, bit for bit.

namespace regauge {
namespace {

using testing::ArrayFile;
using testing::count_bit_differences;
using testing::GoldenFile;
using testing::ScratchDir;
using testing::write_text;

template <typename T>
std::vector<T> transposed(const GoldenFile::Entry& entry) {
  const auto in = entry.as<T>();
  const auto rows = static_cast<std::size_t>(entry.shape[0]);
  const auto columns = static_cast<std::size_t>(entry.shape[1]);
  std::vector<T> out(in.size());
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < columns; ++c) out[c * rows + r] = in[r * columns + c];
  }
  return out;
}

Checkpoint open(const std::filesystem::path& path, OpenOptions options = {}) { return open_gptq(probe(path), options); }

const Tensor& tensor_of(const Checkpoint& checkpoint, const std::string& name) {
  const Tensor* tensor = checkpoint.find(name);
  if (tensor == nullptr) throw std::runtime_error("no tensor " + name);
  return *tensor;
}

/// Decodes in bands of `band` rows (or what the quantum allows), to exercise reads that start inside the matrix.
std::vector<float> decode(const Tensor& tensor, std::int64_t band, DecodeOptions options = {}) {
  TensorDecoder decoder(tensor, options);
  const std::int64_t quantum = decoder.row_quantum();
  const std::int64_t step = std::max(quantum, band / quantum * quantum);
  const std::int64_t columns = tensor.shape.columns();
  std::vector<float> out(static_cast<std::size_t>(tensor.shape.elements()));
  for (std::int64_t row = 0; row < tensor.shape.rows(); row += step) {
    const std::int64_t end = std::min(row + step, tensor.shape.rows());
    decoder.decode({row, end}, std::span(out).subspan(static_cast<std::size_t>(row * columns),
                                                      static_cast<std::size_t>((end - row) * columns)));
  }
  return out;
}

std::vector<std::uint8_t> read_bytes(const Tensor& tensor, PartId id) {
  const Part& part = tensor.part(id);
  std::vector<std::uint8_t> out(static_cast<std::size_t>(part.rows->rows()) * part.rows->row_bytes());
  part.rows->read({0, part.rows->rows()}, std::as_writable_bytes(std::span(out)));
  return out;
}

std::set<std::string> codes_of(const Findings& findings) {
  std::set<std::string> codes;
  for (const Finding& finding : findings) codes.insert(finding.code);
  return codes;
}

/// A one-module checkpoint made of a golden file's arrays.
class OneModule {
 public:
  OneModule(const GoldenFile& file, const std::string& zeros, const std::string& format,
            std::string quantizer = "gptqmodel:7.3.4") {
    const auto& metadata = file.metadata();
    const auto flag = [&](const char* key) { return metadata.contains(key) && metadata.at(key) == "True"; };
    nlohmann::json section = {{"quant_method", "gptq"}, {"checkpoint_format", format}, {"pack_dtype", "int32"}};
    section["bits"] = std::stoi(metadata.at("bits"));
    section["group_size"] = std::stoi(metadata.at("group_size"));
    section["sym"] = metadata.contains("sym") ? flag("sym") : false;
    section["desc_act"] = flag("desc_act");
    section["meta"] = {{"quantizer", {std::move(quantizer)}}};
    write_text(folder_ / "quantize_config.json", section.dump());
    arrays_.add("m.qweight", file["qweight"]).add("m.scales", file["scales"]);
    if (!zeros.empty()) arrays_.add("m.qzeros", file[zeros]);
    if (file.contains("g_idx")) arrays_.add("m.g_idx", file["g_idx"]);
    if (file.contains("bias")) arrays_.add("m.bias", file["bias"]);
  }

  ArrayFile& arrays() { return arrays_; }
  Checkpoint open(OpenOptions options = {}) {
    arrays_.write(folder_ / "model.safetensors");
    return regauge::open_gptq(probe(folder_.path()), options);
  }

 private:
  ScratchDir folder_;
  ArrayFile arrays_;
};

/// Codes, zero points and values of module m against the golden file; how many arrays were compared.
int expect_equal(const Checkpoint& checkpoint, const GoldenFile& file) {
  int compared = 0;
  const Tensor& tensor = tensor_of(checkpoint, "m.weight");
  EXPECT_EQ(read_bytes(tensor, PartId::codes), transposed<std::uint8_t>(file["codes"]));
  ++compared;
  if (file.contains("zeros")) {
    EXPECT_EQ(read_bytes(tensor, PartId::zeros), transposed<std::uint8_t>(file["zeros"]));
    ++compared;
  }
  const auto values = decode(tensor, 8);
  EXPECT_EQ(count_bit_differences(values, decode(tensor, tensor.shape.rows())), 0U) << "bands and the whole differ";
  if (file.contains("dequant_f32")) {
    EXPECT_EQ(count_bit_differences(transposed<float>(file["dequant_f32"]), values), 0U);
    ++compared;
  }
  if (file.contains("dequant_f16")) {
    const auto halves = transposed<std::uint16_t>(file["dequant_f16"]);
    std::size_t differences = 0;
    for (std::size_t i = 0; i < values.size(); ++i) differences += f32_to_f16(values[i]) != halves[i] ? 1 : 0;
    EXPECT_EQ(differences, 0U) << "f16 is one rounding of the f32 value";
    ++compared;
  }
  return compared;
}

std::vector<std::string> grid_files() {
  std::vector<std::string> names;
  for (const char* bits : {"2", "3", "4", "8"}) {
    for (const char* group : {"32", "64", "128", "all"}) {
      for (const char* sym : {"sym", "asym"}) {
        for (const char* act : {"act", "noact"}) {
          names.push_back(std::string("gptq/grid/b") + bits + "_g" + group + "_" + sym + "_" + act);
        }
      }
    }
  }
  return names;
}

std::vector<std::string> edge_files() {
  return {"gptq/edge/edge_b2",
          "gptq/edge/edge_b3",
          "gptq/edge/edge_b4",
          "gptq/edge/edge_b8",
          "gptq/edge/ragged_b4_K320_g128",
          "gptq/edge/ragged_b8_K320_g128"};
}

std::string test_name(const ::testing::TestParamInfo<std::string>& info) {
  return std::filesystem::path(info.param).filename().string();
}

/// The files that have one of these words in their name.
std::vector<std::string> files_with(const std::vector<std::string>& words) {
  std::vector<std::string> found;
  for (const auto& list : {grid_files(), edge_files()}) {
    for (const std::string& name : list) {
      const auto in_name = [&](const std::string& word) { return name.find(word) != std::string::npos; };
      if (std::ranges::any_of(words, in_name)) found.push_back(name);
    }
  }
  return found;
}

class GptqGoldenDecode : public ::testing::TestWithParam<std::string> {};

TEST_P(GptqGoldenDecode, Version1And2GiveTheSameCodesZerosAndValues) {
  REGAUGE_GOLDEN_OR_SKIP(path, GetParam() + ".safetensors");
  const GoldenFile file(path);
  int compared = expect_equal(OneModule(file, "qzeros_v1", "gptq").open(), file);
  compared += expect_equal(OneModule(file, "qzeros_v2", "gptq_v2").open(), file);
  EXPECT_GE(compared, 4);
  RecordProperty("compared", compared);
}

TEST_P(GptqGoldenDecode, TheOptionOverrulesTheLabel) {
  REGAUGE_GOLDEN_OR_SKIP(path, GetParam() + ".safetensors");
  const GoldenFile file(path);
  expect_equal(OneModule(file, "qzeros_v2", "gptq").open({.zeros = ZerosLabel::v2, .adapter = {}}), file);
  expect_equal(OneModule(file, "qzeros_v1", "gptq_v2").open({.zeros = ZerosLabel::v1, .adapter = {}}), file);
}

class GptqSymmetricGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(GptqSymmetricGolden, MislabelledZerosAreReadAsTheDataSay) {
  REGAUGE_GOLDEN_OR_SKIP(path, GetParam() + ".safetensors");
  const GoldenFile file(path);
  for (const auto& [zeros, format] : {std::pair("qzeros_v2", "gptq"), std::pair("qzeros_v1", "gptq_v2")}) {
    const Checkpoint checkpoint = OneModule(file, zeros, format).open();
    expect_equal(checkpoint, file);
    EXPECT_TRUE(codes_of(checkpoint.findings).contains("gptq-zeros-mislabelled")) << zeros;
  }
}

class GptqThreeBitGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(GptqThreeBitGolden, ZerosOfOldWritersAreRecognised) {
  REGAUGE_GOLDEN_OR_SKIP(path, GetParam() + ".safetensors");
  const GoldenFile file(path);
  const std::string zeros = "qzeros_v1_gptqmodel_6_0_3";
  // A symmetric model proves it by its data; an asymmetric one only by its writer's version.
  const bool sym = file.metadata().at("sym") == "True";
  expect_equal(OneModule(file, zeros, "gptq", sym ? "gptqmodel:7.3.4" : "gptqmodel:6.0.3").open(), file);
}

class GptqContiguousGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(GptqContiguousGolden, AMissingGroupIndexMeansGroupsOfNeighbours) {
  REGAUGE_GOLDEN_OR_SKIP(path, GetParam() + ".safetensors");
  const GoldenFile file(path);
  const Checkpoint with_index = OneModule(file, "qzeros_v1", "gptq").open();
  EXPECT_TRUE(group_index_is_trivial(tensor_of(with_index, "m.weight")));
  OneModule module(file, "qzeros_v1", "gptq");
  module.arrays().drop("m.g_idx");
  const Checkpoint without = module.open();
  expect_equal(without, file);
  EXPECT_FALSE(std::get<Grouped>(tensor_of(without, "m.weight").encoding).indexed);
}

TEST_P(GptqGoldenDecode, NoConfigIsNeededWhereTheDataTell) {
  REGAUGE_GOLDEN_OR_SKIP(path, GetParam() + ".safetensors");
  const GoldenFile file(path);
  const ScratchDir folder;
  ArrayFile arrays;
  arrays.add("m.qweight", file["qweight"]).add("m.scales", file["scales"]).add("m.qzeros", file["qzeros_v1"]);
  if (file.contains("g_idx")) arrays.add("m.g_idx", file["g_idx"]);
  arrays.write(folder / "alone.safetensors");
  const Checkpoint checkpoint = open(folder / "alone.safetensors");
  expect_equal(checkpoint, file);
  EXPECT_TRUE(codes_of(checkpoint.findings).contains("gptq-config-missing"));
}

INSTANTIATE_TEST_SUITE_P(Files, GptqGoldenDecode, ::testing::ValuesIn(files_with({"gptq"})), test_name);
INSTANTIATE_TEST_SUITE_P(Files, GptqSymmetricGolden, ::testing::ValuesIn(files_with({"_sym_", "ragged"})), test_name);
INSTANTIATE_TEST_SUITE_P(Files, GptqThreeBitGolden, ::testing::ValuesIn(files_with({"b3"})), test_name);
INSTANTIATE_TEST_SUITE_P(Files, GptqContiguousGolden, ::testing::ValuesIn(files_with({"noact", "_gall_", "ragged"})),
                         test_name);

class GptqPlanarGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(GptqPlanarGolden, DecodesBitForBit) {
  REGAUGE_GOLDEN_OR_SKIP(path, "gptq/edge/planar_b" + GetParam() + ".safetensors");
  const GoldenFile file(path);
  const Checkpoint checkpoint = OneModule(file, "qzeros", "gptq_p").open();
  EXPECT_EQ(checkpoint.format_version, "planar");
  EXPECT_EQ(expect_equal(checkpoint, file), 4);
}

INSTANTIATE_TEST_SUITE_P(Bits, GptqPlanarGolden, ::testing::Values("3", "5", "6", "7"));

class MarlinGoldenDecode : public ::testing::TestWithParam<const char*> {};

TEST_P(MarlinGoldenDecode, TheSerialisedFormGivesTheWeightItWasMadeFrom) {
  REGAUGE_GOLDEN_OR_SKIP(path, std::string("gptq/marlin/") + GetParam() + ".safetensors");
  const GoldenFile file(path);
  const ScratchDir folder;
  ArrayFile().add("m.B", file["B"]).add("m.s", file["s"]).write(folder / "model.safetensors");
  write_text(folder / "quantize_config.json",
             R"({"quant_method":"gptq","checkpoint_format":"marlin","bits":4,"sym":true,"group_size":)" +
                 file.metadata().at("group_size") + "}");
  const Checkpoint checkpoint = open(folder.path());
  EXPECT_EQ(checkpoint.format_version, "marlin");
  const Tensor& tensor = tensor_of(checkpoint, "m.weight");
  EXPECT_EQ(read_bytes(tensor, PartId::codes), transposed<std::uint8_t>(file["codes"]));
  const auto scales = read_bytes(tensor, PartId::scales);
  const auto expected = file["in.scales"].bytes;
  EXPECT_TRUE(std::ranges::equal(std::as_bytes(std::span(scales)), expected));
  const auto values = decode(tensor, 64);
  const auto halves = file["in.weight"].as<std::uint16_t>();
  std::size_t differences = 0;
  for (std::size_t i = 0; i < values.size(); ++i) differences += f32_to_f16(values[i]) != halves[i] ? 1 : 0;
  EXPECT_EQ(differences, 0U);
}

INSTANTIATE_TEST_SUITE_P(Ist, MarlinGoldenDecode,
                         ::testing::Values("ist_marlin_b4_g128_256x256", "ist_marlin_b4_gall_128x256"));

constexpr const char* kEoraModule = "model.language_model.layers.3.self_attn.o_proj";

/// The module of an EoRA golden file as a checkpoint in `folder`.
void write_eora_base(const ScratchDir& folder, const GoldenFile& file, ArrayFile arrays = {}) {
  for (const std::string leaf : {".g_idx", ".qweight", ".qzeros", ".scales"})
    arrays.add(kEoraModule + leaf, file[kEoraModule + leaf]);
  arrays.write(folder / "model.safetensors");
  write_text(folder / "config.json",
             R"({"quantization_config":{"quant_method":"gptq","bits":4,"group_size":128,"sym":true,"desc_act":true}})");
}

void expect_merged(const Checkpoint& checkpoint, const GoldenFile& file) {
  const Tensor& tensor = tensor_of(checkpoint, kEoraModule + std::string(".weight"));
  ASSERT_TRUE(tensor.has_low_rank());
  EXPECT_EQ(checkpoint.tensors.size(), 1U) << "the factors are no tensors of their own any more";
  EXPECT_EQ(count_bit_differences(file["merged_f32"].as<float>(), decode(tensor, 96, {.with_low_rank = true})), 0U);
}

class EoraGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(EoraGolden, AnAdapterDirectoryThatTheUserNamesIsMergedBitForBit) {
  REGAUGE_GOLDEN_OR_SKIP(path, "gptq/eora/eora_" + GetParam() + ".safetensors");
  REGAUGE_GOLDEN_OR_SKIP(adapter, "gptq/eora/adapter_" + GetParam());
  const GoldenFile file(path);
  const ScratchDir folder;
  write_eora_base(folder, file);
  expect_merged(open(folder.path(), {.adapter = adapter}), file);
}

TEST_P(EoraGolden, AnAdapterFolderInsideTheCheckpointIsFound) {
  REGAUGE_GOLDEN_OR_SKIP(path, "gptq/eora/eora_" + GetParam() + ".safetensors");
  REGAUGE_GOLDEN_OR_SKIP(adapter, "gptq/eora/adapter_" + GetParam());
  const GoldenFile file(path);
  const ScratchDir folder;
  write_eora_base(folder, file);
  std::filesystem::copy(adapter, folder / "lora");
  const Checkpoint checkpoint = open(folder.path());
  expect_merged(checkpoint, file);
  EXPECT_EQ(checkpoint.files.back().name, "lora/adapter_model.safetensors");
  EXPECT_FALSE(open(folder.path(), {.adapter = {}, .find_adapter = false}).tensors.at(0).has_low_rank());
}

TEST_P(EoraGolden, TheOriginalFileWithoutAConfigIsFound) {
  REGAUGE_GOLDEN_OR_SKIP(path, "gptq/eora/eora_" + GetParam() + ".safetensors");
  REGAUGE_GOLDEN_OR_SKIP(adapter, "gptq/eora/adapter_" + GetParam());
  const GoldenFile file(path);
  const ScratchDir folder;
  write_eora_base(folder, file);
  std::filesystem::copy(adapter / "adapter_model.safetensors", folder / "eora.safetensors");
  expect_merged(open(folder.path()), file);
}

INSTANTIATE_TEST_SUITE_P(Dtypes, EoraGolden, ::testing::Values("f16", "bf16"));

TEST(EoraInModelGolden, FactorsInsideTheModelAreTurnedRound) {
  REGAUGE_GOLDEN_OR_SKIP(path, "gptq/eora/eora_f16.safetensors");
  REGAUGE_GOLDEN_OR_SKIP(factors, "gptq/eora/inmodel_f16.safetensors");
  const GoldenFile file(path);
  ArrayFile arrays;
  const GoldenFile inside(factors);
  for (const auto& [name, entry] : inside.entries()) arrays.add(name, entry);
  const ScratchDir folder;
  write_eora_base(folder, file, std::move(arrays));
  expect_merged(open(folder.path()), file);
}

class GptqCheckpointGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(GptqCheckpointGolden, OpensWithTheWidthsAndValuesThatWentIn) {
  REGAUGE_GOLDEN_OR_SKIP(folder, "gptq/ckpt/" + GetParam());
  REGAUGE_GOLDEN_OR_SKIP(json_path, "gptq/ckpt/" + GetParam() + ".expected.json");
  REGAUGE_GOLDEN_OR_SKIP(values_path, "gptq/ckpt/" + GetParam() + ".expected.safetensors");
  const Checkpoint checkpoint = open(folder);
  EXPECT_EQ(checkpoint.format_version, "v1");
  const auto text = testing::read_whole_file(json_path);
  const auto expected = nlohmann::json::parse(reinterpret_cast<const char*>(text.data()),
                                              reinterpret_cast<const char*>(text.data()) + text.size());
  std::size_t quantized = 0;
  for (const Tensor& tensor : checkpoint.tensors) quantized += is_quantized(tensor.encoding) ? 1 : 0;
  EXPECT_EQ(quantized, expected["modules"].size());
  for (const auto& module : expected["modules"]) {
    const Tensor& tensor = tensor_of(checkpoint, module["name"].get<std::string>() + ".weight");
    const auto& encoding = std::get<Grouped>(tensor.encoding);
    EXPECT_EQ(encoding.bits, module["bits"]) << tensor.name;
    EXPECT_EQ(encoding.group.cols, module["group_size"]) << tensor.name;
    EXPECT_EQ(tensor.shape,
              (Shape{module["out_features"].get<std::int64_t>(), module["in_features"].get<std::int64_t>()}));
  }
  const GoldenFile values(values_path);
  for (const auto& [name, entry] : values.entries()) {
    EXPECT_EQ(count_bit_differences(entry.as<float>(), decode(tensor_of(checkpoint, name), 32)), 0U) << name;
  }
  EXPECT_EQ(values.entries().size(), 3U);
  std::set<std::size_t> arrays;
  for (const Tensor& tensor : checkpoint.tensors) {
    for (const std::size_t array : tensor.arrays) EXPECT_TRUE(arrays.insert(array).second) << tensor.name;
  }
  EXPECT_EQ(arrays.size(), checkpoint.arrays.size()) << "every stored array belongs to a tensor";
}

INSTANTIATE_TEST_SUITE_P(Mini, GptqCheckpointGolden, ::testing::Values("mini003", "mini004"));

TEST(GptqMini003, RanksFollowThePatternAndThePeftTrapIsReported) {
  REGAUGE_GOLDEN_OR_SKIP(folder, "gptq/ckpt/mini003");
  const Checkpoint checkpoint = open(folder);
  int with_factors = 0;
  for (const Tensor& tensor : checkpoint.tensors) {
    if (!tensor.has_low_rank()) continue;
    ++with_factors;
    const bool attention = tensor.name.find("self_attn") != std::string::npos;
    EXPECT_EQ(tensor.part(PartId::lowrank_a).shape, (Shape{attention ? 8 : 16, tensor.shape.columns()})) << tensor.name;
    EXPECT_EQ(tensor.part(PartId::lowrank_b).shape, (Shape{tensor.shape.rows(), attention ? 8 : 16})) << tensor.name;
  }
  EXPECT_EQ(with_factors, 13);
  const auto codes = codes_of(checkpoint.findings);
  EXPECT_TRUE(codes.contains("adapter-scale")) << "alpha is 16 and the attention's rank 8";
  EXPECT_FALSE(codes.contains("adapter-rank-mismatch"));
  EXPECT_FALSE(codes.contains("gptq-rule-unused"));
  EXPECT_FALSE(codes.contains("gptq-bits-mismatch"));
}

}  // namespace
}  // namespace regauge
