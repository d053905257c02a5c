// Nothing is wrong with checkpoints that other people's software made, but for what two of them announce on purpose.
#include "verify/doctor.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/golden.h"

namespace regauge {
namespace {

std::vector<std::string> faults_of(const std::filesystem::path& path) {
  std::vector<std::string> codes;
  for (const Ailment& ailment : diagnose(path).ailments) {
    if (ailment.finding.severity == Severity::fault) codes.push_back(ailment.finding.code);
  }
  return codes;
}

class IntactGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(IntactGolden, GivesNoFault) {
  REGAUGE_GOLDEN_OR_SKIP(path, GetParam());
  EXPECT_EQ(faults_of(path), std::vector<std::string>{});
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, IntactGolden,
                         ::testing::Values("qwen35_family/hf-bf16", "qwen35_family/gptq-mixed-eora",
                                           "qwen35_family/mlx-4bit", "qwen35_family/mlx-8865",
                                           "qwen35_family/hf-bf16.gguf", "qwen35_family/hf-bf16-q4_0.gguf",
                                           "qwen35_family/hf-bf16.mmproj.gguf",
                                           "qwen35_family/gptq-mixed-eora.adapter.gguf",
                                           "qwen35_family/gptq-int4-g128-noact.gguf", "qwen35_tiny/hf",
                                           "qwen35_tiny/tiny.gguf", "qwen35_tiny/tiny-mtp.gguf", "qwen35_tiny_moe/hf",
                                           "qwen35_tiny_moe/tiny.gguf", "qwen35_tiny_moe/tiny-mtp.gguf"));

class GoldenWithoutItsMtp : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenWithoutItsMtp, HasThatFaultAlone) {
  REGAUGE_GOLDEN_OR_SKIP(path, GetParam());
  EXPECT_EQ(faults_of(path), std::vector<std::string>{"mtp-announced-absent"});
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, GoldenWithoutItsMtp,
                         ::testing::Values("qwen35_family/gptq-int4-g64", "qwen35_family/gptq-int4-g128-noact"));

}  // namespace
}  // namespace regauge
