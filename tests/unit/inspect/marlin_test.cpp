#include "inspect/marlin.h"

#include <gtest/gtest.h>

#include "tests/unit/inspect/checkpoint_builder.h"

namespace regauge::inspect {
namespace {

using testing::CheckpointBuilder;

Json config(int bits, int group, bool sym, bool desc_act) {
  return {{"quant_method", "gptq"}, {"bits", bits}, {"group_size", group}, {"sym", sym}, {"desc_act", desc_act}};
}

MarlinVerdict judge(CheckpointBuilder& builder, Json section) {
  builder.checkpoint().quantization = std::move(section);
  return judge_marlin(builder.checkpoint(), make_catalog(builder.checkpoint(), nullptr));
}

TEST(Marlin, SaysNothingAboutOtherFormats) {
  CheckpointBuilder builder;
  builder.dense("w", DType::bf16, {64, 128});
  EXPECT_FALSE(judge_marlin(builder.checkpoint(), make_catalog(builder.checkpoint(), nullptr)).applies);
}

TEST(Marlin, TakesModulesWhoseTilesAreWhole) {
  CheckpointBuilder builder;
  builder.gptq("a", 64, 128, {}).gptq("b", 192, 256, {});
  const MarlinVerdict verdict = judge(builder, config(4, 128, true, true));
  EXPECT_EQ(verdict.modules, 2U);
  EXPECT_EQ(verdict.strict, 2U);
  EXPECT_TRUE(verdict.compatible());
}

TEST(Marlin, PaddingHelpsOnlyWithoutActOrder) {
  CheckpointBuilder padded;
  padded.gptq("b_proj", 48, 128, {});
  const MarlinVerdict without = judge(padded, config(4, 128, true, false));
  EXPECT_EQ(without.strict, 0U);
  EXPECT_EQ(without.padded, 1U);
  EXPECT_TRUE(without.compatible());
  ASSERT_EQ(without.refusals.size(), 1U);
  EXPECT_FALSE(without.refusals[0].padded_too);

  CheckpointBuilder strict;
  strict.gptq("b_proj", 48, 128, {});
  const MarlinVerdict with = judge(strict, config(4, 128, true, true));
  EXPECT_EQ(with.padded, 0U);
  EXPECT_FALSE(with.compatible());
  EXPECT_TRUE(with.refusals.at(0).padded_too);
}

TEST(Marlin, OneGroupARowMakesActOrderMeaningless) {
  CheckpointBuilder builder;
  builder.gptq("b_proj", 48, 128, {});
  EXPECT_EQ(judge(builder, config(4, -1, true, true)).padded, 1U);
}

TEST(Marlin, InputsMustBeWholeGroupsEvenWithPadding) {
  CheckpointBuilder builder;
  builder.gptq("ragged", 64, 320, {});
  const MarlinVerdict verdict = judge(builder, config(4, 128, true, false));
  EXPECT_EQ(verdict.padded, 0U);
  EXPECT_TRUE(verdict.refusals.at(0).padded_too);
}

TEST(Marlin, OtherWidthsAreRefusedModuleByModule) {
  CheckpointBuilder builder;
  builder.gptq("a", 64, 128, {}).gptq("b", 64, 128, {.bits = 3});
  const MarlinVerdict verdict = judge(builder, config(4, 128, true, false));
  EXPECT_EQ(verdict.strict, 1U);
  EXPECT_EQ(verdict.refusals.size(), 1U);
}

TEST(Marlin, TheConfigurationAloneCanRuleItOut) {
  const auto reason = [](Json section) {
    CheckpointBuilder builder;
    builder.gptq("a", 64, 128, {});
    return judge(builder, std::move(section)).config_reason;
  };
  EXPECT_EQ(reason(config(4, 128, true, false)), "");
  EXPECT_NE(reason(config(4, 128, false, false)), "");
  EXPECT_NE(reason(config(3, 128, true, false)), "");
  EXPECT_NE(reason(config(4, 16, true, false)), "");
  Json incomplete = config(4, 128, true, false);
  incomplete.erase("desc_act");
  EXPECT_NE(reason(incomplete), "");
  Json awq = config(4, 128, true, false);
  awq["quant_method"] = "awq";
  EXPECT_NE(reason(awq), "");
}

TEST(Marlin, ProjectionsThatAreFusedMustBeQuantizedAlike) {
  CheckpointBuilder builder;
  builder.gptq("l.0.self_attn.q_proj", 64, 128, {.bits = 8})
      .gptq("l.0.self_attn.k_proj", 64, 128, {})
      .gptq("l.0.self_attn.v_proj", 64, 128, {})
      .gptq("l.0.mlp.gate_proj", 64, 128, {})
      .gptq("l.0.mlp.up_proj", 64, 128, {})
      .gptq("l.0.mlp.down_proj", 64, 128, {.bits = 8})
      .gptq("l.1.linear_attn.in_proj_qkv", 64, 128, {})
      .dense("l.1.linear_attn.in_proj_z.weight", DType::bf16, {64, 128});
  const MarlinVerdict verdict = judge(builder, config(4, 128, true, false));
  ASSERT_EQ(verdict.mixed.size(), 2U);
  EXPECT_EQ(verdict.mixed[0].module, "l.0.self_attn");
  EXPECT_EQ(verdict.mixed[0].fused, "qkv_proj");
  EXPECT_EQ(verdict.mixed[0].tensors.size(), 3U);
  EXPECT_EQ(verdict.mixed[1].fused, "in_proj_qkvz");
  EXPECT_FALSE(verdict.compatible());
}

}  // namespace
}  // namespace regauge::inspect
