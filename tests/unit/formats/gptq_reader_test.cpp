#include "formats/gptq/gptq.h"

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "formats/gptq/zeros.h"
#include "ir/decode/tensor.h"
#include "tests/support/array_file.h"
#include "tests/support/golden.h"

namespace regauge {
namespace {

using testing::ArrayFile;
using testing::ScratchDir;
using testing::write_text;

/// A v1 symmetric module of n x k whose arrays hold one byte throughout: enough where only shapes and names matter.
void add_module(ArrayFile& file, const std::string& name, std::int64_t n, std::int64_t k, int bits,
                std::int64_t groups) {
  const auto size = [](std::int64_t value) { return static_cast<std::size_t>(value); };
  file.fill(name + ".qweight", "I32", {k * bits / 32, n}, size(k * bits / 8 * n), 0x11);
  file.fill(name + ".scales", "F16", {groups, n}, size(groups * n * 2), 0x2E);
  // All fields one below the middle: 0x77.. at 4 bits, 0x7F.. at 8, 0x55.. at 2.
  const std::map<int, std::uint8_t> stored{{2, 0x55}, {4, 0x77}, {8, 0x7F}};
  file.fill(name + ".qzeros", "I32", {groups, n * bits / 32}, size(groups * n * bits / 8), stored.at(bits));
}

void add_index(ArrayFile& file, const std::string& name, std::int32_t k, std::int32_t group) {
  std::vector<std::int32_t> index(static_cast<std::size_t>(k));
  for (std::int32_t i = 0; i < k; ++i) index[static_cast<std::size_t>(i)] = i / group;
  file.add(name + ".g_idx", "I32", {k}, index);
}

Checkpoint open(const ScratchDir& folder, const ArrayFile& arrays, const std::string& config) {
  arrays.write(folder / "model.safetensors");
  if (!config.empty()) write_text(folder / "quantize_config.json", config);
  return open_gptq(probe(folder.path()));
}

const Grouped& encoding_of(const Checkpoint& checkpoint, const std::string& name) {
  const Tensor* tensor = checkpoint.find(name);
  if (tensor == nullptr) throw std::runtime_error("no tensor " + name);
  return std::get<Grouped>(tensor->encoding);
}

std::multiset<std::string> codes_of(const Checkpoint& checkpoint) {
  std::multiset<std::string> codes;
  for (const Finding& finding : checkpoint.findings) codes.insert(finding.code);
  return codes;
}

TEST(GptqReader, WidthsComeFromTheTensorsModuleByModule) {
  const ScratchDir folder;
  ArrayFile arrays;
  add_module(arrays, "a", 32, 64, 4, 2);
  add_module(arrays, "b", 32, 64, 8, 1);
  add_module(arrays, "c", 32, 64, 2, 2);
  const Checkpoint checkpoint =
      open(folder, arrays,
           R"({"quant_method":"gptq","bits":4,"group_size":32,"dynamic":{"+:b":{"bits":8,"group_size":-1}}})");
  EXPECT_EQ(encoding_of(checkpoint, "a.weight").bits, 4);
  EXPECT_EQ(encoding_of(checkpoint, "b.weight").bits, 8);
  EXPECT_EQ(encoding_of(checkpoint, "b.weight").group.cols, 0);
  EXPECT_EQ(encoding_of(checkpoint, "c.weight").bits, 2);
  // Only c contradicts its rule; a and b do what theirs say.
  EXPECT_EQ(codes_of(checkpoint), (std::multiset<std::string>{"gptq-bits-mismatch"}));
}

TEST(GptqReader, EverythingElseStaysATensorOfItsOwnInItsPlace) {
  const ScratchDir folder;
  ArrayFile arrays;
  arrays.fill("norm.weight", "BF16", {32}, 64);
  add_module(arrays, "a", 32, 64, 4, 2);
  arrays.fill("a.bias", "F16", {32}, 64);
  arrays.fill("x.scales", "F16", {2, 2}, 8);
  const Checkpoint checkpoint = open(folder, arrays, R"({"quant_method":"gptq","bits":4,"group_size":32})");
  std::vector<std::string> names;
  for (const Tensor& tensor : checkpoint.tensors) names.push_back(tensor.name);
  EXPECT_EQ(names, (std::vector<std::string>{"norm.weight", "a.weight", "a.bias", "x.scales"}));
  EXPECT_EQ(checkpoint.find("a.weight")->arrays, (std::vector<std::size_t>{1, 2, 3}));
  EXPECT_TRUE(codes_of(checkpoint).empty());
}

TEST(GptqReader, TheFlagForAGroupIndexIsSetUnlessTheConfigRulesItOut) {
  struct Case {
    const char* config;
    bool indexed;
  };
  for (const Case& one : {Case{R"({"quant_method":"gptq","bits":4,"group_size":32,"desc_act":true})", true},
                          Case{R"({"quant_method":"gptq","bits":4,"group_size":32,"desc_act":false})", false},
                          Case{R"({"quant_method":"gptq","bits":4,"group_size":32})", true}, Case{"", true}}) {
    const ScratchDir folder;
    ArrayFile arrays;
    add_module(arrays, "a", 32, 64, 4, 2);
    add_index(arrays, "a", 64, 32);
    const Checkpoint checkpoint = open(folder, arrays, one.config);
    EXPECT_EQ(encoding_of(checkpoint, "a.weight").indexed, one.indexed) << one.config;
    EXPECT_NE(checkpoint.find("a.weight")->find(PartId::group_index), nullptr)
        << "the part is kept whatever the flag says";
    EXPECT_TRUE(group_index_is_trivial(*checkpoint.find("a.weight")));
  }
}

TEST(GptqReader, ASingleGroupIsNeverIndexed) {
  const ScratchDir folder;
  ArrayFile arrays;
  add_module(arrays, "a", 32, 64, 4, 1);
  add_index(arrays, "a", 64, 64);
  const Checkpoint checkpoint =
      open(folder, arrays, R"({"quant_method":"gptq","bits":4,"group_size":128,"desc_act":true})");
  EXPECT_FALSE(encoding_of(checkpoint, "a.weight").indexed);
  EXPECT_EQ(encoding_of(checkpoint, "a.weight").group.cols, 128) << "one short group of the model's size";
}

TEST(GptqReader, BandsOfAnyAlignmentHoldTheSameCodesAsTheWhole) {
  const ScratchDir folder;
  constexpr std::int64_t kN = 96;
  constexpr std::int64_t kK = 64;
  std::vector<std::uint32_t> words(kK * 4 / 32 * kN);
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = static_cast<std::uint32_t>(i) * 2654435761U;
  ArrayFile arrays;
  add_module(arrays, "a", kN, kK, 4, 2);
  arrays.add("a.qweight", "I32", {kK * 4 / 32, kN}, words);
  const Checkpoint checkpoint = open(folder, arrays, R"({"quant_method":"gptq","bits":4,"group_size":32})");
  const RowSource& codes = *checkpoint.find("a.weight")->part(PartId::codes).rows;
  EXPECT_EQ(codes.row_quantum(), 1);
  EXPECT_GE(codes.preferred_rows(), 512);
  std::vector<std::byte> whole(kN * kK);
  codes.read({0, kN}, whole);
  for (std::int64_t n = 0; n < kN; ++n) {
    for (std::int64_t k = 0; k < kK; ++k) {
      const std::uint32_t word = words[static_cast<std::size_t>(k / 8 * kN + n)];
      ASSERT_EQ(std::to_integer<std::uint32_t>(whole[static_cast<std::size_t>(n * kK + k)]), word >> (k % 8 * 4) & 15U);
    }
  }
  for (const RowRange range : {RowRange{0, 1}, RowRange{95, 96}, RowRange{31, 70}, RowRange{5, 6}}) {
    std::vector<std::byte> band(static_cast<std::size_t>(range.size() * kK));
    codes.read(range, band);
    EXPECT_TRUE(std::equal(band.begin(), band.end(), whole.begin() + range.begin * kK)) << range.begin;
  }
  EXPECT_EQ(checkpoint.find("a.weight")->part(PartId::zeros).rows->row_quantum(), 8);
}

TEST(GptqReader, AFactorThatIsAmbiguousByShapeGoesByItsName) {
  // N = K = r = 32: both readings fit. PEFT's `.weight` means as it stands, the bare name of a loader's buffer turned round.
  std::vector<float> a(32 * 32);
  a[1] = 5;  // row 0, column 1
  for (const bool peft : {true, false}) {
    const ScratchDir folder;
    ArrayFile arrays;
    add_module(arrays, "m", 32, 32, 4, 1);
    const std::string suffix = peft ? ".weight" : "";
    arrays.add("m.lora_A" + suffix, "F32", {32, 32}, a).fill("m.lora_B" + suffix, "F32", {32, 32}, 4096);
    const Checkpoint checkpoint = open(folder, arrays, R"({"quant_method":"gptq","bits":4,"group_size":-1})");
    const Part& part = checkpoint.find("m.weight")->part(PartId::lowrank_a);
    std::vector<float> read(32 * 32);
    part.rows->read({0, 32}, std::as_writable_bytes(std::span(read)));
    EXPECT_EQ(read[peft ? 1 : 32], 5.0F);
    EXPECT_EQ(checkpoint.tensors.size(), 1U);
  }
}

TEST(GptqReader, FactorsCorrectDenseWeightsToo) {
  const ScratchDir folder;
  ArrayFile arrays;
  add_module(arrays, "m", 32, 32, 4, 1);
  arrays.fill("head.weight", "BF16", {8, 32}, 512);
  arrays.fill("head.lora_A", "F16", {32, 2}, 128).fill("head.lora_B", "F16", {2, 8}, 32);
  const Checkpoint checkpoint = open(folder, arrays, R"({"quant_method":"gptq","bits":4,"group_size":-1})");
  EXPECT_TRUE(checkpoint.find("head.weight")->has_low_rank());
}

TEST(GptqReader, SeveralAdaptersInsideAreNotChosenAmong) {
  const ScratchDir folder;
  ArrayFile arrays;
  add_module(arrays, "m", 32, 32, 4, 1);
  for (const char* name : {"one", "two"}) {
    std::filesystem::create_directory(folder / name);
    ArrayFile()
        .fill("base_model.model.m.lora_A.weight", "F16", {2, 32}, 128)
        .fill("base_model.model.m.lora_B.weight", "F16", {32, 2}, 128)
        .write(folder / name / "adapter_model.safetensors");
    write_text(folder / name / "adapter_config.json", R"({"r":2,"lora_alpha":2})");
  }
  const std::string config = R"({"quant_method":"gptq","bits":4,"group_size":-1})";
  const Checkpoint none = open(folder, arrays, config);
  EXPECT_FALSE(none.find("m.weight")->has_low_rank());
  EXPECT_EQ(codes_of(none), (std::multiset<std::string>{"adapter-ambiguous"}));
  OpenOptions options;
  options.adapter = folder / "two";
  EXPECT_TRUE(open_gptq(probe(folder.path()), options).find("m.weight")->has_low_rank());
}

TEST(GptqReader, AnAdapterThatIsNoneIsNotFound) {
  const ScratchDir folder;
  ArrayFile arrays;
  add_module(arrays, "m", 32, 32, 4, 1);
  arrays.write(folder / "model.safetensors");
  std::filesystem::create_directory(folder / "empty");
  OpenOptions options;
  options.adapter = folder / "empty";
  try {
    open_gptq(probe(folder.path()), options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::not_found);
    EXPECT_EQ(error.file(), (folder / "empty").native());
  }
}

TEST(GptqBid, LeavesOtherQuantizersArraysToPlainSafetensors) {
  const ScratchDir folder;
  ArrayFile arrays;
  arrays.fill("m.qweight", "I32", {64, 4}, 1024)
      .fill("m.scales", "F16", {2, 32}, 128)
      .fill("m.qzeros", "I32", {2, 4}, 32);
  arrays.write(folder / "model.safetensors");
  write_text(folder / "config.json", R"({"quantization_config":{"quant_method":"awq","bits":4}})");
  EXPECT_EQ(open_checkpoint(folder.path()).format, "safetensors");
}

TEST(GptqBid, TakesDirectoriesAndSingleFiles) {
  const ScratchDir folder;
  ArrayFile arrays;
  add_module(arrays, "m", 32, 64, 8, 2);
  arrays.write(folder / "model.safetensors");
  EXPECT_EQ(open_checkpoint(folder.path()).format, "gptq");
  EXPECT_EQ(open_checkpoint(folder / "model.safetensors").format, "gptq");
  write_text(folder / "quantize_config.json", R"({"bits":8,"group_size":32,"desc_act":false,"sym":true})");
  const Checkpoint single = open_checkpoint(folder / "model.safetensors");
  EXPECT_TRUE(single.findings.empty()) << "the folder's config counts for a single file";
  EXPECT_EQ(single.quantization.value()["bits"], 8);
}

TEST(GptqBid, ABrokenConfigIsExplainedByTheReader) {
  const ScratchDir folder;
  ArrayFile arrays;
  add_module(arrays, "m", 32, 64, 8, 2);
  arrays.write(folder / "model.safetensors");
  write_text(folder / "quantize_config.json", "{");
  try {
    open_checkpoint(folder.path());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::malformed);
    EXPECT_EQ(error.file(), (folder / "quantize_config.json").native());
  }
}

TEST(GptqZeroEvidence, OneStrayFieldIsNoEvidence) {
  std::vector<std::uint32_t> words(4, 0x77777777);
  const auto evidence = [&] { return gptq::convention_by_evidence({.bits = 4}, std::as_bytes(std::span(words))); };
  EXPECT_EQ(evidence(), layouts::ZeroConvention::v1);
  words[3] = 0x77677777;
  EXPECT_FALSE(evidence().has_value());
  words.assign(4, 0x88888888);
  EXPECT_EQ(evidence(), layouts::ZeroConvention::v2);
}

TEST(GptqZeroEvidence, WidthsThatDisagreeAreReadEachByItsOwn) {
  const ScratchDir folder;
  ArrayFile arrays;
  add_module(arrays, "a", 32, 64, 4, 2);
  add_module(arrays, "b", 32, 64, 8, 2);
  arrays.fill("b.qzeros", "I32", {2, 8}, 64, 0x80);
  const Checkpoint checkpoint =
      open(folder, arrays, R"({"quant_method":"gptq","bits":4,"group_size":32,"sym":true,"dynamic":{"b":{"bits":8}}})");
  EXPECT_EQ(codes_of(checkpoint), (std::multiset<std::string>{"gptq-zeros-mixed"}));
  for (const auto& [name, middle] : {std::pair("a.weight", 8), std::pair("b.weight", 128)}) {
    std::vector<std::byte> zeros(32 * 2);
    checkpoint.find(name)->part(PartId::zeros).rows->read({0, 32}, zeros);
    for (const std::byte zero : zeros) EXPECT_EQ(std::to_integer<int>(zero), middle) << name;
  }
}

TEST(GptqZeroEvidence, AsymmetricZerosOfAnUnknownWriterAreAWarning) {
  const ScratchDir folder;
  ArrayFile arrays;
  add_module(arrays, "a", 32, 64, 4, 2);
  const Checkpoint checkpoint = open(folder, arrays, R"({"quant_method":"gptq","bits":4,"group_size":32,"sym":false})");
  EXPECT_EQ(codes_of(checkpoint), (std::multiset<std::string>{"gptq-zeros-writer"}));
}

TEST(GptqReader, AForeignLayoutInTheSameFileIsReported) {
  const ScratchDir folder;
  ArrayFile arrays;
  add_module(arrays, "a", 32, 64, 4, 2);
  arrays.fill("b.codes", "I8", {4, 128}, 512).fill("b.norms", "F16", {4, 1}, 8).fill("b.ct_scaled", "F32", {16}, 64);
  const Checkpoint checkpoint = open(folder, arrays, R"({"quant_method":"gptq","bits":4,"group_size":32})");
  EXPECT_EQ(codes_of(checkpoint), (std::multiset<std::string>{"hlwq-layout"}));
  EXPECT_NE(checkpoint.find("b.codes"), nullptr);
}

}  // namespace
}  // namespace regauge
