#include "verify/sound.h"

#include <algorithm>
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

TEST(Soundness, IsNotLostToFiniteNumbersBeyondF32) {
  const std::vector<double> values{1e300, -1e300};
  Tensor tensor;
  tensor.name = "w";
  tensor.shape = Shape{1, 2};
  tensor.encoding = Dense{DType::f64};
  tensor.parts.push_back(testing::memory_part<double>(PartId::values, DType::f64, 1, 2, std::span(values)));
  EXPECT_TRUE(examined(tensor).sound());
  const std::vector<double> infinite{1e300, std::numeric_limits<double>::infinity()};
  tensor.parts.front() = testing::memory_part<double>(PartId::values, DType::f64, 1, 2, std::span(infinite));
  EXPECT_FALSE(examined(tensor).sound());
}

TEST(Soundness, WarnsOfGroupsOfUnequalSize) {
  GroupedSpec spec = small_matrix();
  spec.index = std::vector<std::int32_t>(64, 0);
  std::fill(spec.index->begin(), spec.index->begin() + 32, 1);
  EXPECT_EQ(find(examined(grouped_tensor("w", spec)), "group-index-uneven"), nullptr);
  spec.index->at(0) = 0;
  const Soundness result = examined(grouped_tensor("w", spec));
  EXPECT_TRUE(result.sound());
  EXPECT_NE(find(result, "group-index-uneven"), nullptr);
}

// One block of Q8_0 a row: an f16 scale and 32 codes.
TEST(Soundness, LooksAtTheScalesOfBlocks) {
  std::vector<std::uint8_t> blocks(2 * 34, 1);
  const auto with_scale = [&](std::uint16_t scale) {
    blocks[34] = static_cast<std::uint8_t>(scale);
    blocks[35] = static_cast<std::uint8_t>(scale >> 8);
    Tensor tensor;
    tensor.name = "w";
    tensor.shape = Shape{2, 32};
    tensor.encoding = Blocked{BlockType::q8_0};
    tensor.parts.push_back(
        testing::memory_part<std::uint8_t>(PartId::blocks, DType::u8, 2, 34, std::span<const std::uint8_t>(blocks)));
    return examined(tensor);
  };
  EXPECT_EQ(with_scale(0x3C00).findings, Findings{});
  ASSERT_NE(find(with_scale(0x5640), "scales-absurd"), nullptr);  // 100
  EXPECT_FALSE(with_scale(0x7E00).sound());                       // NaN
  EXPECT_FALSE(with_scale(0x7C00).sound());                       // infinity
}

TEST(Soundness, IsToldByTheDataWhereNormsSpeakAnotherDialect) {
  Checkpoint checkpoint = open_checkpoint(testing::sample_path("qwen35-bf16-tiny"));
  EXPECT_EQ(find(examine_soundness(checkpoint), "norm-convention-contradicted"), nullptr);
  for (Tensor& tensor : checkpoint.tensors) {
    if (!tensor.name.ends_with("layers.0.input_layernorm.weight")) continue;
    tensor = dense_tensor(tensor.name, tensor.shape,
                          std::vector<float>(static_cast<std::size_t>(tensor.shape.elements()), 1.0F));
  }
  const Soundness result = examine_soundness(checkpoint);
  ASSERT_NE(find(result, "norm-convention-contradicted"), nullptr);
}

TEST(Soundness, DoesNotDependOnThreadsAndTellsAFaultOfEveryBandOnce) {
  GroupedSpec spec = small_matrix();
  spec.rows = 40'000;
  spec.codes.assign(std::size_t{40'000} * 64, 3);
  spec.scales.assign(std::size_t{40'000} * 2, 0x3C00);
  spec.scales[70'001] = 0x7E00;
  Checkpoint checkpoint;
  checkpoint.tensors.push_back(grouped_tensor("w", spec));
  const Soundness one = examine_soundness(checkpoint, 1);
  EXPECT_EQ(one.findings, examine_soundness(checkpoint, 3).findings);
  EXPECT_EQ(one.values, 40'000U * 64);
  ASSERT_EQ(one.findings.size(), 2U);
  EXPECT_EQ(one.findings[0].message, "32 NaN and 0 infinite of 2560000 values");
  spec.index = std::vector<std::int32_t>(64, 9);
  checkpoint.tensors.front() = grouped_tensor("w", spec);
  const Soundness broken = examine_soundness(checkpoint, 2);
  EXPECT_EQ(std::ranges::count(broken.findings, "data-unread", &Finding::code), 1);
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
