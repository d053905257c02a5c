#include <gtest/gtest.h>

#include "base/error.h"
#include "models/architecture.h"
#include "models/size_label.h"
#include "tests/unit/models/checkpoints.h"

namespace regauge {
namespace {

using testing::add_tensor;
using testing::checkpoint_of;
using testing::read_directory;
using testing::read_gguf_keys;
using testing::ScratchDir;
using testing::tiny_config;
using testing::write_text;

GgufFacts facts_of(std::string name, std::int64_t parameters, std::uint32_t file_type, int mtp_layers) {
  GgufFacts facts;
  facts.name = std::move(name);
  facts.parameters = parameters;
  facts.file_type = file_type;
  facts.mtp_layers = mtp_layers;
  return facts;
}

/// Keys, types, values and order, one message per difference.
void expect_same_keys(const Metadata& made, const std::vector<Metadata::Entry>& golden) {
  ASSERT_EQ(made.entries().size(), golden.size());
  for (std::size_t i = 0; i < golden.size(); ++i) {
    const auto& [key, value] = made.entries()[i];
    EXPECT_EQ(key, golden[i].first) << "at place " << i;
    EXPECT_EQ(type_of(value), type_of(golden[i].second)) << key;
    EXPECT_TRUE(value == golden[i].second)
        << key << ": " << to_string(value) << " against " << to_string(golden[i].second);
  }
}

Findings warnings(const Findings& findings) {
  Findings out;
  std::ranges::copy_if(findings, std::back_inserter(out),
                       [](const Finding& one) { return one.severity != Severity::note; });
  return out;
}

bool has_code(const Findings& findings, std::string_view code) {
  return std::ranges::find(findings, code, &Finding::code) != findings.end();
}

/// Parameters of the slots that go into one file, counted by the architecture's own list.
std::int64_t parameters_of(const Architecture& model, OutputKind kind) {
  std::int64_t sum = 0;
  for (const ExpectedSlot& one : model.expected()) {
    if (model.output_of(Dialect::gguf, one.slot) == kind) sum += one.shape.elements();
  }
  return sum;
}

TEST(GgufKeys, EqualThoseOfLlamaCppsConverterForTheModel) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(root, "qwen35_family");
  const Checkpoint source = read_directory(root / "hf-bf16", Dialect::hf);
  const auto model = recognise(source);
  EXPECT_EQ(parameters_of(*model, OutputKind::model), 2'740'580);
  Findings findings;
  const Metadata keys =
      model->gguf_metadata(source, OutputKind::model, facts_of("Family Tiny", 2'740'580, 32, 1), findings);
  expect_same_keys(keys, read_gguf_keys(root / "hf-bf16.gguf").keys);
  EXPECT_TRUE(findings.empty());
}

TEST(GgufKeys, EqualThoseOfLlamaCppsConverterForTheVisionTower) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(root, "qwen35_family");
  const Checkpoint source = read_directory(root / "hf-bf16", Dialect::hf);
  const auto model = recognise(source);
  EXPECT_EQ(parameters_of(*model, OutputKind::mmproj), 76'920);
  Findings findings;
  const Metadata keys =
      model->gguf_metadata(source, OutputKind::mmproj, facts_of("Family Tiny", 76'920, 32, 0), findings);
  expect_same_keys(keys, read_gguf_keys(root / "hf-bf16.mmproj.gguf").keys);
  EXPECT_TRUE(findings.empty());
}

TEST(GgufKeys, CountMtpBlocksByTheTensorsAndNotByTheConfiguration) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(root, "qwen35_family");
  const auto golden = read_gguf_keys(root / "gptq-int4-g128-noact.gguf").keys;
  for (const auto& [name, dialect] : {std::pair("gptq-int4-g128-noact", Dialect::hf),
                                      std::pair("mlx-8865", Dialect::mlx), std::pair("mlx-4bit", Dialect::mlx)}) {
    SCOPED_TRACE(name);
    const Checkpoint source = read_directory(root / name, dialect);
    const auto model = recognise(source);
    EXPECT_EQ(model->announced_mtp_layers(), 1);
    Findings findings;
    // That file carries no size label, so no count of parameters is given.
    const Metadata keys = model->gguf_metadata(source, OutputKind::model,
                                               facts_of("Family Tiny gptq-int4-g128-noact", 0, 2, 0), findings);
    expect_same_keys(keys, golden);
    EXPECT_TRUE(findings.empty());
  }
}

TEST(GgufKeys, OfAnAdapterAreThoseOfTheGoldenOneWithoutAnAlpha) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(root, "qwen35_family");
  const Checkpoint source = read_directory(root / "gptq-mixed-eora", Dialect::hf);
  Findings findings;
  const Metadata keys =
      recognise(source)->gguf_metadata(source, OutputKind::adapter, facts_of("EoRA rank 64", 0, 0, 0), findings);
  auto golden = read_gguf_keys(root / "gptq-mixed-eora.adapter.gguf").keys;
  std::erase_if(golden, [](const Metadata::Entry& entry) { return entry.first == "adapter.lora.alpha"; });
  expect_same_keys(keys, golden);
}

TEST(GgufKeys, OfAModelWithoutTokenizerSaySoAndGiveTheVocabularysSize) {
  REGAUGE_GOLDEN_OR_SKIP(folder, "qwen35_tiny/hf");
  const Checkpoint source = read_directory(folder, Dialect::hf);
  Findings findings;
  const Metadata keys =
      recognise(source)->gguf_metadata(source, OutputKind::model, facts_of("tiny", 0, 0, 0), findings);
  EXPECT_EQ(keys.get_string("tokenizer.ggml.model"), "none");
  ASSERT_NE(keys.find("qwen35.vocab_size"), nullptr);
  EXPECT_EQ(*keys.find("qwen35.vocab_size"), MetaValue(std::uint32_t{320}));
  EXPECT_EQ(keys.find("tokenizer.ggml.tokens"), nullptr);
  EXPECT_TRUE(has_code(findings, "tokenizer-absent"));
  EXPECT_EQ(warnings(findings).size(), 1U);
}

TEST(GgufKeys, OfAMixtureNameItsExperts) {
  REGAUGE_GOLDEN_OR_SKIP(folder, "qwen35_tiny_moe/hf");
  const Checkpoint source = read_directory(folder, Dialect::hf);
  const auto model = recognise(source);
  Findings findings;
  const Metadata keys = model->gguf_metadata(
      source, OutputKind::model, facts_of("tiny", parameters_of(*model, OutputKind::model), 0, 1), findings);
  const auto golden = read_gguf_keys(folder / "../tiny-mtp.gguf");
  std::size_t compared = 0;
  for (const auto& [key, value] : golden.keys) {
    if (!key.starts_with("qwen35moe.")) continue;
    ASSERT_NE(keys.find(key), nullptr) << key;
    EXPECT_TRUE(*keys.find(key) == value) << key;
    ++compared;
  }
  EXPECT_EQ(compared, 22U);
  // 5 blocks of 3 * 32 * 64 per expert: 30,720; everything else of text and MTP is shared.
  EXPECT_TRUE(keys.get_string("general.size_label")->starts_with("8x")) << *keys.get_string("general.size_label");
}

/// A directory in memory: a configuration, an embedding of the right shape, side files on disk.
class KeysOf : public ::testing::Test {
 protected:
  Checkpoint source(Json config) {
    Checkpoint checkpoint = checkpoint_of(std::move(config));
    add_tensor(checkpoint, "model.language_model.embed_tokens.weight", Shape{320, 64});
    testing::add_sidecars(checkpoint, scratch_.path());
    return checkpoint;
  }
  Metadata keys(const Checkpoint& checkpoint, OutputKind kind = OutputKind::model) {
    return recognise(checkpoint)->gguf_metadata(checkpoint, kind, facts_of("n", 0, 0, 0), findings_);
  }
  ErrorCode error_code(const Checkpoint& checkpoint, OutputKind kind = OutputKind::model) {
    try {
      keys(checkpoint, kind);
    } catch (const Error& error) {
      error_file_ = error.file();
      return error.code();
    }
    ADD_FAILURE() << "accepted";
    return ErrorCode::internal;
  }

  ScratchDir scratch_;
  Findings findings_;
  std::string error_file_;
};

TEST_F(KeysOf, AConfigurationWithoutRopeAreTheFamilysAndAFinding) {
  Json config = tiny_config();
  config["text_config"].erase("rope_parameters");
  const Metadata made = keys(source(config));
  EXPECT_EQ(*made.find("qwen35.rope.freq_base"), MetaValue(1e7F));
  EXPECT_EQ(*made.find("qwen35.rope.dimension_count"), MetaValue(std::uint32_t{8}));
  EXPECT_EQ(*made.find("qwen35.rope.dimension_sections"),
            MetaValue(MetaArray{MetaType::i32, std::vector<std::int32_t>{11, 11, 10, 0}}));
  EXPECT_TRUE(std::ranges::any_of(findings_, [](const Finding& one) {
    return one.code == "config-default" && one.tensor == "rope_theta" && one.severity == Severity::warning;
  }));
  EXPECT_TRUE(has_code(findings_, "rope-sections-mismatch"));
}

TEST_F(KeysOf, YarnCarryItsParameters) {
  Json config = tiny_config();
  Json& rope = config["text_config"]["rope_parameters"];
  rope["rope_type"] = "yarn";
  rope["factor"] = 4.0;
  rope["original_max_position_embeddings"] = 128;
  rope["beta_fast"] = 32;
  const Metadata made = keys(source(config));
  EXPECT_EQ(made.get_string("qwen35.rope.scaling.type"), "yarn");
  EXPECT_EQ(*made.find("qwen35.rope.scaling.factor"), MetaValue(4.0F));
  EXPECT_EQ(*made.find("qwen35.rope.scaling.original_context_length"), MetaValue(std::uint32_t{128}));
  EXPECT_EQ(*made.find("qwen35.rope.scaling.yarn_beta_fast"), MetaValue(32.0F));
  EXPECT_EQ(made.find("qwen35.rope.scaling.yarn_beta_slow"), nullptr);
}

TEST_F(KeysOf, RopeScalingThatCannotBeWrittenIsRefused) {
  Json config = tiny_config();
  config["text_config"]["rope_parameters"]["rope_type"] = "dynamic";
  EXPECT_EQ(error_code(source(config)), ErrorCode::unsupported);
  config["text_config"]["rope_parameters"]["rope_type"] = "yarn";
  EXPECT_EQ(error_code(source(config)), ErrorCode::malformed);
}

TEST_F(KeysOf, AnEmbeddingOfAnotherSizeIsAnError) {
  Checkpoint checkpoint = checkpoint_of(tiny_config());
  add_tensor(checkpoint, "model.language_model.embed_tokens.weight", Shape{321, 64});
  EXPECT_EQ(error_code(checkpoint), ErrorCode::malformed);
  checkpoint.tensors.clear();
  EXPECT_EQ(error_code(checkpoint), ErrorCode::not_found);
}

TEST_F(KeysOf, KeyAndValueHeadsOfDifferentSizeAreRefused) {
  Json config = tiny_config();
  config["text_config"]["linear_value_head_dim"] = 64;
  EXPECT_EQ(error_code(source(config)), ErrorCode::unsupported);
}

TEST_F(KeysOf, IrregularLayerTypesAreAFinding) {
  Json config = tiny_config();
  config["text_config"]["layer_types"] = {"full_attention", "linear_attention", "linear_attention", "full_attention"};
  const Metadata made = keys(source(config));
  EXPECT_EQ(*made.find("qwen35.attention.recurrent_layers"),
            MetaValue(MetaArray{MetaType::boolean, std::vector<std::uint8_t>{0, 1, 1, 0}}));
  EXPECT_TRUE(has_code(findings_, "layer-types-irregular"));
}

TEST_F(KeysOf, GenerationDefaultsAreTypedAndOrdered) {
  write_text(
      scratch_ / "generation_config.json",
      R"({"repetition_penalty": 1.05, "temperature": 0.7, "min_p": 0, "top_k": 20, "top_p": null, "do_sample": true})");
  const Metadata made = keys(source(tiny_config()));
  std::vector<Metadata::Entry> sampling;
  for (const auto& entry : made.entries()) {
    if (entry.first.starts_with("general.sampling.")) sampling.push_back(entry);
  }
  const std::vector<Metadata::Entry> expected{{"general.sampling.top_k", std::int32_t{20}},
                                              {"general.sampling.min_p", 0.0F},
                                              {"general.sampling.temp", 0.7F},
                                              {"general.sampling.penalty_repeat", 1.05F}};
  EXPECT_TRUE(sampling == expected);
}

TEST_F(KeysOf, ABrokenGenerationConfigCostsOnlyItsKeys) {
  write_text(scratch_ / "generation_config.json", R"({"top_k": 20, "temperature": "hot"})");
  const Metadata made = keys(source(tiny_config()));
  EXPECT_EQ(made.find("general.sampling.top_k"), nullptr);
  EXPECT_TRUE(has_code(findings_, "generation-config-unreadable"));
}

TEST_F(KeysOf, AVisionTowerNeedItsPreprocessor) {
  EXPECT_EQ(error_code(source(tiny_config()), OutputKind::mmproj), ErrorCode::not_found);
  EXPECT_EQ(error_file_, "preprocessor_config.json");
  write_text(scratch_ / "preprocessor_config.json", R"({"image_mean": [0.5, 0.5], "image_std": [0.5, 0.5, 0.5]})");
  EXPECT_EQ(error_code(source(tiny_config()), OutputKind::mmproj), ErrorCode::malformed);
  write_text(scratch_ / "preprocessor_config.json", R"({"image_std": [0.5, 0.5, 0.5]})");
  EXPECT_EQ(error_code(source(tiny_config()), OutputKind::mmproj), ErrorCode::not_found);
}

TEST_F(KeysOf, AVisionTowerTakeTheJointProcessorFileToo) {
  write_text(scratch_ / "processor_config.json",
             R"({"image_processor": {"image_mean": [0.25, 0.5, 0.75], "image_std": [0.5, 0.5, 1]}})");
  const Metadata made = keys(source(tiny_config()), OutputKind::mmproj);
  EXPECT_EQ(*made.find("clip.vision.image_mean"),
            MetaValue(MetaArray{MetaType::f32, std::vector<float>{0.25F, 0.5F, 0.75F}}));
  EXPECT_EQ(*made.find("clip.vision.image_size"), MetaValue(std::uint32_t{16}));
}

TEST_F(KeysOf, AVisionTowerThatIsNotThereAreRefused) {
  Json config = tiny_config();
  config.erase("vision_config");
  EXPECT_EQ(error_code(source(config), OutputKind::mmproj), ErrorCode::invalid);
  config = tiny_config();
  config["vision_config"]["deepstack_visual_indexes"] = {1};
  EXPECT_EQ(error_code(source(config), OutputKind::mmproj), ErrorCode::unsupported);
}

// "752M", "9.4B" and "256x2.6B" are the examples of ggml-org/llama.cpp's naming convention, the two of this family's
// golden files its converter's own.
TEST(SizeLabel, RoundsToTwoDigits) {
  EXPECT_EQ(size_label(2'740'580), "2.7M");
  EXPECT_EQ(size_label(76'920), "77K");
  EXPECT_EQ(size_label(752'000'000), "752M");
  EXPECT_EQ(size_label(9'410'000'000), "9.4B");
  EXPECT_EQ(size_label(27'400'000'000), "27B");
  EXPECT_EQ(size_label(9'653'104'368), "10B");
  EXPECT_EQ(size_label(1'200'000'000'000), "1.2T");
  EXPECT_EQ(size_label(1'000'000), "1000K");
  EXPECT_EQ(size_label(80), "0.08K");
}

TEST(SizeLabel, OfAMixtureCountsWhatIsSharedAndOneExpert) {
  // Qwen3.5 35B-A3B without its tower: 35,951,822,704 - 446,572,784 in text and MTP, 41 layers of 256 experts.
  const std::int64_t one = std::int64_t{41} * 3 * 512 * 2048;
  const std::int64_t shared = 35'951'822'704 - 446'572'784 - 256 * one;
  EXPECT_EQ(size_label(256, shared, one), "256x2.6B");
}

}  // namespace
}  // namespace regauge
