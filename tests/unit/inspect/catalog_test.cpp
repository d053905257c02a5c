#include "inspect/catalog.h"

#include <gtest/gtest.h>

#include "inspect/summary.h"
#include "tests/unit/inspect/checkpoint_builder.h"

namespace regauge::inspect {
namespace {

using testing::CheckpointBuilder;

TEST(BlockName, TakesTheFirstNumberThatIsAWholeStep) {
  EXPECT_EQ(split_block_name("model.layers.3.mlp.up_proj.weight").layer, 3);
  EXPECT_EQ(split_block_name("model.layers.3.mlp.up_proj.weight").rest, "mlp.up_proj.weight");
  EXPECT_EQ(split_block_name("blk.12.attn_q.weight").layer, 12);
  EXPECT_EQ(split_block_name("h.0.experts.7.w1").rest, "experts.7.w1");
}

TEST(BlockName, IsAbsentInNamesWithoutBlocks) {
  EXPECT_EQ(split_block_name("lm_head.weight").layer, -1);
  EXPECT_EQ(split_block_name("conv1.weight").layer, -1);
  EXPECT_EQ(split_block_name("v.patch_embd.weight.1").layer, -1);  // a slice, not a block
  EXPECT_EQ(split_block_name("3.weight").layer, -1);
  EXPECT_EQ(split_block_name("a.99999999999.b").layer, -1);
  EXPECT_EQ(split_block_name("").rest, "");
}

TEST(FactorName, CoversTheSpellingsInCirculation) {
  EXPECT_TRUE(is_factor_name("model.layers.3.self_attn.o_proj.lora_A"));
  EXPECT_TRUE(is_factor_name("base_model.model.layers.3.self_attn.o_proj.lora_B.weight"));
  EXPECT_TRUE(is_factor_name("blk.3.attn_output.weight.lora_a"));
  EXPECT_FALSE(is_factor_name("model.layers.3.lora_attention.weight"));
}

TEST(Catalog, AQuantizedModuleCountsItsWeightsAndAllItsArrays) {
  CheckpointBuilder builder;
  builder.gptq("m", 64, 256, {});
  const Catalog catalog = make_catalog(builder.checkpoint(), nullptr);
  ASSERT_EQ(catalog.entries.size(), 1U);
  EXPECT_EQ(catalog.entries[0].parameters, 64U * 256U);
  // 4-bit codes, F32 scales and 4-bit zeros for 2 groups of 64 outputs, an index of 256 numbers.
  EXPECT_EQ(catalog.entries[0].bytes, 64U * 256U / 2U + 4U * 2U * 64U + 2U * 64U / 2U + 4U * 256U);
  EXPECT_TRUE(catalog.entries[0].quantized);
}

TEST(Catalog, FactorsAreCountedApart) {
  CheckpointBuilder builder;
  builder.gptq("m", 64, 256, {}).factors("m", 64, 256, 16);
  const Entry entry = make_catalog(builder.checkpoint(), nullptr).entries.at(0);
  CheckpointBuilder without;
  without.gptq("m", 64, 256, {});
  EXPECT_EQ(entry.bytes, make_catalog(without.checkpoint(), nullptr).entries.at(0).bytes);
  EXPECT_EQ(entry.parameters, 64U * 256U);
  EXPECT_EQ(entry.rank, 16);
  EXPECT_EQ(entry.factor_parameters, 16U * (64U + 256U));
  EXPECT_EQ(entry.factor_bytes, 2U * 16U * (64U + 256U));
}

TEST(Catalog, ArraysOfNoTensorAreListed) {
  CheckpointBuilder builder;
  builder.dense("w", DType::f32, {2, 2}).dead_array("workspace", 100);
  const Catalog catalog = make_catalog(builder.checkpoint(), nullptr);
  ASSERT_EQ(catalog.unused_arrays.size(), 1U);
  EXPECT_EQ(builder.checkpoint().arrays[catalog.unused_arrays[0]].name, "workspace");
}

TEST(Summary, NamesEachAverageAndCountsEveryArrayOnce) {
  CheckpointBuilder builder;
  builder.gptq("m", 64, 256, {}).dense("norm.weight", DType::f32, {64}).dead_array("workspace", 100);
  const Checkpoint& checkpoint = builder.checkpoint();
  const Summary summary = summarise(checkpoint, nullptr, make_catalog(checkpoint, nullptr));
  EXPECT_EQ(summary.quantized.parameters, 16384U);
  EXPECT_DOUBLE_EQ(*summary.quantized.bits(), 8.0 * (8192 + 512 + 64 + 1024) / 16384);
  EXPECT_EQ(summary.everything.parameters, 16384U + 64U);
  EXPECT_EQ(summary.everything.bytes, summary.quantized.bytes + 256U + 100U);
  EXPECT_EQ(summary.arrays, 6U);
  EXPECT_EQ(summary.unused_arrays, 1U);
}

TEST(Summary, RowsOfTheTableAddUpToTheTotals) {
  CheckpointBuilder builder;
  builder.gptq("a", 64, 256, {})
      .factors("a", 64, 256, 8)
      .gptq("b", 64, 128, {.bits = 8})
      .dense("c", DType::bf16, {32, 32});
  const Checkpoint& checkpoint = builder.checkpoint();
  const Summary summary = summarise(checkpoint, nullptr, make_catalog(checkpoint, nullptr));
  Tally models;
  Tally factors;
  for (const TableRow& row : summary.table) (row.component == Component::adapter ? factors : models).add(row.tally);
  EXPECT_EQ(models.parameters, summary.everything.parameters);
  EXPECT_EQ(factors, summary.factors);
  EXPECT_EQ(models.bytes + factors.bytes, summary.array_bytes);
}

TEST(Summary, ACheckpointOfNothingHasNoAverage) {
  const Checkpoint checkpoint;
  const Summary summary = summarise(checkpoint, nullptr, make_catalog(checkpoint, nullptr));
  EXPECT_FALSE(summary.everything.bits().has_value());
  EXPECT_TRUE(summary.table.empty());
}

}  // namespace
}  // namespace regauge::inspect
