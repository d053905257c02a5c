#include <gtest/gtest.h>

#include "models/architecture.h"
#include "models/qwen3_5/conventions.h"
#include "tests/unit/models/checkpoints.h"

namespace regauge {
namespace {

using testing::add_tensor;
using testing::checkpoint_of;
using testing::tiny_config;

/// reshape(key_heads, ratio, unit), exchange the first two axes, flatten: the rule as llama.cpp's converter states it.
std::vector<std::int64_t> reordered_by_reshaping(std::int64_t key_heads, std::int64_t ratio, std::int64_t unit,
                                                 std::int64_t lead) {
  std::vector<std::int64_t> out;
  for (std::int64_t i = 0; i < lead; ++i) out.push_back(i);
  for (std::int64_t j = 0; j < ratio; ++j) {
    for (std::int64_t g = 0; g < key_heads; ++g) {
      for (std::int64_t e = 0; e < unit; ++e) out.push_back(lead + (g * ratio + j) * unit + e);
    }
  }
  return out;
}

TEST(ValueHeadReorder, EqualsTheReshapingRuleAndItsInverse) {
  for (const std::int64_t ratio : {1, 2, 3, 4}) {
    for (const std::int64_t key_heads : {1, 2, 3, 5, 16}) {
      for (const std::int64_t unit : {1, 2, 7, 33, 128}) {
        for (const std::int64_t lead : {std::int64_t{0}, std::int64_t{5}, 2 * key_heads * unit}) {
          const AxisMap map = qwen3_5::tile_value_heads(key_heads, key_heads * ratio, unit, lead);
          const auto expected = reordered_by_reshaping(key_heads, ratio, unit, lead);
          ASSERT_EQ(map.indices(), expected) << ratio << " " << key_heads << " " << unit << " " << lead;
          const auto back = map.inverse();
          ASSERT_TRUE(back.has_value());
          for (std::size_t i = 0; i < expected.size(); ++i) {
            ASSERT_EQ((*back)[expected[i]], static_cast<std::int64_t>(i));
          }
          EXPECT_TRUE(map.then(*back).is_identity(lead + key_heads * ratio * unit));
        }
      }
    }
  }
}

class Conventions : public ::testing::Test {
 protected:
  std::unique_ptr<const Architecture> model_ = recognise(checkpoint_of(tiny_config()));

  static Slot slot(Component component, int layer, std::string role) {
    Slot out;
    out.component = component;
    out.layer = layer;
    out.role = std::move(role);
    return out;
  }
};

// 2 key heads of 32, 6 value heads of 32: ratio 3, 128 rows of queries and keys.
TEST_F(Conventions, ReorderTheValueHeadsOfEveryAxisThatHasThem) {
  struct Case {
    std::string role;
    std::int64_t unit, lead;
    bool rows;
  };
  for (const Case& one :
       {Case{"linear_attn.in_proj_qkv.weight", 32, 128, true}, Case{"linear_attn.conv1d.weight", 32, 128, true},
        Case{"linear_attn.in_proj_z.weight", 32, 0, true}, Case{"linear_attn.in_proj_a.weight", 1, 0, true},
        Case{"linear_attn.in_proj_b.weight", 1, 0, true}, Case{"linear_attn.out_proj.weight", 32, 0, false},
        Case{"linear_attn.A_log", 1, 0, false}, Case{"linear_attn.dt_bias", 1, 0, false}}) {
    SCOPED_TRACE(one.role);
    const View view = model_->convention(Dialect::gguf, slot(Component::deltanet, 0, one.role));
    ASSERT_EQ(view.rows.has_value(), one.rows);
    ASSERT_EQ(view.columns.has_value(), !one.rows);
    EXPECT_EQ((one.rows ? *view.rows : *view.columns).indices(), reordered_by_reshaping(2, 3, one.unit, one.lead));
    EXPECT_EQ(view.elementwise, one.role == "linear_attn.A_log" ? Elementwise::neg_exp : Elementwise::none);
    EXPECT_TRUE(model_->convention(Dialect::mlx, slot(Component::deltanet, 0, one.role)).is_identity());
    EXPECT_TRUE(model_->convention(Dialect::hf, slot(Component::deltanet, 0, one.role)).is_identity());
  }
}

TEST_F(Conventions, LeaveValueHeadsAloneWhereEachHasItsOwnKeyHead) {
  Json config = tiny_config();
  config["text_config"]["linear_num_value_heads"] = 2;
  const auto model = recognise(checkpoint_of(config));
  for (const char* role : {"linear_attn.in_proj_qkv.weight", "linear_attn.out_proj.weight", "linear_attn.dt_bias"}) {
    EXPECT_TRUE(model->convention(Dialect::gguf, slot(Component::deltanet, 0, role)).is_identity()) << role;
  }
}

TEST_F(Conventions, AddOneToEveryDecoderNormButTheGatedOne) {
  for (const Slot& norm :
       {slot(Component::norm, 0, "input_layernorm.weight"), slot(Component::norm, 3, "post_attention_layernorm.weight"),
        slot(Component::norm, -1, "norm.weight"), slot(Component::norm, 3, "self_attn.q_norm.weight"),
        slot(Component::norm, 3, "self_attn.k_norm.weight"), slot(Component::mtp, -1, "norm.weight"),
        slot(Component::mtp, -1, "pre_fc_norm_embedding.weight"), slot(Component::mtp, -1, "pre_fc_norm_hidden.weight"),
        slot(Component::mtp, 0, "input_layernorm.weight"), slot(Component::mtp, 0, "self_attn.k_norm.weight")}) {
    SCOPED_TRACE(norm.role);
    for (const Dialect dialect : {Dialect::gguf, Dialect::mlx}) {
      const View view = model_->convention(dialect, norm);
      EXPECT_EQ(view.elementwise, Elementwise::add_one);
      EXPECT_FALSE(view.rows || view.columns);
    }
    EXPECT_EQ(model_->effective(norm).elementwise, Elementwise::add_one);
  }
  for (const Slot& plain :
       {slot(Component::norm, 0, "linear_attn.norm.weight"), slot(Component::vision, 0, "norm1.weight"),
        slot(Component::vision, -1, "merger.norm.weight"), slot(Component::embedding, -1, "embed_tokens.weight")}) {
    EXPECT_TRUE(model_->convention(Dialect::gguf, plain).is_identity()) << plain.role;
    EXPECT_TRUE(model_->effective(plain).is_identity()) << plain.role;
  }
}

TEST_F(Conventions, EffectiveFormKeepsTheOrderOfHeads) {
  const View view = model_->effective(slot(Component::deltanet, 0, "linear_attn.A_log"));
  EXPECT_EQ(view.elementwise, Elementwise::neg_exp);
  EXPECT_FALSE(view.rows || view.columns);
  EXPECT_TRUE(model_->effective(slot(Component::deltanet, 0, "linear_attn.out_proj.weight")).is_identity());
}

TEST_F(Conventions, AnMlxDirectoryIsReadByTheShapeOfItsConvolution) {
  const Slot norm = slot(Component::norm, 0, "input_layernorm.weight");
  const Slot mtp = slot(Component::mtp, -1, "norm.weight");
  const auto stored = [&](const std::string& prefix, Shape convolution, std::string mtp_name) {
    Checkpoint mlx = checkpoint_of(tiny_config(), Dialect::mlx);
    add_tensor(mlx, prefix + "layers.0.linear_attn.conv1d.weight", std::move(convolution));
    if (!mtp_name.empty()) add_tensor(mlx, std::move(mtp_name), Shape{64});
    const auto model = recognise(mlx);
    return std::pair(model->stored_convention(norm).elementwise, model->stored_convention(mtp).elementwise);
  };
  constexpr auto kRaw = Elementwise::none;
  constexpr auto kShifted = Elementwise::add_one;
  EXPECT_EQ(stored("language_model.model.", Shape{320, 4, 1}, ""), std::pair(kShifted, kShifted));
  EXPECT_EQ(stored("model.language_model.", Shape{320, 1, 4}, ""), std::pair(kRaw, kRaw));
  EXPECT_EQ(stored("language_model.model.", Shape{320, 4, 1}, "language_model.mtp.norm.weight"),
            std::pair(kShifted, kShifted));
  EXPECT_EQ(stored("language_model.model.", Shape{320, 4, 1}, "mtp.norm.weight"), std::pair(kShifted, kRaw));
}

TEST_F(Conventions, ADirectoryOfHuggingFaceIsRawAndAGgufFileConverted) {
  const Slot norm = slot(Component::norm, 0, "input_layernorm.weight");
  EXPECT_TRUE(model_->stored_convention(norm).is_identity());
  REGAUGE_GOLDEN_OR_SKIP(path, "qwen35_family/hf-bf16.gguf");
  const auto gguf = recognise(testing::read_gguf(path));
  EXPECT_EQ(gguf->stored_convention(norm).elementwise, Elementwise::add_one);
  const Slot out = slot(Component::deltanet, 0, "linear_attn.out_proj.weight");
  EXPECT_EQ(gguf->stored_convention(out).columns->indices(), reordered_by_reshaping(2, 3, 64, 0));
}

TEST_F(Conventions, LlamaCppGetsInSinglePrecisionWhatItsConverterWritesSo) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(root, "qwen35_family");
  constexpr std::uint32_t kF32 = 0;
  std::size_t single = 0;
  for (const char* file : {"hf-bf16.gguf", "hf-bf16.mmproj.gguf"}) {
    const auto model = recognise(testing::read_gguf(root / file));
    for (const auto& info : testing::read_gguf_keys(root / file).tensors) {
      const auto assembly = model->parse(Dialect::gguf, info.name, Shape(info.shape));
      ASSERT_TRUE(assembly.has_value()) << info.name;
      const auto required = model->required_dtype(Dialect::gguf, assembly->pieces.front().slot);
      EXPECT_EQ(required.has_value(), info.type == kF32) << info.name;
      EXPECT_EQ(required.value_or(DType::f32), DType::f32);
      single += required ? 1 : 0;
    }
  }
  EXPECT_GT(single, 40U);
  for (const char* role : {"mlp.gate.weight", "mlp.shared_expert_gate.weight"}) {
    const auto moe = recognise(checkpoint_of(testing::tiny_moe_config()));
    EXPECT_EQ(moe->required_dtype(Dialect::gguf, slot(Component::router, 0, role)), DType::f32);
    EXPECT_EQ(moe->required_dtype(Dialect::mlx, slot(Component::router, 0, role)), std::nullopt);
  }
}

}  // namespace
}  // namespace regauge
