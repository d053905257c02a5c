#include "models/hf_files.h"

#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "models/architecture.h"
#include "models/qwen3_5/config.h"
#include "tests/unit/models/hf_files_checks.h"

// A small GGUF file in memory, one thing changed at a time.

namespace regauge {
namespace {

using nlohmann::json;
using testing::has_finding;
using testing::hf_facts;
using testing::text_in;

using Texts = std::vector<std::string>;
using Types = std::vector<std::int32_t>;

MetaArray texts(Texts values) { return MetaArray{MetaType::string, std::move(values)}; }
MetaArray types(Types values) { return MetaArray{MetaType::i32, std::move(values)}; }

class HfFiles : public ::testing::Test {
 protected:
  HfFiles() {
    gguf_.path = "small.gguf";
    gguf_.dialect = Dialect::gguf;
    gguf_.arrays.emplace_back().name = "output.weight";
    Metadata& keys = gguf_.metadata;
    keys.set("general.architecture", std::string("qwen35"));
    for (const auto& [key, value] :
         std::vector<std::pair<const char*, std::uint32_t>>{{"block_count", 4},
                                                            {"context_length", 256},
                                                            {"embedding_length", 64},
                                                            {"feed_forward_length", 96},
                                                            {"attention.head_count", 4},
                                                            {"attention.head_count_kv", 2},
                                                            {"attention.key_length", 32},
                                                            {"attention.value_length", 32},
                                                            {"ssm.conv_kernel", 4},
                                                            {"ssm.state_size", 32},
                                                            {"ssm.group_count", 2},
                                                            {"ssm.time_step_rank", 6},
                                                            {"ssm.inner_size", 192},
                                                            {"rope.dimension_count", 16},
                                                            {"full_attention_interval", 4}}) {
      keys.set(std::string("qwen35.") + key, value);
    }
    keys.set("qwen35.rope.freq_base", 1e7F);
    keys.set("qwen35.attention.layer_norm_rms_epsilon", 1e-6F);
    keys.set("qwen35.rope.dimension_sections", MetaArray{MetaType::i32, std::vector<std::int32_t>{3, 3, 2, 0}});
    keys.set("tokenizer.ggml.model", std::string("gpt2"));
    keys.set("tokenizer.ggml.pre", std::string("qwen35"));
    keys.set("tokenizer.ggml.tokens", texts({"a", "b", "ab", "<|im_end|>", "<think>", "[PAD5]"}));
    keys.set("tokenizer.ggml.token_type", types({1, 1, 1, 3, 4, 5}));
    keys.set("tokenizer.ggml.merges", texts({"a b"}));
    keys.set("tokenizer.ggml.eos_token_id", std::uint32_t{3});
  }

  template <typename Value>
  void set(std::string_view key, Value value) {
    gguf_.metadata.set(key, std::move(value));
  }
  std::vector<TextFile> files(const HfFacts& facts = {}) {
    findings_.clear();
    return recognise(gguf_)->hf_files(gguf_, facts, findings_);
  }
  json file(std::string_view name) { return json::parse(text_in(files(), name)); }
  /// The error's code and the key that it names.
  std::pair<ErrorCode, std::string> fault() {
    try {
      files();
    } catch (const Error& error) {
      EXPECT_EQ(error.file(), "small.gguf");
      return {error.code(), error.tensor_name()};
    }
    ADD_FAILURE() << "accepted";
    return {};
  }
  bool found(std::string_view code, std::string_view tensor) const { return has_finding(findings_, code, tensor); }

  Checkpoint gguf_;
  Findings findings_;
};

using Fault = std::pair<ErrorCode, std::string>;

TEST_F(HfFiles, PaddingIsNoVocabulary) {
  const json tokenizer = file("tokenizer.json");
  EXPECT_EQ(tokenizer["model"]["vocab"], (json{{"a", 0}, {"b", 1}, {"ab", 2}}));
  ASSERT_EQ(tokenizer["added_tokens"].size(), 2U);
  EXPECT_EQ(tokenizer["added_tokens"][0]["content"], "<|im_end|>");
  EXPECT_EQ(tokenizer["added_tokens"][0]["special"], true);
  EXPECT_EQ(tokenizer["added_tokens"][1]["special"], false);
  EXPECT_EQ(file("config.json")["vocab_size"], 6);
}

TEST_F(HfFiles, AnUnusedTokenOfAnotherTextIsKept) {
  set("tokenizer.ggml.tokens", texts({"a", "b", "ab", "<|im_end|>", "<think>", "[PAD4]"}));
  EXPECT_TRUE(file("tokenizer.json")["model"]["vocab"].contains("[PAD4]"));
  EXPECT_TRUE(found("tokenizer-guessed", "[PAD4]"));
}

TEST_F(HfFiles, TokensWithoutTypesAreToldByTheirText) {
  gguf_.metadata.erase("tokenizer.ggml.token_type");
  const json tokenizer = file("tokenizer.json");
  EXPECT_EQ(tokenizer["model"]["vocab"].size(), 3U);
  ASSERT_EQ(tokenizer["added_tokens"].size(), 2U);
  EXPECT_EQ(tokenizer["added_tokens"][1]["content"], "<think>");
  EXPECT_TRUE(found("tokenizer-guessed", "tokenizer.ggml.token_type"));
}

TEST_F(HfFiles, AnAddedTokenThatMergesMakeIsTrainedToo) {
  set("tokenizer.ggml.token_type", types({1, 1, 3, 3, 4, 5}));
  const json tokenizer = file("tokenizer.json");
  EXPECT_EQ(tokenizer["model"]["vocab"], (json{{"a", 0}, {"b", 1}, {"ab", 2}}));
  EXPECT_EQ(tokenizer["added_tokens"][0]["content"], "ab");
}

TEST_F(HfFiles, AMergeThatMakesNoTokenIsAWarning) {
  set("tokenizer.ggml.merges", texts({"a b", "b a"}));
  EXPECT_EQ(file("tokenizer.json")["model"]["merges"], json::parse(R"([["a", "b"], ["b", "a"]])"));
  EXPECT_TRUE(found("merge-without-token", "b a"));
}

TEST_F(HfFiles, TheOlderSplittingRegexIsWrittenAndNoted) {
  set("tokenizer.ggml.pre", std::string("qwen2"));
  const json split = file("tokenizer.json")["pre_tokenizer"]["pretokenizers"][0];
  EXPECT_EQ(split["pattern"]["Regex"],
            R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
            R"(\s*[\r\n]+|\s+(?!\S)|\s+)");
  EXPECT_TRUE(found("tokenizer-pre-differs", "tokenizer.ggml.pre"));
}

TEST_F(HfFiles, AnUnknownPreTokenizerIsRefusedAndAnAbsentOneGuessed) {
  set("tokenizer.ggml.pre", std::string("llama-bpe"));
  EXPECT_EQ(fault(), (Fault{ErrorCode::unsupported, "tokenizer.ggml.pre"}));
  gguf_.metadata.erase("tokenizer.ggml.pre");
  files();
  EXPECT_TRUE(found("tokenizer-guessed", "tokenizer.ggml.pre"));
}

TEST_F(HfFiles, AnotherKindOfTokenizerIsRefused) {
  set("tokenizer.ggml.model", std::string("llama"));
  EXPECT_EQ(fault(), (Fault{ErrorCode::unsupported, "tokenizer.ggml.model"}));
  set("tokenizer.ggml.model", std::string("gpt2"));
  set("tokenizer.ggml.token_type", types({6, 1, 1, 3, 4, 5}));
  EXPECT_EQ(fault(), (Fault{ErrorCode::unsupported, "tokenizer.ggml.token_type"}));
}

TEST_F(HfFiles, AFileWithoutTokenizerHasNoneOfItsFiles) {
  set("tokenizer.ggml.model", std::string("none"));
  gguf_.metadata.erase("tokenizer.ggml.tokens");
  set("qwen35.vocab_size", std::uint32_t{6});
  const auto made = files();
  ASSERT_EQ(made.size(), 1U);
  EXPECT_EQ(made.front().name, "config.json");
  EXPECT_TRUE(found("tokenizer-absent", "tokenizer.ggml.model"));
}

TEST_F(HfFiles, TokensThatContradictThemselvesAreMalformed) {
  const Metadata good = gguf_.metadata;
  const auto broken = [&](std::string_view key, MetaValue value) {
    gguf_.metadata = good;
    gguf_.metadata.set(key, std::move(value));
    return fault();
  };
  const Fault tokens{ErrorCode::malformed, "tokenizer.ggml.tokens"};
  EXPECT_EQ(broken("tokenizer.ggml.tokens", texts({"a", "b", "ab", "a", "<think>", "[PAD5]"})), tokens);
  EXPECT_EQ(broken("tokenizer.ggml.tokens", texts({"a", "b", "ab", "\xFF", "<think>", "[PAD5]"})), tokens);
  const Fault kinds{ErrorCode::malformed, "tokenizer.ggml.token_type"};
  EXPECT_EQ(broken("tokenizer.ggml.token_type", types({1, 1, 1})), kinds);
  EXPECT_EQ(broken("tokenizer.ggml.token_type", types({1, 1, 1, 1, 1, 7})), kinds);
  EXPECT_EQ(broken("tokenizer.ggml.token_type", types({1, 1, 1, 1, 1, -1})), kinds);
  EXPECT_EQ(broken("tokenizer.ggml.token_type", texts({"1", "1", "1", "1", "1", "1"})), kinds);
  const Fault merges{ErrorCode::malformed, "tokenizer.ggml.merges"};
  for (const char* merge : {"ab", " ab", "ab ", "a b c", "", "\xC3( a"}) {
    EXPECT_EQ(broken("tokenizer.ggml.merges", texts({merge})), merges) << merge;
  }
  EXPECT_EQ(broken("tokenizer.ggml.eos_token_id", std::string("3")).first, ErrorCode::malformed);
  EXPECT_EQ(broken("tokenizer.chat_template", std::string("\xFF")),
            (Fault{ErrorCode::malformed, "tokenizer.chat_template"}));
}

TEST_F(HfFiles, SpecialIdsGoWhereTheConverterFoundThem) {
  // Behind the eos id, a bos id was found in config.json only; before it, in tokenizer_config.json.
  set("tokenizer.ggml.bos_token_id", std::uint32_t{4});
  EXPECT_EQ(file("tokenizer_config.json")["bos_token"], nullptr);
  EXPECT_EQ(file("config.json")["bos_token_id"], 4);
  gguf_.metadata.erase("tokenizer.ggml.eos_token_id");
  set("tokenizer.ggml.eos_token_id", std::uint32_t{3});
  EXPECT_EQ(file("tokenizer_config.json")["bos_token"], "<think>");
  EXPECT_FALSE(file("config.json").contains("bos_token_id"));
}

TEST_F(HfFiles, ASpecialTokenThatIsNoAddedOneIsNamedInBothFiles) {
  set("tokenizer.ggml.eos_token_id", std::uint32_t{2});
  EXPECT_EQ(file("tokenizer_config.json")["eos_token"], "ab");
  EXPECT_EQ(file("config.json")["eos_token_id"], 2);
}

TEST_F(HfFiles, ASpecialIdOutsideOfTheVocabularyIsLeftOut) {
  set("tokenizer.ggml.padding_token_id", std::uint32_t{6});
  EXPECT_EQ(file("tokenizer_config.json")["pad_token"], nullptr);
  EXPECT_TRUE(found("special-token-out-of-range", "tokenizer.ggml.padding_token_id"));
}

TEST_F(HfFiles, FlagsThatThePostProcessorDoesNotCarryOutAreAWarning) {
  set("tokenizer.ggml.add_bos_token", true);
  EXPECT_EQ(file("tokenizer_config.json")["add_bos_token"], true);
  EXPECT_TRUE(found("tokenizer-guessed", "tokenizer.ggml.add_bos_token"));
}

TEST_F(HfFiles, NamedChatTemplatesBecomeFilesAndAList) {
  set("tokenizer.chat_template", std::string("{{ 1 }}"));
  set("tokenizer.chat_template.tool_use", std::string("{{ 2 }}"));
  const auto made = files();
  EXPECT_EQ(text_in(made, "chat_template.jinja"), "{{ 1 }}");
  EXPECT_EQ(text_in(made, "additional_chat_templates/tool_use.jinja"), "{{ 2 }}");
  EXPECT_EQ(
      file("tokenizer_config.json")["chat_template"],
      json::parse(R"([{"name": "default", "template": "{{ 1 }}"}, {"name": "tool_use", "template": "{{ 2 }}"}])"));
}

TEST_F(HfFiles, AChatTemplatesNameCannotLeaveTheDirectory) {
  for (const char* key : {"tokenizer.chat_template.../../x", "tokenizer.chat_template./x", "tokenizer.chat_template.",
                          "tokenizer.chat_template.default"}) {
    set(key, std::string("{{ 2 }}"));
  }
  for (const TextFile& one : files()) EXPECT_EQ(one.name.find('/'), std::string::npos) << one.name;
  EXPECT_TRUE(found("chat-template-left-out", "tokenizer.chat_template.../../x"));
}

TEST_F(HfFiles, SamplingDefaultsComeBackAsTheyWereWritten) {
  set("general.sampling.top_k", std::int32_t{20});
  set("general.sampling.top_p", 0.95F);
  set("general.sampling.temp", 0.7F);
  set("general.sampling.penalty_repeat", 1.05F);
  EXPECT_EQ(text_in(files(), "generation_config.json"),
            "{\n  \"do_sample\": true,\n  \"eos_token_id\": 3,\n  \"repetition_penalty\": 1.05,\n"
            "  \"temperature\": 0.7,\n  \"top_k\": 20,\n  \"top_p\": 0.95\n}\n");
}

TEST_F(HfFiles, ASamplingDefaultThatCannotBeReadCostsThatOneOnly) {
  set("general.sampling.top_p", 0.95F);
  const std::vector<std::pair<const char*, MetaValue>> broken{
      {"general.sampling.temp", std::numeric_limits<float>::quiet_NaN()},
      {"general.sampling.min_p", std::string("hot")},
      {"general.sampling.top_k", std::uint64_t{1} << 40},
      {"general.sampling.sequence", std::string("\xFF")}};
  for (const auto& [key, value] : broken) gguf_.metadata.set(key, value);
  EXPECT_EQ(file("generation_config.json"), (json{{"do_sample", true}, {"eos_token_id", 3}, {"top_p", 0.95}}));
  for (const auto& [key, value] : broken) EXPECT_TRUE(found("sampling-key-unreadable", key)) << key;
}

TEST_F(HfFiles, KeysThatAreMissingAreGuessedAloud) {
  for (const char* leaf : {"rope.freq_base", "rope.dimension_count", "rope.dimension_sections"}) {
    gguf_.metadata.erase(std::string("qwen35.") + leaf);
  }
  const json config = file("config.json");
  EXPECT_EQ(config["rope_parameters"]["rope_theta"], 10000000);
  EXPECT_EQ(config["rope_parameters"]["partial_rotary_factor"], 0.25);
  EXPECT_FALSE(config["rope_parameters"].contains("mrope_section"));
  for (const char* entry : {"rope_theta", "partial_rotary_factor", "mrope_section"}) {
    EXPECT_TRUE(found("config-guessed", entry)) << entry;
  }
}

TEST_F(HfFiles, YarnComesBackWithItsParameters) {
  set("qwen35.rope.scaling.type", std::string("yarn"));
  set("qwen35.rope.scaling.factor", 4.0F);
  set("qwen35.rope.scaling.original_context_length", std::uint32_t{128});
  set("qwen35.rope.scaling.yarn_attn_factor", 0.1F);
  const json rope = file("config.json")["rope_parameters"];
  EXPECT_EQ(rope["rope_type"], "yarn");
  EXPECT_EQ(rope["factor"], 4.0);
  EXPECT_EQ(rope["original_max_position_embeddings"], 128);
  EXPECT_EQ(rope["attention_factor"], 0.1);
  set("qwen35.rope.scaling.type", std::string("longrope"));
  EXPECT_EQ(fault(), (Fault{ErrorCode::unsupported, "qwen35.rope.scaling.type"}));
}

TEST_F(HfFiles, AnOddNumberOfRotatedDimensionsSurvivesTheFactor) {
  for (std::uint32_t width : {96U, 100U, 112U, 192U, 250U}) {
    set("qwen35.attention.key_length", width);
    set("qwen35.attention.value_length", width);
    for (std::uint32_t rotated = 2; rotated <= width; rotated += 2) {
      set("qwen35.rope.dimension_count", rotated);
      const double factor = file("config.json")["rope_parameters"]["partial_rotary_factor"];
      ASSERT_EQ(static_cast<std::uint32_t>(width * factor), rotated) << width;
      ASSERT_LE(factor, 1.0);
    }
  }
}

TEST_F(HfFiles, KeysWithoutAPlaceAreNamed) {
  set("general.author", std::string("somebody"));
  set("qwen35.pooling_type", std::uint32_t{0});
  set("split.count", std::uint16_t{1});
  set("regauge.original.x", std::uint32_t{0});
  files();
  const auto left = std::ranges::find(findings_, "key-left-out", &Finding::code);
  ASSERT_NE(left, findings_.end());
  EXPECT_EQ(left->tensor, "general.author");
  EXPECT_NE(left->message.find("2 times"), std::string::npos) << left->message;
  EXPECT_EQ(left->file, "small.gguf");
}

TEST_F(HfFiles, SayWhatIsWrittenAndWhatTheArraysShow) {
  HfFacts facts;
  facts.dtype = DType::f16;
  facts.mtp_layers = 1;
  json config = json::parse(text_in(files(facts), "config.json"));
  EXPECT_EQ(config["dtype"], "float16");
  EXPECT_EQ(config["tie_word_embeddings"], false);
  EXPECT_EQ(config["mtp_num_hidden_layers"], 1);
  EXPECT_EQ(config["mtp_use_dedicated_embeddings"], false);
  gguf_.arrays.front().name = "blk.4.nextn.embed_tokens.weight";
  config = json::parse(text_in(files(facts), "config.json"));
  EXPECT_EQ(config["mtp_use_dedicated_embeddings"], true);
  EXPECT_EQ(config["tie_word_embeddings"], true);
}

/// The same with a tower.
class HfFilesWithVision : public HfFiles {
 protected:
  HfFilesWithVision() {
    vision_.path = "mmproj.gguf";
    vision_.dialect = Dialect::gguf;
    Metadata& keys = vision_.metadata;
    keys.set("general.architecture", std::string("clip"));
    keys.set("clip.projector_type", std::string("qwen3vl_merger"));
    for (const auto& [key, value] : std::vector<std::pair<const char*, std::uint32_t>>{{"projection_dim", 64},
                                                                                       {"image_size", 16},
                                                                                       {"patch_size", 4},
                                                                                       {"embedding_length", 32},
                                                                                       {"feed_forward_length", 40},
                                                                                       {"block_count", 2},
                                                                                       {"attention.head_count", 4}}) {
      keys.set(std::string("clip.vision.") + key, value);
    }
    keys.set("clip.vision.image_mean", MetaArray{MetaType::f32, std::vector<float>{0.25F, 0.5F, 0.1F}});
    keys.set("clip.vision.image_std", MetaArray{MetaType::f32, std::vector<float>{1, 1, 1}});
  }
  HfFacts facts() const { return hf_facts(0, &vision_); }
  Fault vision_fault() {
    try {
      files(facts());
    } catch (const Error& error) {
      EXPECT_EQ(error.file(), "mmproj.gguf");
      return {error.code(), error.tensor_name()};
    }
    ADD_FAILURE() << "accepted";
    return {};
  }

  Checkpoint vision_;
};

TEST_F(HfFilesWithVision, TheTowerIsDescribed) {
  const auto made = files(facts());
  const Json config = parse_json(text_in(made, "config.json"), "config.json");
  const auto tower = qwen3_5::config_from_json(config, false).vision;
  ASSERT_TRUE(tower);
  EXPECT_EQ(tower->depth, 2);
  EXPECT_EQ(tower->hidden, 32);
  EXPECT_EQ(tower->intermediate, 40);
  EXPECT_EQ(tower->heads, 4);
  EXPECT_EQ(tower->patch, 4);
  EXPECT_EQ(tower->merge, 2);
  EXPECT_EQ(tower->positions, 16);
  EXPECT_EQ(tower->out_hidden, 64);
  EXPECT_EQ(tower->image_size, std::nullopt);
  EXPECT_FALSE(tower->deepstack);
  EXPECT_EQ(json::parse(text_in(made, "preprocessor_config.json"))["image_mean"], json({0.25, 0.5, 0.1}));
  EXPECT_TRUE(found("config-incomplete", "image_token_id"));
}

TEST_F(HfFilesWithVision, AnImageSizeThatIsNoWholeNumberOfPatchesIsKept) {
  vision_.metadata.set("clip.vision.image_size", std::uint32_t{18});
  const json config = json::parse(text_in(files(facts()), "config.json"));
  EXPECT_EQ(config["vision_config"]["image_size"], 18);
  EXPECT_EQ(config["vision_config"]["num_position_embeddings"], 16);
}

TEST_F(HfFilesWithVision, LimitsOfSizesAreTakenWhereKeysGiveThem) {
  vision_.metadata.set("clip.vision.image_min_pixels", std::uint32_t{1024});
  vision_.metadata.set("clip.vision.image_max_pixels", std::uint32_t{4096});
  const json images = json::parse(text_in(files(facts()), "preprocessor_config.json"));
  EXPECT_EQ(images["size"], (json{{"longest_edge", 4096}, {"shortest_edge", 1024}}));
}

TEST_F(HfFilesWithVision, WhatNoConfigurationCanSayIsAWarning) {
  files(facts());
  EXPECT_FALSE(found("config-guessed", "clip.use_gelu"));
  vision_.metadata.set("clip.use_gelu", false);
  vision_.metadata.set("clip.vision.attention.layer_norm_epsilon", 1e-5F);
  files(facts());
  EXPECT_TRUE(found("config-guessed", "clip.use_gelu"));
  EXPECT_TRUE(found("config-guessed", "clip.vision.attention.layer_norm_epsilon"));
}

TEST_F(HfFilesWithVision, ForMlxTheTowerIsKeptAndTextsEndWhereTheKeysSay) {
  HfFacts mlx = facts();
  mlx.target = Dialect::mlx;
  const json config = json::parse(text_in(files(mlx), "config.json"));
  EXPECT_EQ(config["architectures"], json::array({"Qwen3_5ForConditionalGeneration"}));
  EXPECT_EQ(config["vision_config"]["depth"], 2);
  EXPECT_EQ(config["eos_token_id"], 3);
}

TEST_F(HfFilesWithVision, ATowerOfAnotherModelIsRefused) {
  vision_.metadata.set("clip.vision.projection_dim", std::uint32_t{128});
  EXPECT_EQ(vision_fault().first, ErrorCode::invalid);
  vision_.metadata.set("clip.projector_type", std::string("mlp"));
  EXPECT_EQ(vision_fault().first, ErrorCode::invalid);
}

TEST_F(HfFilesWithVision, ColoursThatAreNoThreeNumbersAreMalformed) {
  const Fault expected{ErrorCode::malformed, "clip.vision.image_std"};
  vision_.metadata.set("clip.vision.image_std", MetaArray{MetaType::f32, std::vector<float>{1, 1}});
  EXPECT_EQ(vision_fault(), expected);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  vision_.metadata.set("clip.vision.image_std", MetaArray{MetaType::f32, std::vector<float>{1, 1, nan}});
  EXPECT_EQ(vision_fault(), expected);
  vision_.metadata.erase("clip.vision.image_std");
  EXPECT_EQ(vision_fault(), expected);
}

TEST(Decimal, IsTheShortestThatRoundsToTheSameFloat) {
  EXPECT_EQ(decimal(static_cast<double>(0.95F), "k"), 0.95);
  EXPECT_EQ(decimal(static_cast<double>(1e-6F), "k"), 1e-6);
  EXPECT_EQ(decimal(static_cast<double>(1e7F), "k"), 1e7);
  EXPECT_EQ(decimal(0.1, "k"), 0.1);      // no float
  EXPECT_EQ(decimal(1e300, "k"), 1e300);  // beyond floats
  EXPECT_EQ(decimal(0.0, "k"), 0.0);
  EXPECT_THROW(decimal(std::numeric_limits<double>::infinity(), "k"), Error);
}

}  // namespace
}  // namespace regauge
