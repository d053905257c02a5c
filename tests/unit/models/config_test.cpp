#include <functional>

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

std::unique_ptr<const Architecture> recognise_json(const std::filesystem::path& file) {
  const auto bytes = testing::read_whole_file(file);
  return recognise(
      checkpoint_of(parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, "config.json")));
}

TEST(RecogniseConfig, ReadsThePublishedConfigurations) {
  REGAUGE_GOLDEN_OR_SKIP(folder, "real/hf_config");
  struct Published {
    std::string file, family, label;
    int layers;
  };
  for (const Published& one : {Published{"Qwen3.5-27B", "qwen3_5", "Qwen3.5 27B", 64},
                               Published{"nvidia-Qwen3.6-27B-NVFP4", "qwen3_5", "Qwen3.5 27B", 64},
                               Published{"Qwen3.5-35B-A3B", "qwen3_5_moe", "Qwen3.5 35B-A3B", 40},
                               Published{"Qwen3.5-397B-A17B", "qwen3_5_moe", "Qwen3.5 397B-A17B", 60}}) {
    SCOPED_TRACE(one.file);
    const auto model = recognise_json(folder / (one.file + ".config.json"));
    ASSERT_NE(model, nullptr);
    EXPECT_EQ(model->family(), one.family);
    EXPECT_EQ(model->label(), one.label);
    EXPECT_EQ(model->layers(), one.layers);
    EXPECT_EQ(model->announced_mtp_layers(), 1);
    EXPECT_TRUE(model->has_vision());
    EXPECT_FALSE(model->tied_head());
    for (int layer = 0; layer < one.layers; ++layer) {
      EXPECT_EQ(model->is_full_attention(layer), (layer + 1) % 4 == 0) << layer;
    }
  }
}

TEST(RecogniseConfig, ReadsEveryGoldenDirectory) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(root, "qwen35_family");
  for (const std::string name :
       {"hf-bf16", "gptq-mixed-eora", "gptq-int4-g64", "gptq-int4-g128-noact", "mlx-8865", "mlx-4bit"}) {
    SCOPED_TRACE(name);
    const bool mlx = name.starts_with("mlx");
    const auto model = recognise(read_directory(root / name, mlx ? Dialect::mlx : Dialect::hf));
    ASSERT_NE(model, nullptr);
    EXPECT_EQ(model->label(), "Qwen3.5 dense");
    EXPECT_EQ(model->layers(), 4);
    EXPECT_EQ(model->announced_mtp_layers(), 1);
    EXPECT_EQ(model->has_vision(), !mlx);
  }
}

TEST(RecogniseConfig, ReadsTheKeysOfGoldenGgufFiles) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(root, "qwen35_family");
  const auto text = recognise(read_gguf(root / "hf-bf16.gguf"));
  ASSERT_NE(text, nullptr);
  EXPECT_EQ(text->family(), "qwen3_5");
  EXPECT_EQ(text->layers(), 4);
  EXPECT_EQ(text->announced_mtp_layers(), 1);
  EXPECT_FALSE(text->has_vision());
  EXPECT_FALSE(text->tied_head());
  EXPECT_TRUE(text->is_full_attention(3));
  EXPECT_FALSE(text->is_full_attention(0));

  const auto tower = recognise(read_gguf(root / "hf-bf16.mmproj.gguf"));
  ASSERT_NE(tower, nullptr);
  EXPECT_EQ(tower->label(), "Qwen3.5 vision tower");
  EXPECT_TRUE(tower->has_vision());

  const auto adapter = recognise(read_gguf(root / "gptq-mixed-eora.adapter.gguf"));
  ASSERT_NE(adapter, nullptr);
  EXPECT_EQ(adapter->label(), "Qwen3.5 adapter");
  EXPECT_EQ(adapter->layers(), 4);
  EXPECT_TRUE(adapter->is_full_attention(3));
}

TEST(RecogniseConfig, TakesAFlatTextOnlyConfiguration) {
  Json flat = tiny_config()["text_config"];
  flat["architectures"] = {"Qwen3_5ForCausalLM"};
  flat["tie_word_embeddings"] = true;
  const auto model = recognise(checkpoint_of(flat));
  ASSERT_NE(model, nullptr);
  EXPECT_EQ(model->layers(), 4);
  EXPECT_TRUE(model->tied_head());
  EXPECT_FALSE(model->has_vision());
}

TEST(RecogniseConfig, GoesByTheIntervalWhereLayerTypesAreMissing) {
  Json config = tiny_config();
  config["text_config"].erase("layer_types");
  config["text_config"]["full_attention_interval"] = 2;
  const auto model = recognise(checkpoint_of(config));
  ASSERT_NE(model, nullptr);
  for (int layer = 0; layer < 4; ++layer) EXPECT_EQ(model->is_full_attention(layer), layer % 2 == 1);
}

TEST(RecogniseConfig, LeavesForeignConfigurationsAlone) {
  EXPECT_EQ(recognise(checkpoint_of(parse_json(R"({"model_type": "llama", "num_hidden_layers": -7})", "c"))), nullptr);
  EXPECT_EQ(recognise(checkpoint_of(parse_json(R"({"model_type": 12, "architectures": [3]})", "c"))), nullptr);
  EXPECT_EQ(recognise(checkpoint_of(parse_json("[1, 2]", "c"))), nullptr);
  EXPECT_EQ(recognise(checkpoint_of(parse_json(R"({"model_type": "qwen3_next"})", "c"))), nullptr);
  EXPECT_EQ(recognise(Checkpoint{}), nullptr);
  Checkpoint gguf;
  gguf.dialect = Dialect::gguf;
  gguf.metadata.set("general.architecture", std::string("llama"));
  EXPECT_EQ(recognise(gguf), nullptr);
}

struct Hostile {
  std::string name;
  std::function<void(Json&)> spoil;
};

class HostileConfig : public ::testing::TestWithParam<Hostile> {};

TEST_P(HostileConfig, IsOneMalformedErrorAtConfigJson) {
  Json config = GetParam().name.starts_with("Moe") ? tiny_moe_config() : tiny_config();
  GetParam().spoil(config);
  try {
    recognise(checkpoint_of(config));
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::malformed) << error.what();
    EXPECT_EQ(error.file(), "config.json");
  }
}

Hostile text_value(std::string name, const std::string& key, const Json& value) {
  return {std::move(name), [key, value](Json& config) { config["text_config"][key] = value; }};
}
Hostile without(const std::string& key) {
  return {"Without_" + key, [key](Json& config) { config["text_config"].erase(key); }};
}

INSTANTIATE_TEST_SUITE_P(
    EveryField, HostileConfig,
    ::testing::Values(
        text_value("BillionLayers", "num_hidden_layers", 1'000'000'000),
        text_value("NegativeLayers", "num_hidden_layers", -1), text_value("NoLayers", "num_hidden_layers", 0),
        text_value("LayersAsText", "num_hidden_layers", "4"), text_value("HalfALayer", "num_hidden_layers", 4.5),
        text_value("LayersBeyondInt64", "num_hidden_layers", 1e300),
        text_value("LayerListTooShort", "layer_types", Json::array({"full_attention"})),
        text_value("LayerListOfNumbers", "layer_types", Json::array({1, 2, 3, 4})),
        text_value("LayerListUnknown", "layer_types", Json::array({"sliding", "sliding", "sliding", "sliding"})),
        text_value("LayerListNoList", "layer_types", "full_attention"),
        text_value("ZeroHeads", "num_attention_heads", 0), text_value("ZeroKeyHeads", "linear_num_key_heads", 0),
        text_value("ZeroKvHeads", "num_key_value_heads", 0),
        text_value("ValueHeadsNotDivisible", "linear_num_value_heads", 5),
        text_value("HeadsNotDivisible", "num_key_value_heads", 3), text_value("ZeroHeadDim", "head_dim", 0),
        text_value("HugeHidden", "hidden_size", std::int64_t{1} << 40), text_value("NegativeVocab", "vocab_size", -5),
        text_value("HugeVocab", "vocab_size", 2'000'000'000), text_value("ZeroInterval", "full_attention_interval", 0),
        text_value("ManyMtpLayers", "mtp_num_hidden_layers", 1'000'000),
        text_value("EpsAsText", "rms_norm_eps", "tiny"), text_value("NegativeEps", "rms_norm_eps", -1.0),
        text_value("TiedAsNumber", "tie_word_embeddings", 1), text_value("RopeNoObject", "rope_parameters", 17),
        text_value("RopeSectionsText", "rope_parameters", Json{{"mrope_section", {"a"}}}),
        text_value("RopeSectionsMany", "rope_parameters", Json{{"mrope_section", {1, 1, 1, 1, 1}}}),
        text_value("RopeSectionsNegative", "rope_parameters", Json{{"mrope_section", {-1, 1, 1}}}),
        text_value("ZeroTheta", "rope_parameters", Json{{"rope_theta", 0}}),
        text_value("PartialRotaryAboveOne", "rope_parameters", Json{{"partial_rotary_factor", 2.0}}),
        without("hidden_size"), without("num_hidden_layers"), without("vocab_size"), without("num_attention_heads"),
        without("num_key_value_heads"), without("linear_num_value_heads"), without("intermediate_size"),
        Hostile{"TextConfigNoObject", [](Json& config) { config["text_config"] = Json::array(); }},
        Hostile{"VisionNoObject", [](Json& config) { config["vision_config"] = 3; }},
        Hostile{"VisionBillionBlocks", [](Json& config) { config["vision_config"]["depth"] = 1'000'000'000; }},
        Hostile{"VisionHugePatch", [](Json& config) { config["vision_config"]["patch_size"] = 100'000; }},
        Hostile{"VisionZeroHeads", [](Json& config) { config["vision_config"]["num_heads"] = 0; }},
        Hostile{"VisionHeadsNotDivisible", [](Json& config) { config["vision_config"]["num_heads"] = 5; }},
        Hostile{"VisionWithoutDepth", [](Json& config) { config["vision_config"].erase("depth"); }},
        text_value("MoeBillionExperts", "num_experts", 1'000'000'000),
        text_value("MoeMoreUsedThanThere", "num_experts_per_tok", 9),
        Hostile{"MoeExpertsInEveryLayer",
                [](Json& config) {
                  config["text_config"]["num_experts"] = 4096;
                  config["text_config"]["num_hidden_layers"] = 400;
                  config["text_config"].erase("layer_types");
                }},
        Hostile{"MoeWithoutExperts", [](Json& config) { config["text_config"].erase("num_experts"); }}),
    [](const auto& test) { return test.param.name; });

Checkpoint gguf_with(const std::function<void(Metadata&)>& spoil) {
  Checkpoint checkpoint;
  checkpoint.path = "model.gguf";
  checkpoint.dialect = Dialect::gguf;
  Metadata& keys = checkpoint.metadata;
  keys.set("general.architecture", std::string("qwen35"));
  for (const auto& [key, value] :
       std::initializer_list<std::pair<const char*, std::uint32_t>>{{"block_count", 5},
                                                                    {"context_length", 256},
                                                                    {"embedding_length", 64},
                                                                    {"feed_forward_length", 96},
                                                                    {"attention.head_count", 4},
                                                                    {"attention.head_count_kv", 2},
                                                                    {"attention.key_length", 32},
                                                                    {"attention.value_length", 32},
                                                                    {"nextn_predict_layers", 1},
                                                                    {"ssm.conv_kernel", 4},
                                                                    {"ssm.state_size", 32},
                                                                    {"ssm.group_count", 2},
                                                                    {"ssm.time_step_rank", 6},
                                                                    {"ssm.inner_size", 192},
                                                                    {"vocab_size", 320}}) {
    keys.set(std::string("qwen35.") + key, value);
  }
  spoil(keys);
  return checkpoint;
}

TEST(GgufConfig, IsReadFromItsKeys) {
  const auto model = recognise(gguf_with([](Metadata&) {}));
  ASSERT_NE(model, nullptr);
  EXPECT_EQ(model->layers(), 4);
  EXPECT_EQ(model->announced_mtp_layers(), 1);
  EXPECT_TRUE(model->tied_head()) << "there is no output.weight";
}

TEST(GgufConfig, TakesOneHeadCountPerLayerWhenTheyAgree) {
  const auto model = recognise(gguf_with([](Metadata& keys) {
    keys.set("qwen35.attention.head_count_kv", MetaArray{MetaType::i32, std::vector<std::int32_t>(5, 2)});
  }));
  ASSERT_NE(model, nullptr);
  Slot slot;
  slot.component = Component::attention;
  slot.layer = 3;
  slot.role = "self_attn.k_proj.weight";
  EXPECT_EQ(model->slot_shape(slot), (Shape{64, 64}));
}

TEST(GgufConfig, RefusesKeysThatMakeNoSense) {
  const auto code_of = [](const std::function<void(Metadata&)>& spoil) {
    try {
      recognise(gguf_with(spoil));
    } catch (const Error& error) {
      EXPECT_EQ(error.file(), "model.gguf");
      return error.code();
    }
    ADD_FAILURE() << "accepted";
    return ErrorCode::internal;
  };
  const auto u32 = [&](std::string key, std::uint32_t value) {
    return code_of([&](Metadata& keys) { keys.set(key, value); });
  };
  EXPECT_EQ(u32("qwen35.block_count", 1'000'000'000), ErrorCode::malformed);
  EXPECT_EQ(u32("qwen35.nextn_predict_layers", 5), ErrorCode::malformed);
  EXPECT_EQ(u32("qwen35.ssm.group_count", 0), ErrorCode::malformed);
  EXPECT_EQ(u32("qwen35.ssm.group_count", 4), ErrorCode::malformed);
  EXPECT_EQ(u32("qwen35.ssm.inner_size", 193), ErrorCode::malformed);
  EXPECT_EQ(u32("qwen35.attention.head_count", 0), ErrorCode::malformed);
  EXPECT_EQ(code_of([](Metadata& keys) { keys.set("qwen35.block_count", std::string("5")); }), ErrorCode::malformed);
  EXPECT_EQ(code_of([](Metadata& keys) { keys.erase("qwen35.embedding_length"); }), ErrorCode::malformed);
  EXPECT_EQ(code_of([](Metadata& keys) {
              keys.set("qwen35.attention.recurrent_layers", MetaArray{MetaType::boolean, std::vector<std::uint8_t>(4)});
            }),
            ErrorCode::malformed);
  EXPECT_EQ(code_of([](Metadata& keys) {
              keys.set("qwen35.attention.head_count_kv", MetaArray{MetaType::i32, std::vector<std::int32_t>{0, 2}});
            }),
            ErrorCode::unsupported);
}

TEST(GgufConfig, LeavesTowersWithDeepStackAlone) {
  Checkpoint tower;
  tower.dialect = Dialect::gguf;
  tower.metadata.set("general.architecture", std::string("clip"));
  tower.metadata.set("clip.projector_type", std::string("qwen3vl_merger"));
  tower.metadata.set("clip.vision.is_deepstack_layers", MetaArray{MetaType::boolean, std::vector<std::uint8_t>{0, 1}});
  EXPECT_EQ(recognise(tower), nullptr);
}

}  // namespace
}  // namespace regauge
