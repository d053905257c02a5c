#include <cstdio>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/command.h"
#include "tests/support/golden.h"
#include "tests/support/oracle.h"

// Checkpoints put together of parts, by the finished program, in real llama.cpp.

namespace regauge {
namespace {

using testing::run_command;
using testing::ScratchDir;

void run_well(const std::vector<std::string>& arguments) {
  const auto run = run_command(arguments);
  ASSERT_EQ(run.exit_code, 0) << arguments[1] << ": " << run.out << run.err;
}

/// Differences of a model's logits from expected ones: of the model, then of its MTP pass where that is asked for.
std::vector<double> differences(const std::string& model, const std::string& expected, bool mtp) {
  std::vector<std::string> command{"python3",    std::string(REGAUGE_SOURCE_DIR) + "/tests/support/llama_logits.py",
                                   "logits",     model,
                                   "--expected", expected};
  if (mtp) command.emplace_back("--mtp");
  const auto run = run_command(command);
  const auto report = nlohmann::json::parse(run.out, nullptr, false);
  if (run.exit_code != 0 || !report.is_object()) {
    ADD_FAILURE() << run.out << run.err;
    return {};
  }
  std::vector<double> found{report["max_abs_diff"].get<double>()};
  if (mtp) {
    EXPECT_EQ(report["mtp"]["non_finite"].get<int>(), 0);
    found.push_back(report["mtp"]["max_abs_diff"].get<double>());
  }
  return found;
}

constexpr double kF32Bound = 1e-4;

const std::string kFamily = "qwen35_family/";

TEST(GraftInLlama, AnMtpLayerThatWasAnnouncedAndLostDraftsAgain) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(base, kFamily + "gptq-int4-g64");
  REGAUGE_FULL_GOLDEN_OR_SKIP(donor, kFamily + "hf-bf16");
  REGAUGE_FULL_GOLDEN_OR_SKIP(expected, kFamily + "gptq-int4-g64.expected.safetensors");
  REGAUGE_FULL_GOLDEN_OR_SKIP(full, kFamily + "hf-bf16.expected.safetensors");
  REGAUGE_ORACLE_OR_SKIP(oracle);
  RecordProperty("ggml", oracle.version());
  const ScratchDir scratch;
  run_well({REGAUGE_CLI, "graft", base, scratch / "out", "--mtp", donor, "--link", "--verify"});
  run_well({REGAUGE_CLI, "verify", scratch / "out"});
  const auto inspected = run_command({REGAUGE_CLI, "inspect", scratch / "out"});
  EXPECT_EQ(inspected.exit_code, 0);
  EXPECT_EQ(inspected.out.find("fault"), std::string::npos) << inspected.out;
  EXPECT_EQ(inspected.out.find("mtp-announced-absent"), std::string::npos) << inspected.out;
  run_well({REGAUGE_CLI, "convert", scratch / "out", scratch / "model.gguf", "--dense", "f32", "-q"});
  const auto main = differences(scratch / "model.gguf", expected, false);
  ASSERT_EQ(main.size(), 1U);
  EXPECT_LT(main[0], kF32Bound);
  // Nobody has logits of this pair; those of the MTP layer behind the full-precision model are as near as 4 bits let them be.
  const auto drafted = differences(scratch / "model.gguf", full, true);
  ASSERT_EQ(drafted.size(), 2U);
  EXPECT_LT(drafted[1], 3.0);
  std::printf("gptq-int4-g64 + MTP: main %.3g, MTP against hf-bf16 %.3g\n", main[0], drafted[1]);
}

/// The mixed checkpoint without its MTP layer, and that layer from the full-precision one: the same values, so the logits are
/// those of the whole.
TEST(GraftInLlama, AGraftedMtpLayerComputesTheGoldenLogits) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(whole, kFamily + "gptq-mixed-eora");
  REGAUGE_FULL_GOLDEN_OR_SKIP(donor, kFamily + "hf-bf16");
  REGAUGE_FULL_GOLDEN_OR_SKIP(donor_gguf, kFamily + "hf-bf16.gguf");
  REGAUGE_FULL_GOLDEN_OR_SKIP(expected, kFamily + "gptq-mixed-eora.expected.safetensors");
  REGAUGE_ORACLE_OR_SKIP(oracle);
  RecordProperty("ggml", oracle.version());
  const ScratchDir scratch;
  run_well({REGAUGE_CLI, "convert", whole, scratch / "base", "--to", "gptq", "--drop", "mtp,eora", "-q"});
  run_well({REGAUGE_CLI, "graft", scratch / "base", scratch / "out", "--mtp", donor, "-q"});
  run_well({REGAUGE_CLI, "convert", scratch / "out", scratch / "model.gguf", "--dense", "f32", "-q"});
  // And the other way round: both are GGUF files when they meet.
  run_well({REGAUGE_CLI, "convert", scratch / "base", scratch / "base.gguf", "--dense", "f32", "-q"});
  run_well(
      {REGAUGE_CLI, "graft", scratch / "base.gguf", scratch / "met.gguf", "--mtp", donor_gguf, "--dtype", "f32", "-q"});
  for (const char* model : {"model.gguf", "met.gguf"}) {
    SCOPED_TRACE(model);
    const auto found = differences(scratch / model, expected, true);
    ASSERT_EQ(found.size(), 2U);
    EXPECT_LT(found[0], kF32Bound);
    EXPECT_LT(found[1], kF32Bound);
    std::printf("%s: main %.3g, MTP %.3g\n", model, found[0], found[1]);
  }
}

}  // namespace
}  // namespace regauge
