#include "verify/sound.h"

#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "formats/format.h"
#include "tests/support/golden.h"
#include "tests/support/tensors.h"

namespace regauge {
namespace {

using testing::dense_tensor;
using testing::grouped_tensor;
using testing::GroupedSpec;

Soundness examined(Tensor tensor) {
  Checkpoint checkpoint;
  checkpoint.tensors.push_back(std::move(tensor));
  return examine_soundness(checkpoint, 2);
}

const Finding* find(const Soundness& result, const std::string& code) {
  for (const Finding& finding : result.findings) {
    if (finding.code == code) return &finding;
  }
  return nullptr;
}

GroupedSpec small_matrix() {
  return {.rows = 2,
          .columns = 64,
          .bits = 4,
          .group = 32,
          .codes = std::vector<std::uint8_t>(128, 3),
          .scales = std::vector<std::uint16_t>(4, 0x3C00),
          .zeros = {},
          .index = {}};
}

TEST(Soundness, OfTheSamplesIsGiven) {
  for (const char* sample : {"qwen35-gptq-int4", "qwen35-bf16-tiny", "qwen35-tiny-mtp.gguf"}) {
    const Checkpoint checkpoint = open_checkpoint(testing::sample_path(sample));
    const Soundness result = examine_soundness(checkpoint);
    EXPECT_TRUE(result.sound()) << sample;
    EXPECT_EQ(result.tensors, checkpoint.tensors.size());
    EXPECT_GT(result.values, 300'000U);
  }
}

TEST(Soundness, IsLostToValuesThatAreNoNumbers) {
  const float infinity = std::numeric_limits<float>::infinity();
  const Soundness result = examined(dense_tensor("w", Shape{2, 2}, std::vector{1.0F, -infinity, infinity, 2.0F}));
  EXPECT_FALSE(result.sound());
  ASSERT_NE(find(result, "not-finite"), nullptr);
  EXPECT_EQ(find(result, "not-finite")->tensor, "w");
}

TEST(Soundness, IsLostToAGroupIndexOutOfRange) {
  GroupedSpec spec = small_matrix();
  spec.index = std::vector<std::int32_t>(64, 0);
  spec.index->back() = 2;
  const Soundness result = examined(grouped_tensor("w", spec));
  EXPECT_FALSE(result.sound());
  EXPECT_NE(find(result, "data-unread"), nullptr);
}

TEST(Soundness, LosesNothingToStrangeScalesAndSaysSo) {
  GroupedSpec spec = small_matrix();
  spec.scales = {0x0000, 0xBC00, 0x5640, 0x3C00};  // 0, -1, 100, 1
  const Soundness result = examined(grouped_tensor("w", spec));
  EXPECT_TRUE(result.sound());
  for (const char* code : {"scales-zero", "scales-negative", "scales-absurd"}) {
    ASSERT_NE(find(result, code), nullptr) << code;
    EXPECT_EQ(find(result, code)->severity, Severity::warning);
  }
  EXPECT_EQ(examined(grouped_tensor("w", small_matrix())).findings, Findings{});
}

TEST(Soundness, IsLostWithAWeight) {
  Checkpoint checkpoint = open_checkpoint(testing::sample_path("qwen35-bf16-tiny"));
  std::erase_if(checkpoint.tensors,
                [](const Tensor& tensor) { return tensor.name.ends_with("layers.3.mlp.up_proj.weight"); });
  const Soundness result = examine_soundness(checkpoint);
  EXPECT_FALSE(result.sound());
  EXPECT_NE(find(result, "tensor-missing"), nullptr);
}

}  // namespace
}  // namespace regauge
