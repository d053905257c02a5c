#include <map>
#include <set>

#include <gtest/gtest.h>

#include "models/architecture.h"
#include "tests/unit/models/checkpoints.h"

namespace regauge {
namespace {

using testing::checkpoint_of;

/// A published size: what its configuration says, and the totals of its official safetensors index (27B and 35B-A3B),
/// or those that follow from the shapes.
struct Size {
  std::string label;
  int layers, hidden, intermediate, heads, kv_heads, value_heads, experts;
  bool tied;
  int depth, vision_hidden, vision_intermediate, vision_heads;
  std::size_t tensors;
  std::int64_t parameters;
  std::int64_t bytes;
};

std::ostream& operator<<(std::ostream& out, const Size& size) { return out << size.label; }

Json config_of(const Size& size) {
  Json config = testing::tiny_config();
  const bool moe = size.experts > 0;
  if (moe) config = testing::tiny_moe_config();
  Json& text = config["text_config"];
  text.erase("layer_types");
  text.erase("rope_parameters");
  text["num_hidden_layers"] = size.layers;
  text["hidden_size"] = size.hidden;
  text["vocab_size"] = 248320;
  text["num_attention_heads"] = size.heads;
  text["num_key_value_heads"] = size.kv_heads;
  text["head_dim"] = 256;
  text["linear_num_key_heads"] = 16;
  text["linear_num_value_heads"] = size.value_heads;
  text["linear_key_head_dim"] = 128;
  text["linear_value_head_dim"] = 128;
  config["tie_word_embeddings"] = size.tied;
  if (moe) {
    text["num_experts"] = size.experts;
    text["moe_intermediate_size"] = size.intermediate;
    text["shared_expert_intermediate_size"] = size.intermediate;
  } else {
    text["intermediate_size"] = size.intermediate;
  }
  Json& vision = config["vision_config"];
  vision["depth"] = size.depth;
  vision["hidden_size"] = size.vision_hidden;
  vision["intermediate_size"] = size.vision_intermediate;
  vision["num_heads"] = size.vision_heads;
  vision["patch_size"] = 16;
  vision["num_position_embeddings"] = 2304;
  vision["out_hidden_size"] = size.hidden;
  return config;
}

struct Totals {
  std::set<std::string> arrays;
  std::int64_t parameters = 0;
  std::int64_t bytes = 0;

  void add(const Architecture& model, const ExpectedSlot& one) {
    // The official BF16 checkpoints fuse the experts of the decoder and keep those of MTP apart.
    const bool mtp = one.slot.component == Component::mtp;
    arrays.insert(model.place(Dialect::hf, one.slot, mtp ? ExpertLayout::per_expert : ExpertLayout::fused)->array);
    parameters += one.shape.elements();
    bytes += one.shape.elements() * bits(one.usual) / 8;
  }
};

class PublishedSizes : public ::testing::TestWithParam<Size> {};

TEST_P(PublishedSizes, HaveTheirTotals) {
  const Size& size = GetParam();
  const auto model = recognise(checkpoint_of(config_of(size)));
  ASSERT_NE(model, nullptr);
  EXPECT_EQ(model->label(), "Qwen3.5 " + size.label);
  Totals totals;
  for (const ExpectedSlot& one : model->expected()) totals.add(*model, one);
  EXPECT_EQ(totals.arrays.size(), size.tensors);
  EXPECT_EQ(totals.parameters, size.parameters);
  EXPECT_EQ(totals.bytes, size.bytes);
}

INSTANTIATE_TEST_SUITE_P(
    AllEight, PublishedSizes,
    ::testing::Values(
        Size{"0.8B", 24, 1024, 3584, 8, 2, 16, 0, true, 12, 768, 3072, 12, 488, 873'438'784, 1'746'882'752},
        Size{"2B", 24, 2048, 6144, 8, 2, 16, 0, true, 24, 1024, 4096, 16, 632, 2'274'069'824, 4'548'144'832},
        Size{"4B", 32, 2560, 9216, 16, 4, 32, 0, true, 24, 1024, 4096, 16, 738, 4'659'865'088, 9'319'737'856},
        Size{"9B", 32, 4096, 12288, 16, 4, 32, 0, false, 27, 1152, 4304, 16, 775, 9'653'104'368, 19'306'216'416},
        Size{"27B", 64, 5120, 17408, 24, 4, 48, 0, false, 27, 1152, 4304, 16, 1199, 27'781'427'952, 55'562'872'800},
        Size{"35B-A3B", 40, 2048, 512, 16, 2, 32, 256, false, 27, 1152, 4304, 16, 1811, 35'951'822'704, 71'903'655'008},
        Size{"122B-A10B", 48, 3072, 1024, 32, 2, 64, 256, false, 27, 1152, 4304, 16, 1949, 125'086'497'008,
             250'173'007'840},
        Size{"397B-A17B", 60, 4096, 1024, 32, 2, 64, 512, false, 27, 1152, 4304, 16, 2924, 403'397'928'944,
             806'795'875'168}),
    [](const auto& test) {
      std::string name = test.param.label;
      std::ranges::replace_if(name, [](char c) { return c == '.' || c == '-'; }, '_');
      return "B" + name;
    });

TEST(Qwen27B, HasThePublishedTotalsPerComponent) {
  REGAUGE_GOLDEN_OR_SKIP(file, "real/hf_config/Qwen3.5-27B.config.json");
  const auto bytes = testing::read_whole_file(file);
  const auto model =
      recognise(checkpoint_of(parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, "config.json")));
  std::map<std::string, Totals> groups;
  std::int64_t linear = 0;
  std::int64_t linear_parameters = 0;
  for (const ExpectedSlot& one : model->expected()) {
    const bool block_norm = one.slot.role.ends_with("layernorm.weight") || one.slot.role == "norm.weight";
    std::string group(name(one.slot.component));
    if (one.slot.component == Component::norm && !block_norm) {
      group = one.slot.role.starts_with("linear_attn") ? "deltanet" : "attention";
    }
    groups[group].add(*model, one);
    if (root(one.slot.component) == "text") groups["text"].add(*model, one);
    const bool in_block = one.slot.layer >= 0 && one.slot.component != Component::mtp;
    const bool beta_alpha = one.slot.role.ends_with("in_proj_a.weight") || one.slot.role.ends_with("in_proj_b.weight");
    if (in_block && model->is_linear(one.slot) && !beta_alpha) {
      ++linear;
      linear_parameters += one.shape.elements();
    }
  }
  const auto expect = [&](const char* group, std::size_t tensors, std::int64_t parameters, std::int64_t stored) {
    EXPECT_EQ(groups[group].arrays.size(), tensors) << group;
    EXPECT_EQ(groups[group].parameters, parameters) << group;
    EXPECT_EQ(groups[group].bytes, stored) << group;
  };
  expect("embedding", 1, 1'271'398'400, 2'542'796'800);
  expect("deltanet", 432, 5'562'051'072, 11'124'119'040);
  expect("attention", 96, 1'677'729'792, 3'355'459'584);
  expect("mlp", 192, 17'112'760'320, 34'225'520'640);
  expect("norm", 129, 660'480, 1'320'960);
  expect("head", 1, 1'271'398'400, 2'542'796'800);
  expect("text", 851, 26'895'998'464, 53'792'013'824);
  expect("vision", 333, 460'730'096, 921'460'192);
  expect("mtp", 15, 424'699'392, 849'398'784);
  EXPECT_EQ(linear, 400);
  EXPECT_EQ(linear_parameters, 24'326'963'200);
}

TEST(PublishedConfigurations, OfTheTwoMixturesHaveTheSameTotals) {
  REGAUGE_GOLDEN_OR_SKIP(folder, "real/hf_config");
  for (const auto& [file, tensors, parameters] :
       {std::tuple("Qwen3.5-35B-A3B", std::size_t{1811}, std::int64_t{35'951'822'704}),
        std::tuple("Qwen3.5-397B-A17B", std::size_t{2924}, std::int64_t{403'397'928'944})}) {
    const auto bytes = testing::read_whole_file(folder / (std::string(file) + ".config.json"));
    const auto model = recognise(
        checkpoint_of(parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, "config.json")));
    Totals totals;
    for (const ExpectedSlot& one : model->expected()) totals.add(*model, one);
    EXPECT_EQ(totals.arrays.size(), tensors) << file;
    EXPECT_EQ(totals.parameters, parameters) << file;
  }
}

TEST(ExpectedSlots, MarkVisionAndMtpAsOptional) {
  const auto model = recognise(checkpoint_of(testing::tiny_config()));
  for (const ExpectedSlot& one : model->expected()) {
    const bool side = one.slot.component == Component::mtp || one.slot.component == Component::vision;
    EXPECT_EQ(one.optional, side) << one.slot.role;
  }
  REGAUGE_GOLDEN_OR_SKIP(file, "qwen35_family/hf-bf16.mmproj.gguf");
  for (const ExpectedSlot& one : recognise(testing::read_gguf(file))->expected()) EXPECT_FALSE(one.optional);
}

TEST(ExpectedSlots, LeaveOutTheHeadOfTiedModels) {
  Json config = testing::tiny_config();
  config["tie_word_embeddings"] = true;
  const auto model = recognise(checkpoint_of(config));
  EXPECT_TRUE(std::ranges::none_of(model->expected(),
                                   [](const ExpectedSlot& one) { return one.slot.component == Component::head; }));
}

}  // namespace
}  // namespace regauge
