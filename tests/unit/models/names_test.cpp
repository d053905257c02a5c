#include <set>

#include <gtest/gtest.h>

#include "base/error.h"
#include "models/architecture.h"
#include "tests/unit/models/checkpoints.h"

namespace regauge {
namespace {

using testing::checkpoint_of;
using testing::read_directory;
using testing::read_gguf;
using testing::tiny_config;
using testing::tiny_moe_config;

std::vector<std::int64_t> without_ones(const Shape& shape) {
  std::vector<std::int64_t> dims;
  std::ranges::copy_if(shape.dims, std::back_inserter(dims), [](std::int64_t dim) { return dim != 1; });
  return dims;
}

/// Every tensor of `checkpoint` taken apart, each piece placed again where it came from, and no slot twice.
/// `foreign` names are those that must not be understood.
std::set<Slot> expect_bijection(const Checkpoint& checkpoint, const std::set<std::string>& foreign = {}) {
  const auto model = recognise(checkpoint);
  std::set<Slot> slots;
  if (model == nullptr) {
    ADD_FAILURE() << "not recognised: " << checkpoint.path;
    return slots;
  }
  for (const Tensor& tensor : checkpoint.tensors) {
    const auto assembly = model->parse(checkpoint.dialect, tensor.name, tensor.shape);
    EXPECT_EQ(assembly.has_value(), !foreign.contains(tensor.name)) << tensor.name << to_string(tensor.shape);
    if (!assembly) continue;
    EXPECT_EQ(assembly->rows * assembly->columns, tensor.shape.elements()) << tensor.name;
    const bool per_expert = checkpoint.dialect == Dialect::hf && assembly->pieces.size() == 1;
    std::int64_t covered = 0;
    for (const Piece& piece : assembly->pieces) {
      EXPECT_TRUE(slots.insert(piece.slot).second) << tensor.name;
      covered += piece.rows.size() * (piece.columns ? piece.columns->size() : assembly->columns);
      EXPECT_EQ(model->slot_shape(piece.slot).elements(),
                piece.rows.size() * (piece.columns ? piece.columns->size() : assembly->columns));
      const auto place =
          model->place(checkpoint.dialect, piece.slot, per_expert ? ExpertLayout::per_expert : ExpertLayout::fused);
      if (!place) {
        ADD_FAILURE() << "no place for a piece of " << tensor.name;
        continue;
      }
      EXPECT_EQ(place->array, tensor.name);
      EXPECT_EQ(without_ones(place->shape), without_ones(tensor.shape)) << tensor.name;
      EXPECT_EQ(place->rows, assembly->rows) << tensor.name;
      EXPECT_EQ(place->columns, assembly->columns) << tensor.name;
      EXPECT_EQ(place->piece, piece) << tensor.name;
    }
    EXPECT_EQ(covered, tensor.shape.elements()) << tensor.name << " is not tiled";
  }
  return slots;
}

std::set<Slot> expected_slots(const Checkpoint& checkpoint) {
  std::set<Slot> slots;
  for (const ExpectedSlot& one : recognise(checkpoint)->expected()) slots.insert(one.slot);
  return slots;
}

TEST(Names, MapBothWaysOnTheBaseCheckpointAndCoverWhatIsExpected) {
  REGAUGE_GOLDEN_OR_SKIP(folder, "qwen35_family/hf-bf16");
  const Checkpoint checkpoint = read_directory(folder, Dialect::hf);
  EXPECT_EQ(expect_bijection(checkpoint), expected_slots(checkpoint));
}

TEST(Names, OfTheGgufFilesNameTheSameSlotsAsTheDirectory) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(root, "qwen35_family");
  std::set<Slot> gguf = expect_bijection(read_gguf(root / "hf-bf16.gguf"));
  gguf.merge(expect_bijection(read_gguf(root / "hf-bf16.mmproj.gguf")));
  EXPECT_EQ(gguf, expect_bijection(read_directory(root / "hf-bf16", Dialect::hf)));
}

TEST(Names, MapBothWaysOnEveryOtherGoldenCheckpoint) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(root, "qwen35_family");
  for (const char* name : {"gptq-mixed-eora", "gptq-int4-g64", "gptq-int4-g128-noact"}) {
    EXPECT_FALSE(expect_bijection(read_directory(root / name, Dialect::hf)).empty()) << name;
  }
  for (const char* name : {"mlx-8865", "mlx-4bit"}) {
    EXPECT_FALSE(expect_bijection(read_directory(root / name, Dialect::mlx)).empty()) << name;
  }
  for (const char* name :
       {"hf-bf16-q4_0.gguf", "gptq-int4-g128-noact.gguf", "../qwen35_tiny/tiny.gguf", "../qwen35_tiny/tiny-mtp.gguf",
        "../qwen35_tiny_moe/tiny.gguf", "../qwen35_tiny_moe/tiny-mtp.gguf", "../gguf/tiny-qwen35-q4_0.gguf",
        "../gguf/tiny-qwen35-q4_k_m.gguf", "../gguf/tiny-qwen35-q8_0.gguf"}) {
    const Checkpoint checkpoint = read_gguf(root / name);
    EXPECT_EQ(expect_bijection(checkpoint), expected_slots(checkpoint)) << name;
  }
  const Checkpoint moe = read_directory(root / "../qwen35_tiny_moe/hf", Dialect::hf);
  EXPECT_EQ(expect_bijection(moe), expected_slots(moe));
  const Checkpoint dense = read_directory(root / "../qwen35_tiny/hf", Dialect::hf);
  EXPECT_EQ(expect_bijection(dense), expected_slots(dense));
}

TEST(Names, MapBothWaysOnTheMinimalGptqCheckpoints) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(root, "gptq/ckpt");
  // These keep a sample of the weights only; the mtp.fc of the first one is 16 rows where the model is 256 wide.
  EXPECT_FALSE(expect_bijection(read_directory(root / "mini003", Dialect::hf), {"mtp.fc.weight"}).empty());
  EXPECT_FALSE(expect_bijection(read_directory(root / "mini004", Dialect::hf)).empty());
}

TEST(Names, OfEveryExpectedSlotLeadBackToItInEveryDialect) {
  for (const Json& config : {tiny_config(), tiny_moe_config()}) {
    const auto model = recognise(checkpoint_of(config));
    for (const ExpectedSlot& one : model->expected()) {
      for (const Dialect dialect : {Dialect::hf, Dialect::mlx, Dialect::gguf}) {
        for (const ExpertLayout layout : {ExpertLayout::fused, ExpertLayout::per_expert}) {
          const auto place = model->place(dialect, one.slot, layout);
          ASSERT_TRUE(place.has_value()) << one.slot.role;
          const auto assembly = model->parse(dialect, place->array, place->shape);
          ASSERT_TRUE(assembly.has_value()) << place->array << to_string(place->shape);
          EXPECT_EQ(assembly->rows, place->rows);
          EXPECT_EQ(assembly->columns, place->columns);
          EXPECT_NE(std::ranges::find(assembly->pieces, place->piece), assembly->pieces.end()) << place->array;
        }
      }
      EXPECT_EQ(model->slot_shape(one.slot), one.shape);
      const auto canonical = model->parse(Dialect::hf, model->canonical_name(one.slot), one.shape);
      ASSERT_TRUE(canonical.has_value()) << model->canonical_name(one.slot);
      ASSERT_EQ(canonical->pieces.size(), 1U);
      EXPECT_EQ(canonical->pieces.front().slot, one.slot);
    }
  }
}

class NamesOf : public ::testing::Test {
 protected:
  std::unique_ptr<const Architecture> dense_ = recognise(checkpoint_of(tiny_config()));
  std::unique_ptr<const Architecture> moe_ = recognise(checkpoint_of(tiny_moe_config()));

  static Slot only_slot(const std::optional<Assembly>& assembly) {
    if (!assembly || assembly->pieces.size() != 1) return {};
    return assembly->pieces.front().slot;
  }
};

TEST_F(NamesOf, TheSameWeightInItsDialectsAreOneSlot) {
  const Shape shape{320, 64};
  const Slot slot =
      only_slot(dense_->parse(Dialect::hf, "model.language_model.layers.1.linear_attn.in_proj_qkv.weight", shape));
  EXPECT_EQ(slot.component, Component::deltanet);
  EXPECT_EQ(slot.layer, 1);
  EXPECT_EQ(slot.role, "linear_attn.in_proj_qkv.weight");
  EXPECT_EQ(dense_->canonical_name(slot), "model.language_model.layers.1.linear_attn.in_proj_qkv.weight");
  EXPECT_EQ(only_slot(dense_->parse(Dialect::hf, "model.layers.1.linear_attn.in_proj_qkv.weight", shape)), slot);
  EXPECT_EQ(
      only_slot(dense_->parse(Dialect::mlx, "language_model.model.layers.1.linear_attn.in_proj_qkv.weight", shape)),
      slot);
  EXPECT_EQ(only_slot(dense_->parse(Dialect::gguf, "blk.1.attn_qkv.weight", shape)), slot);
}

TEST_F(NamesOf, ConvolutionsAreReadWithTheirAxisAnywhere) {
  const std::string hf = "model.language_model.layers.0.linear_attn.conv1d.weight";
  const auto expected = dense_->parse(Dialect::hf, hf, Shape{320, 1, 4});
  ASSERT_TRUE(expected.has_value());
  EXPECT_EQ(expected->rows, 320);
  EXPECT_EQ(expected->columns, 4);
  EXPECT_EQ(dense_->parse(Dialect::mlx, "language_model.model.layers.0.linear_attn.conv1d.weight", Shape{320, 4, 1}),
            expected);
  EXPECT_EQ(dense_->parse(Dialect::mlx, hf, Shape{320, 1, 4}), expected) << "raw tensors inside an MLX directory";
  EXPECT_EQ(dense_->parse(Dialect::gguf, "blk.0.ssm_conv1d.weight", Shape{320, 4}), expected);
  EXPECT_EQ(dense_->place(Dialect::hf, expected->pieces[0].slot)->shape, (Shape{320, 1, 4}));
  EXPECT_EQ(dense_->place(Dialect::mlx, expected->pieces[0].slot)->shape, (Shape{320, 4, 1}));
  EXPECT_EQ(dense_->place(Dialect::gguf, expected->pieces[0].slot)->shape, (Shape{320, 4}));
}

TEST_F(NamesOf, ATextOnlySaveGetsItsOwnNamesBack) {
  Checkpoint text = checkpoint_of(tiny_config());
  testing::add_tensor(text, "model.layers.0.mlp.up_proj.weight", Shape{96, 64});
  const auto model = recognise(text);
  const Slot slot = only_slot(model->parse(Dialect::hf, "model.layers.0.mlp.up_proj.weight", Shape{96, 64}));
  EXPECT_EQ(model->place(Dialect::hf, slot)->array, "model.layers.0.mlp.up_proj.weight");
  EXPECT_EQ(dense_->place(Dialect::hf, slot)->array, "model.language_model.layers.0.mlp.up_proj.weight");
  EXPECT_EQ(model->place(Dialect::mlx, slot)->array, "language_model.model.layers.0.mlp.up_proj.weight");
}

TEST_F(NamesOf, TheHeadIsFoundUnderEveryPrefix) {
  for (const char* name : {"lm_head.weight", "language_model.lm_head.weight", "model.language_model.lm_head.weight"}) {
    EXPECT_EQ(only_slot(dense_->parse(Dialect::mlx, name, Shape{320, 64})).component, Component::head) << name;
  }
  EXPECT_EQ(dense_->place(Dialect::mlx, only_slot(dense_->parse(Dialect::hf, "lm_head.weight", Shape{320, 64})))->array,
            "language_model.lm_head.weight");
}

TEST_F(NamesOf, MtpBlocksStandBehindTheDecoderInGgufFiles) {
  const Slot block = only_slot(dense_->parse(Dialect::gguf, "blk.4.attn_q.weight", Shape{256, 64}));
  EXPECT_EQ(block.component, Component::mtp);
  EXPECT_EQ(block.layer, 0);
  EXPECT_EQ(block, only_slot(dense_->parse(Dialect::hf, "mtp.layers.0.self_attn.q_proj.weight", Shape{256, 64})));
  EXPECT_EQ(block, only_slot(dense_->parse(Dialect::mlx, "language_model.mtp.layers.0.self_attn.q_proj.weight",
                                           Shape{256, 64})));
  const Slot fc = only_slot(dense_->parse(Dialect::gguf, "blk.4.nextn.eh_proj.weight", Shape{64, 128}));
  EXPECT_EQ(fc, only_slot(dense_->parse(Dialect::hf, "mtp.fc.weight", Shape{64, 128})));
  EXPECT_EQ(fc.layer, -1);
  EXPECT_EQ(only_slot(dense_->parse(Dialect::gguf, "blk.4.nextn.embed_tokens.weight", Shape{320, 64})).component,
            Component::mtp);
  EXPECT_FALSE(dense_->parse(Dialect::gguf, "blk.5.nextn.eh_proj.weight", Shape{64, 128}).has_value());
  EXPECT_FALSE(dense_->parse(Dialect::gguf, "blk.3.nextn.eh_proj.weight", Shape{64, 128}).has_value());
}

TEST_F(NamesOf, AFusedAttentionOfGgufIsThreeSlots) {
  const auto assembly = dense_->parse(Dialect::gguf, "blk.3.attn_qkv.weight", Shape{384, 64});
  ASSERT_TRUE(assembly.has_value());
  ASSERT_EQ(assembly->pieces.size(), 3U);
  EXPECT_EQ(assembly->pieces[0].slot.role, "self_attn.q_proj.weight");
  EXPECT_EQ(assembly->pieces[1].rows, (RowRange{256, 320}));
  EXPECT_EQ(assembly->pieces[2].rows, (RowRange{320, 384}));
  EXPECT_EQ(dense_->place(Dialect::gguf, assembly->pieces[1].slot)->array, "blk.3.attn_k.weight");
}

// 8 experts, 48 inner rows, hidden 64.
TEST_F(NamesOf, FusedExpertsAreGateThenUpOfEachExpert) {
  const auto assembly =
      moe_->parse(Dialect::hf, "model.language_model.layers.2.mlp.experts.gate_up_proj", Shape{8, 96, 64});
  ASSERT_TRUE(assembly.has_value());
  EXPECT_EQ(assembly->rows, 768);
  ASSERT_EQ(assembly->pieces.size(), 16U);
  EXPECT_EQ(assembly->pieces[7].slot.expert, 3);
  EXPECT_EQ(assembly->pieces[7].slot.role, "mlp.experts.up_proj.weight");
  EXPECT_EQ(assembly->pieces[7].rows, (RowRange{3 * 96 + 48, 4 * 96}));
  EXPECT_EQ(moe_->canonical_name(assembly->pieces[7].slot),
            "model.language_model.layers.2.mlp.experts.3.up_proj.weight");
  const auto fused = moe_->parse(Dialect::gguf, "blk.2.ffn_gate_up_exps.weight", Shape{8, 96, 64});
  EXPECT_EQ(fused, assembly);
}

TEST_F(NamesOf, ExpertStacksOfEveryDialectHoldTheSameSlots) {
  const auto gguf = moe_->parse(Dialect::gguf, "blk.2.ffn_down_exps.weight", Shape{8, 64, 48});
  ASSERT_TRUE(gguf.has_value());
  EXPECT_EQ(gguf, moe_->parse(Dialect::mlx, "language_model.model.layers.2.mlp.switch_mlp.down_proj.weight",
                              Shape{8, 64, 48}));
  EXPECT_EQ(gguf, moe_->parse(Dialect::hf, "model.language_model.layers.2.mlp.experts.down_proj", Shape{8, 64, 48}));
  EXPECT_EQ(gguf->pieces[5].slot,
            only_slot(moe_->parse(Dialect::hf, "model.language_model.layers.2.mlp.experts.5.down_proj.weight",
                                  Shape{64, 48})));
}

TEST_F(NamesOf, TheSharedExpertsGateIsARowOrAVector) {
  const auto matrix = moe_->parse(Dialect::gguf, "blk.0.ffn_gate_inp_shexp.weight", Shape{1, 64});
  ASSERT_TRUE(matrix.has_value());
  EXPECT_EQ(matrix, moe_->parse(Dialect::gguf, "blk.0.ffn_gate_inp_shexp.weight", Shape{64}));
}

/// The elements of the patch kernel numbered as Hugging Face stores them, then carried to mlx-vlm's order by axes.
TEST_F(NamesOf, TheSlicesOfThePatchKernelAreTheSameInEveryOrderOfAxes) {
  constexpr std::int64_t kC = 3, kT = 2, kP = 4;
  std::vector<std::int64_t> mlx_to_hf(kC * kT * kP * kP);
  for (std::int64_t c = 0; c < kC; ++c) {
    for (std::int64_t t = 0; t < kT; ++t) {
      for (std::int64_t y = 0; y < kP; ++y) {
        for (std::int64_t x = 0; x < kP; ++x) {
          mlx_to_hf[static_cast<std::size_t>(((t * kP + y) * kP + x) * kC + c)] = ((c * kT + t) * kP + y) * kP + x;
        }
      }
    }
  }
  const auto hf = dense_->parse(Dialect::hf, "model.visual.patch_embed.proj.weight", Shape{32, kC, kT, kP, kP});
  const auto mlx = dense_->parse(Dialect::mlx, "vision_tower.patch_embed.proj.weight", Shape{32, kT, kP, kP, kC});
  ASSERT_TRUE(hf && mlx);
  ASSERT_EQ(hf->pieces.size(), 2U);
  ASSERT_EQ(mlx->pieces.size(), 2U);
  for (std::size_t frame = 0; frame < 2; ++frame) {
    EXPECT_EQ(hf->pieces[frame].slot, mlx->pieces[frame].slot);
    const auto from_hf = hf->pieces[frame].columns->indices();
    const auto from_mlx = mlx->pieces[frame].columns->indices();
    ASSERT_EQ(from_hf.size(), 48U);
    for (std::size_t i = 0; i < from_hf.size(); ++i) {
      EXPECT_EQ(mlx_to_hf[static_cast<std::size_t>(from_mlx[i])], from_hf[i]);
      const auto plane = static_cast<std::int64_t>(i) / (kP * kP);
      EXPECT_EQ(from_hf[i],
                (plane * kT + static_cast<std::int64_t>(frame)) * kP * kP + static_cast<std::int64_t>(i) % (kP * kP));
    }
  }
  EXPECT_EQ(dense_->place(Dialect::gguf, hf->pieces[0].slot)->array, "v.patch_embd.weight");
  EXPECT_EQ(dense_->place(Dialect::gguf, hf->pieces[1].slot)->array, "v.patch_embd.weight.1");
  EXPECT_EQ(dense_->place(Dialect::gguf, hf->pieces[1].slot)->shape, (Shape{32, 3, 4, 4}));
}

TEST_F(NamesOf, WhatIsNotOfThisModelIsNotUnderstood) {
  const auto none = [&](Dialect dialect, const char* name, const Shape& shape) {
    EXPECT_FALSE(dense_->parse(dialect, name, shape).has_value()) << name << to_string(shape);
  };
  none(Dialect::hf, "model.language_model.layers.4.input_layernorm.weight", {64});
  none(Dialect::hf, "model.language_model.layers.-1.input_layernorm.weight", {64});
  none(Dialect::hf, "model.language_model.layers.00.input_layernorm.weight", {64});
  none(Dialect::hf, "model.language_model.layers.99999999999999999999.input_layernorm.weight", {64});
  none(Dialect::hf, "model.language_model.layers.0.input_layernorm.weight", {65});
  none(Dialect::hf, "model.language_model.layers.0.self_attn.q_proj.weight", {256, 64});
  none(Dialect::hf, "model.language_model.layers.3.linear_attn.A_log", {6});
  none(Dialect::hf, "model.language_model.layers.0.mlp.gate.weight", {8, 64});
  none(Dialect::hf, "model.language_model.layers.0.mlp.experts.gate_proj.weight", {8, 48, 64});
  none(Dialect::hf, "model.language_model.layers.0.self_attn.q_proj.bias", {256});
  none(Dialect::hf, "model.language_model.embed_tokens.weight", {64, 320});
  none(Dialect::hf, "model.visual.blocks.2.norm1.weight", {32});
  none(Dialect::hf, "model.visual.deepstack_merger_list.0.norm.weight", {32});
  none(Dialect::hf, "model.visual.patch_embed.proj.weight", {32, 3, 2, 4, 5});
  none(Dialect::hf, "model.language_model.", {1});
  none(Dialect::hf, "", {1});
  none(Dialect::gguf, "blk.0.ssm_a.weight", {6});
  none(Dialect::gguf, "blk.0.ffn_norm.weight", {64});
  none(Dialect::gguf, "blk.0.", {64});
  none(Dialect::gguf, "blk.", {64});
  none(Dialect::gguf, "rope_freqs.weight", {16});
  none(Dialect::gguf, "blk.4.ssm_a", {6});
}

/// Names with one letter missing are foreign, or another spelling of the same weights.
TEST_F(NamesOf, DamagedNamesNeverNameOtherWeights) {
  for (const Architecture* model : {dense_.get(), moe_.get()}) {
    for (const ExpectedSlot& one : model->expected()) {
      if (one.slot.layer > 0 || one.slot.expert > 0) continue;
      for (const Dialect dialect : {Dialect::hf, Dialect::mlx, Dialect::gguf}) {
        const auto place = model->place(dialect, one.slot);
        const auto whole = model->parse(dialect, place->array, place->shape);
        for (std::size_t i = 0; i < place->array.size(); ++i) {
          std::string damaged = place->array;
          damaged.erase(i, 1);
          const auto assembly = model->parse(dialect, damaged, place->shape);
          EXPECT_TRUE(!assembly || assembly == whole) << damaged << " from " << place->array;
        }
      }
    }
  }
}

TEST_F(NamesOf, AnUnknownSlotHasNoPlaceAndIsAnErrorElsewhere) {
  Slot slot;
  slot.component = Component::attention;
  slot.layer = 0;  // a DeltaNet layer
  slot.role = "self_attn.q_proj.weight";
  EXPECT_FALSE(dense_->place(Dialect::gguf, slot).has_value());
  EXPECT_THROW(dense_->slot_shape(slot), Error);
}

TEST_F(NamesOf, MatricesOfLinearModulesAreLinear) {
  std::int64_t text = 0;
  std::int64_t parameters = 0;
  const auto model = recognise(checkpoint_of(tiny_config()));
  for (const ExpectedSlot& one : model->expected()) {
    if (!model->is_linear(one.slot) || one.slot.component == Component::mtp) continue;
    EXPECT_EQ(one.shape.rank(), 2U) << one.slot.role;
    EXPECT_NE(one.slot.component, Component::vision);
    ++text;
    parameters += one.shape.elements();
  }
  // 3 DeltaNet mixers of 5, one attention of 4, 4 MLPs of 3, the head.
  EXPECT_EQ(text, 15 + 4 + 12 + 1);
  EXPECT_GT(parameters, 0);
}

TEST(FactorNames, OfAGgufAdapterAndOfItsPeftSourceNameTheSameSlots) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(root, "qwen35_family");
  const Checkpoint adapter = read_gguf(root / "gptq-mixed-eora.adapter.gguf");
  const auto alone = recognise(adapter);
  const auto base = recognise(read_directory(root / "gptq-mixed-eora", Dialect::hf));
  const auto gguf_base = recognise(read_gguf(root / "hf-bf16.gguf"));
  ASSERT_TRUE(alone && base && gguf_base);
  std::multiset<Slot> from_gguf;
  for (const Tensor& tensor : adapter.tensors) {
    const auto assembly = alone->parse(Dialect::gguf, tensor.name, tensor.shape);
    ASSERT_TRUE(assembly.has_value()) << tensor.name;
    EXPECT_EQ(assembly, gguf_base->parse(Dialect::gguf, tensor.name, tensor.shape)) << tensor.name;
    ASSERT_EQ(assembly->pieces.size(), 1U);
    from_gguf.insert(assembly->pieces.front().slot);
  }
  std::multiset<Slot> from_peft;
  const testing::GoldenFile peft(root / "gptq-mixed-eora/eora/adapter_model.safetensors");
  for (const auto& [name, entry] : peft.entries()) {
    const auto assembly = base->parse(Dialect::hf, name, Shape(entry.shape));
    ASSERT_TRUE(assembly.has_value()) << name;
    from_peft.insert(assembly->pieces.front().slot);
  }
  EXPECT_EQ(from_gguf, from_peft);
  EXPECT_EQ(from_gguf.size(), 50U);
}

TEST(FactorNames, NeedAFactorsShape) {
  const auto model = recognise(checkpoint_of(tiny_config()));
  const std::string name = "base_model.model.model.language_model.layers.0.mlp.up_proj.lora_A.weight";
  EXPECT_TRUE(model->parse(Dialect::hf, name, Shape{8, 64}).has_value());
  EXPECT_FALSE(model->parse(Dialect::hf, name, Shape{64, 8}).has_value());
  EXPECT_FALSE(model->parse(Dialect::gguf, "blk.0.attn_norm.weight.lora_a", Shape{8, 64}).has_value());
  EXPECT_TRUE(model->parse(Dialect::gguf, "blk.0.ffn_up.weight.lora_b", Shape{96, 8}).has_value());
  EXPECT_FALSE(model->parse(Dialect::gguf, "blk.0.ffn_up.weight.lora_b", Shape{97, 8}).has_value());
}

TEST(FactorNames, OfExpertStacksArePiecesOfEachExpert) {
  const auto model = recognise(checkpoint_of(tiny_moe_config()));
  const auto assembly = model->parse(Dialect::gguf, "blk.1.ffn_down_exps.weight.lora_b", Shape{8, 64, 4});
  ASSERT_TRUE(assembly.has_value());
  ASSERT_EQ(assembly->pieces.size(), 8U);
  EXPECT_EQ(assembly->pieces[2].rows, (RowRange{128, 192}));
  EXPECT_EQ(assembly->pieces[2].slot.expert, 2);
}

TEST(AdapterFile, DoesNotKnowTheSizesOfItsBase) {
  REGAUGE_GOLDEN_OR_SKIP(path, "qwen35_family/gptq-mixed-eora.adapter.gguf");
  const auto model = recognise(read_gguf(path));
  const auto assembly = model->parse(Dialect::gguf, "blk.0.ssm_out.weight.lora_a", Shape{64, 384});
  ASSERT_TRUE(assembly.has_value());
  const Slot slot = assembly->pieces.front().slot;
  EXPECT_TRUE(model->expected().empty());
  EXPECT_THROW(model->slot_shape(slot), Error);
  EXPECT_THROW(model->stored_convention(slot), Error);
  EXPECT_EQ(model->canonical_name(slot), "model.language_model.layers.0.linear_attn.out_proj.weight");
}

}  // namespace
}  // namespace regauge
