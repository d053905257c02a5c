#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/command.h"
#include "tests/support/golden.h"
#include "tests/support/llama_run.h"
#include "tests/support/oracle.h"
#include "tests/support/patch.h"

// Low-rank factors from other places than family_test.cpp's, in real llama.cpp.

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::LlamaAnswer;
using testing::run_command;
using testing::ScratchDir;

constexpr double kF32 = 1e-4;
constexpr double kFactorsInBf16 = 0.02;  // 5.4e-3 by llama.cpp's own run of the golden adapter

const std::string kFamily = "qwen35_family/";
const std::string kExpected = kFamily + "gptq-mixed-eora.expected.safetensors";

std::string shown(const std::optional<double>& difference) {
  if (!difference) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.2e", *difference);
  return text;
}

/// The golden adapter file, which GPTQModel's factors were written to by other code, over bases of ours.
class GoldenAdapter : public ::testing::Test {
 protected:
  void run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), REGAUGE_CLI);
    const auto result = run_command(arguments);
    ASSERT_EQ(result.exit_code, 0) << result.err;
  }
  const ScratchDir scratch_;
};

TEST_F(GoldenAdapter, CorrectsABaseOfOursAndIsMergedIntoIt) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kFamily + "gptq-mixed-eora");
  REGAUGE_FULL_GOLDEN_OR_SKIP(adapter, kFamily + "gptq-mixed-eora.adapter.gguf");
  REGAUGE_FULL_GOLDEN_OR_SKIP(expected, kExpected);
  REGAUGE_ORACLE_OR_SKIP(oracle);
  RecordProperty("ggml", oracle.version());
  const fs::path base = scratch_ / "base.gguf";
  ASSERT_NO_FATAL_FAILURE(run({"convert", source, base, "--dense", "f32", "--drop", "eora,vision", "-q"}));
  const LlamaAnswer with = testing::run_in_llama(
      {.model = base, .expected = expected, .tensor = "logits_eora", .mtp = true, .adapter = adapter});
  ASSERT_TRUE(with.main && with.mtp) << with.log;
  EXPECT_LE(*with.main, kFactorsInBf16);
  EXPECT_LE(*with.mtp, kFactorsInBf16);

  // The factors' way into a directory and into the weights, decoded to F32: the kernels' rounding is gone.
  const fs::path directory = scratch_ / "hf";
  ASSERT_NO_FATAL_FAILURE(run({"convert", base, adapter, directory, "--to", "safetensors", "--dense", "f32", "-q"}));
  ASSERT_NO_FATAL_FAILURE(run({"convert", directory, scratch_ / "again.gguf", "--dense", "f32", "-q"}));
  const LlamaAnswer again = testing::run_in_llama({.model = scratch_ / "again.gguf",
                                                   .expected = expected,
                                                   .tensor = "logits_eora",
                                                   .mtp = true,
                                                   .adapter = scratch_ / "again-LoRA.gguf"});
  ASSERT_TRUE(again.main && again.mtp) << again.log;
  EXPECT_LE(*again.main, kF32);
  EXPECT_LE(*again.mtp, kF32);

  ASSERT_NO_FATAL_FAILURE(
      run({"convert", base, adapter, scratch_ / "merged.gguf", "--eora", "merge", "--dense", "f32", "-q"}));
  const LlamaAnswer merged = testing::run_in_llama(
      {.model = scratch_ / "merged.gguf", .expected = expected, .tensor = "logits_eora", .mtp = true});
  ASSERT_TRUE(merged.main && merged.mtp) << merged.log;
  EXPECT_LE(*merged.main, kF32);
  EXPECT_LE(*merged.mtp, kF32);
  std::printf("| %-34s | %s, by way of a directory %s, merged %s |\n", "golden adapter.gguf, our base",
              shown(with.main).c_str(), shown(again.main).c_str(), shown(merged.main).c_str());
}

/// Elements of two bytes in the other order.
testing::Bytes turned(const testing::Bytes& bytes, std::int64_t rows, std::int64_t columns) {
  testing::Bytes out(bytes.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) {
      const auto from = static_cast<std::ptrdiff_t>(2 * (r * columns + c));
      std::copy_n(bytes.begin() + from, 2, out.begin() + static_cast<std::ptrdiff_t>(2 * (c * rows + r)));
    }
  }
  return out;
}

// GPTQModel's other place for factors: `module.lora_A` and `.lora_B` among the arrays of the module, each the transpose
// of PEFT's.
TEST_F(GoldenAdapter, FactorsAmongTheWeightsCorrectTheModel) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(golden, kFamily + "gptq-mixed-eora");
  REGAUGE_FULL_GOLDEN_OR_SKIP(expected, kExpected);
  REGAUGE_ORACLE_OR_SKIP(oracle);
  RecordProperty("ggml", oracle.version());
  const fs::path source = scratch_ / "source";
  fs::copy(golden, source, fs::copy_options::recursive);
  const testing::SafetensorsPatch factors(source / "eora/adapter_model.safetensors");
  fs::remove_all(source / "eora");
  const std::string shard = "model-00003-of-00003.safetensors";
  testing::SafetensorsPatch model(source / shard);
  const std::string prefix = "base_model.model.";
  const std::string suffix = ".weight";
  for (auto array : factors.arrays) {
    ASSERT_TRUE(array.name.starts_with(prefix) && array.name.ends_with(suffix)) << array.name;
    array.bytes = turned(array.bytes, array.shape[0], array.shape[1]);
    std::swap(array.shape[0], array.shape[1]);
    array.name = array.name.substr(prefix.size(), array.name.size() - prefix.size() - suffix.size());
    model.arrays.push_back(array);
  }
  model.save(source / shard);
  testing::patch_json(source / "model.safetensors.index.json", [&](auto& index) {
    for (const auto& array : model.arrays) index["weight_map"][array.name] = shard;
  });
  ASSERT_NO_FATAL_FAILURE(run({"convert", source, scratch_ / "model.gguf", "--dense", "f32", "-q"}));
  testing::LlamaRun llama{.model = scratch_ / "model.gguf", .expected = expected, .mtp = true};
  const LlamaAnswer without = testing::run_in_llama(llama);
  llama.tensor = "logits_eora";
  llama.adapter = scratch_ / "model-LoRA.gguf";
  const LlamaAnswer with = testing::run_in_llama(llama);
  ASSERT_TRUE(without.main && without.mtp) << without.log;
  ASSERT_TRUE(with.main && with.mtp) << with.log;
  EXPECT_LE(std::max(*without.main, *without.mtp), kF32);
  EXPECT_LE(std::max(*with.main, *with.mtp), kF32);
  std::printf("| %-34s | %8s | %8s | %8s | %8s |\n", "mixed_f32_factors_among_weights", shown(without.main).c_str(),
              shown(without.mtp).c_str(), shown(with.main).c_str(), shown(with.mtp).c_str());
}

}  // namespace
}  // namespace regauge
