// What inspect says of checkpoints that other software wrote and described (the *.expected.json beside them).
#include <algorithm>
#include <fstream>
#include <set>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "formats/format.h"
#include "inspect/report.h"
#include "tests/support/golden.h"

namespace regauge::inspect {
namespace {

struct Opened {
  explicit Opened(const std::filesystem::path& path, Depth depth = Depth::headers)
      : checkpoint(open_checkpoint(path)), report(examine(checkpoint, depth)) {}

  bool has(std::string_view code) const {
    return std::ranges::find(report.findings, code, &Finding::code) != report.findings.end();
  }

  std::set<std::string> names(const std::vector<std::size_t>& tensors) const {
    std::set<std::string> set;
    for (const std::size_t index : tensors) set.insert(checkpoint.tensors[index].name);
    return set;
  }

  Checkpoint checkpoint;
  Report report;
};

nlohmann::json modules_of(const std::filesystem::path& checkpoint) {
  std::ifstream in(checkpoint.string() + ".expected.json");
  return nlohmann::json::parse(in).at("modules");
}

class FamilyGptq : public ::testing::TestWithParam<const char*> {};

TEST_P(FamilyGptq, HasTheModulesBitsRanksAndActOrderThatItsMakersFound) {
  REGAUGE_GOLDEN_OR_SKIP(path, std::string("qwen35_family/") + GetParam());
  const Opened opened(path, Depth::data);
  std::set<std::string> shuffled;
  std::size_t corrected = 0;
  const auto modules = modules_of(path);
  for (const auto& module : modules) {
    const std::string name = module.at("name").get<std::string>() + ".weight";
    const auto entry = std::ranges::find_if(opened.report.catalog.entries, [&](const Entry& e) {
      return opened.checkpoint.tensors[e.tensor].name == name;
    });
    ASSERT_NE(entry, opened.report.catalog.entries.end()) << name;
    EXPECT_TRUE(entry->quantized);
    EXPECT_EQ(std::get<Grouped>(opened.checkpoint.tensors[entry->tensor].encoding).bits, module.at("bits")) << name;
    EXPECT_EQ(entry->parameters,
              module.at("in_features").get<std::uint64_t>() * module.at("out_features").get<std::uint64_t>());
    EXPECT_EQ(entry->rank, module.value("rank", 0)) << name;
    if (!module.at("g_idx_trivial").get<bool>()) shuffled.insert(name);
    if (module.contains("rank")) ++corrected;
  }
  const ScanReport& scan = *opened.report.scan;
  EXPECT_EQ(opened.report.summary.quantized.tensors, modules.size());
  EXPECT_EQ(opened.report.summary.factors.tensors, corrected);
  EXPECT_EQ(opened.names(scan.act_order), shuffled);
  EXPECT_TRUE(scan.asymmetric.empty());
  EXPECT_TRUE(scan.non_finite.empty());
  EXPECT_TRUE(scan.unread.empty());
  // Every module has in_features divisible by 128 and out_features by 64.
  EXPECT_EQ(opened.report.marlin.strict, modules.size());
  EXPECT_TRUE(opened.has("norm-convention-confirmed"));
}

INSTANTIATE_TEST_SUITE_P(Family, FamilyGptq,
                         ::testing::Values("gptq-int4-g128-noact", "gptq-int4-g64", "gptq-mixed-eora"),
                         [](const auto& variant) {
                           std::string name = variant.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

TEST(Golden, MtpIsMissedWhereItsMakersLeftItOut) {
  for (const auto& [name, absent] :
       {std::pair{"hf-bf16", false}, std::pair{"gptq-mixed-eora", false}, std::pair{"gptq-int4-g64", true},
        std::pair{"gptq-int4-g128-noact", true}, std::pair{"mlx-8865", true}, std::pair{"mlx-4bit", true}}) {
    REGAUGE_GOLDEN_OR_SKIP(path, std::string("qwen35_family/") + name);
    EXPECT_EQ(Opened(path).has("mtp-announced-absent"), absent) << name;
  }
}

TEST(Golden, TheF32PairIsSeenToBeKeptOrCast) {
  for (const auto& [name, code] :
       {std::pair{"hf-bf16", "f32-pair-kept"}, std::pair{"gptq-mixed-eora", "f32-pair-kept"},
        std::pair{"gptq-int4-g64", "f32-pair-cast"}, std::pair{"mlx-4bit", "f32-pair-cast"}}) {
    REGAUGE_GOLDEN_OR_SKIP(path, std::string("qwen35_family/") + name);
    EXPECT_TRUE(Opened(path).has(code)) << name;
  }
}

TEST(Golden, NormsLieAsTheDialectSays) {
  for (const char* name :
       {"qwen35_family/hf-bf16", "qwen35_family/hf-bf16.gguf", "qwen35_family/mlx-4bit", "qwen35_family/mlx-8865"}) {
    REGAUGE_GOLDEN_OR_SKIP(path, name);
    const Opened opened(path, Depth::data);
    EXPECT_TRUE(opened.has("norm-convention-confirmed")) << name;
    EXPECT_FALSE(opened.has("norm-convention-contradicted")) << name;
    EXPECT_EQ(opened.report.scan->norms.front().stored_shifted, std::string_view(name) != "qwen35_family/hf-bf16");
  }
}

TEST(Golden, WholeModelsAreWholeInEveryDialect) {
  for (const char* name :
       {"qwen35_family/hf-bf16", "qwen35_family/gptq-mixed-eora", "qwen35_family/gptq-int4-g64",
        "qwen35_family/gptq-int4-g128-noact", "qwen35_family/mlx-8865", "qwen35_family/mlx-4bit",
        "qwen35_family/hf-bf16.gguf", "qwen35_family/hf-bf16.mmproj.gguf", "qwen35_family/hf-bf16-q4_0.gguf",
        "qwen35_family/gptq-int4-g128-noact.gguf", "qwen35_family/gptq-mixed-eora.adapter.gguf", "qwen35_tiny/hf",
        "qwen35_tiny/tiny.gguf", "qwen35_tiny/tiny-mtp.gguf", "qwen35_tiny_moe/hf", "qwen35_tiny_moe/tiny.gguf",
        "qwen35_tiny_moe/tiny-mtp.gguf", "gguf/tiny-qwen35-q4_k_m.gguf"}) {
    REGAUGE_GOLDEN_OR_SKIP(path, name);
    const Opened opened(path);
    ASSERT_TRUE(opened.report.completeness.has_value()) << name;
    const Completeness& found = *opened.report.completeness;
    EXPECT_TRUE(found.missing.empty()) << name << ": " << describe_slots(found.missing, 5);
    EXPECT_TRUE(found.unknown.empty()) << name << ": " << opened.checkpoint.tensors[found.unknown.front()].name;
    EXPECT_TRUE(found.wrong_shapes.empty()) << name;
    EXPECT_TRUE(found.repeated.empty()) << name;
    EXPECT_TRUE(opened.report.catalog.unused_arrays.empty()) << name;
  }
}

TEST(Golden, OneModelHasTheSameParametersInEveryDialect) {
  const auto text = [](const std::filesystem::path& path) { return Opened(path).report.summary.text.parameters; };
  REGAUGE_GOLDEN_OR_SKIP(base, "qwen35_family/hf-bf16");
  for (const char* name : {"qwen35_family/hf-bf16.gguf", "qwen35_family/hf-bf16-q4_0.gguf", "qwen35_family/mlx-4bit",
                           "qwen35_family/mlx-8865", "qwen35_family/gptq-int4-g64"}) {
    REGAUGE_GOLDEN_OR_SKIP(path, name);
    EXPECT_EQ(text(path), text(base)) << name;
  }
  // 2,740,580 parameters of text and MTP, 76,920 of vision, as its makers counted.
  const Summary summary = Opened(base).report.summary;
  EXPECT_EQ(summary.text.parameters + summary.mtp.parameters, 2'740'580U);
  EXPECT_EQ(summary.vision.parameters, 76'920U);
}

TEST(Golden, AModelNobodyKnowsKeepsItsOwnNames) {
  REGAUGE_GOLDEN_OR_SKIP(path, "real/safetensors/silero_vad_16k.safetensors");
  const Opened opened(path, Depth::data);
  EXPECT_EQ(opened.report.summary.everything.tensors, 15U);
  std::uint64_t bytes = 0;
  const testing::GoldenFile file(path);
  for (const auto& [name, array] : file.entries()) bytes += array.bytes.size();
  EXPECT_EQ(opened.report.summary.everything.bytes, bytes);
  EXPECT_FALSE(opened.report.architecture);
  for (const Entry& entry : opened.report.catalog.entries) EXPECT_EQ(entry.component, Component::other);
}

}  // namespace
}  // namespace regauge::inspect
