#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/error.h"
#include "models/architecture.h"
#include "models/hf_tokenizer.h"
#include "models/qwen3_5/config.h"
#include "models/tokenizer_gguf.h"
#include "tests/unit/models/checkpoints.h"
#include "tests/unit/models/hf_files_checks.h"

namespace regauge {
namespace {

using nlohmann::json;
using testing::add_tensor;
using testing::checkpoint_of;
using testing::find_file;
using testing::has_finding;
using testing::hf_facts;
using testing::read_gguf;
using testing::ScratchDir;
using testing::text_in;
using testing::write_text;

std::string read_text(const std::filesystem::path& path) {
  const auto bytes = testing::read_whole_file(path);
  return std::string(text_of(bytes));
}

std::vector<TextFile> rebuild(const Checkpoint& gguf, const HfFacts& facts) {
  Findings findings;
  return recognise(gguf)->hf_files(gguf, facts, findings);
}

/// The rebuilt directory, with the one array that keys are checked against.
Checkpoint open_rebuilt(const std::vector<TextFile>& files, const Checkpoint& gguf, const ScratchDir& scratch) {
  for (const TextFile& file : files) write_text(scratch / file.name, file.text);
  Checkpoint checkpoint = checkpoint_of(parse_json(text_in(files, "config.json"), "config.json"));
  testing::add_sidecars(checkpoint, scratch.path());
  add_tensor(checkpoint, "model.language_model.embed_tokens.weight", gguf.find_array("token_embd.weight")->shape);
  return checkpoint;
}

int mtp_layers_of(const Checkpoint& gguf) {
  const auto& [architecture, value] = gguf.metadata.entries().front();
  return static_cast<int>(gguf.metadata.get_uint(std::get<std::string>(value) + ".nextn_predict_layers").value_or(0));
}

// --- against the files that the golden GGUF files were made from

class RebuiltFamily : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto root = testing::find_golden("qwen35_family/hf-bf16.gguf");
    if (!root) GTEST_SKIP() << "golden data qwen35_family not here: set REGAUGE_GOLDEN";
    root_ = root->parent_path();
    model_ = read_gguf(root_ / "hf-bf16.gguf");
    vision_ = read_gguf(root_ / "hf-bf16.mmproj.gguf");
    files_ = recognise(model_)->hf_files(model_, hf_facts(1, &vision_), findings_);
  }
  std::string original(std::string_view name) const { return read_text(root_ / "hf-bf16" / name); }
  std::string rebuilt(std::string_view name) const { return text_in(files_, name); }

  std::filesystem::path root_;
  Checkpoint model_;
  Checkpoint vision_;
  std::vector<TextFile> files_;
  Findings findings_;
};

TEST_F(RebuiltFamily, HasTheFilesOfTheOriginalDirectory) {
  std::vector<std::string> names;
  for (const TextFile& file : files_) names.push_back(file.name);
  EXPECT_EQ(names, (std::vector<std::string>{"chat_template.jinja", "config.json", "generation_config.json",
                                             "merges.txt", "preprocessor_config.json", "tokenizer.json",
                                             "tokenizer_config.json", "video_preprocessor_config.json", "vocab.json"}));
}

TEST_F(RebuiltFamily, TokenizerFilesAreTheOriginalsByteForByte) {
  for (const char* name : {"tokenizer.json", "vocab.json", "merges.txt", "chat_template.jinja"}) {
    EXPECT_TRUE(rebuilt(name) == original(name)) << name;
  }
}

TEST_F(RebuiltFamily, TokenizerConfigSaysTheSameAndCarriesTheTemplate) {
  json config = json::parse(rebuilt("tokenizer_config.json"));
  EXPECT_EQ(config["chat_template"], original("chat_template.jinja"));
  config.erase("chat_template");
  EXPECT_EQ(config, json::parse(original("tokenizer_config.json")));
}

TEST_F(RebuiltFamily, ConfigSaysTheSame) {
  EXPECT_EQ(json::parse(rebuilt("config.json")), json::parse(original("config.json")));
}

TEST_F(RebuiltFamily, GenerationConfigSaysTheSameButForWhatNoKeyHolds) {
  json expected = json::parse(original("generation_config.json"));
  expected.erase("transformers_version");
  expected.erase("bos_token_id");
  EXPECT_EQ(json::parse(rebuilt("generation_config.json")), expected);
}

TEST_F(RebuiltFamily, ProcessorsSayTheSameButForTheLimitsOfSizes) {
  for (const char* name : {"preprocessor_config.json", "video_preprocessor_config.json"}) {
    json made = json::parse(rebuilt(name));
    json expected = json::parse(original(name));
    for (json* one : {&made, &expected}) one->erase("size");
    expected.erase("image_processor_type");
    if (name == std::string_view("preprocessor_config.json")) made.erase("image_processor_type");
    EXPECT_EQ(made, expected) << name;
    EXPECT_TRUE(std::ranges::any_of(findings_, [&](const Finding& one) {
      return one.code == "config-guessed" && one.file == name && one.tensor == "size";
    })) << name;
  }
}

TEST_F(RebuiltFamily, NothingIsGuessedInSilenceAndNothingWarns) {
  EXPECT_TRUE(has_finding(findings_, "config-guessed", "eos_token_id"));
  EXPECT_TRUE(has_finding(findings_, "config-guessed", "do_sample"));
  EXPECT_TRUE(std::ranges::any_of(
      findings_, [](const Finding& one) { return one.code == "tokenizer-guessed" && one.file == "tokenizer.json"; }));
  for (const Finding& one : findings_) EXPECT_EQ(one.severity, Severity::note) << one.code << ": " << one.message;
  EXPECT_FALSE(std::ranges::any_of(findings_, [](const Finding& one) { return one.code == "key-left-out"; }));
}

TEST_F(RebuiltFamily, KeysMadeFromItAreThoseOfTheGgufFilesInTheirOrder) {
  const ScratchDir scratch;
  const Checkpoint directory = open_rebuilt(files_, model_, scratch);
  for (const OutputKind kind : {OutputKind::model, OutputKind::mmproj}) {
    const Checkpoint& gguf = kind == OutputKind::model ? model_ : vision_;
    GgufFacts facts;
    facts.name = "Family Tiny";
    facts.parameters = kind == OutputKind::model ? 2'740'580 : 76'920;
    facts.file_type = 32;
    facts.mtp_layers = 1;
    Findings findings;
    const Metadata made = recognise(directory)->gguf_metadata(directory, kind, facts, findings);
    EXPECT_TRUE(findings.empty());
    ASSERT_EQ(made.entries().size(), gguf.metadata.entries().size());
    for (std::size_t i = 0; i < made.entries().size(); ++i) {
      EXPECT_EQ(made.entries()[i].first, gguf.metadata.entries()[i].first);
      EXPECT_TRUE(made.entries()[i].second == gguf.metadata.entries()[i].second) << made.entries()[i].first;
    }
  }
}

TEST_F(RebuiltFamily, WithoutATowerIsATextModelWhoseNamesHaveNoLanguageModel) {
  const json config = json::parse(text_in(rebuild(model_, hf_facts(0)), "config.json"));
  EXPECT_EQ(config["architectures"], json::array({"Qwen3_5ForCausalLM"}));
  EXPECT_EQ(config["model_type"], "qwen3_5_text");
  EXPECT_EQ(config["hidden_size"], 256);
  EXPECT_EQ(config["mtp_num_hidden_layers"], 0);
  EXPECT_FALSE(config.contains("text_config"));
  EXPECT_FALSE(config.contains("vision_config"));

  const Checkpoint target = checkpoint_of(parse_json(config.dump(), "config.json"));
  const auto model = recognise(target);
  const auto slot = model->parse(Dialect::gguf, "blk.0.ffn_up.weight", Shape{256, 256})->pieces.front().slot;
  EXPECT_EQ(model->place(Dialect::hf, slot)->array, "model.layers.0.mlp.up_proj.weight");
  EXPECT_EQ(find_file(rebuild(model_, hf_facts(0)), "preprocessor_config.json"), nullptr);
}

TEST_F(RebuiltFamily, ForMlxIsLaidOutAsMlxLmDoes) {
  const auto files = rebuild(model_, hf_facts(0, nullptr, Dialect::mlx));
  json expected = json::parse(read_text(root_ / "mlx-4bit/config.json"));
  expected.erase("quantization");
  expected.erase("quantization_config");
  expected["text_config"]["mtp_num_hidden_layers"] = 0;
  EXPECT_EQ(json::parse(text_in(files, "config.json")), expected);
  EXPECT_EQ(find_file(files, "vocab.json"), nullptr);
  EXPECT_EQ(find_file(files, "merges.txt"), nullptr);
  EXPECT_TRUE(text_in(files, "tokenizer.json") == read_text(root_ / "mlx-4bit/tokenizer.json"));
}

// --- against the published files

/// A GGUF file of a published size: keys from its config.json, the family's added tokens on a stand-in vocabulary.
class RebuiltPublished : public ::testing::TestWithParam<const char*> {
 protected:
  Checkpoint gguf(const Checkpoint& source, OutputKind kind) {
    Checkpoint out;
    out.path = "memory.gguf";
    out.dialect = Dialect::gguf;
    GgufFacts facts;
    facts.mtp_layers = 1;
    Findings findings;
    out.metadata = recognise(source)->gguf_metadata(source, kind, facts, findings);
    return out;
  }
  static void set_tokenizer(Metadata& keys) {
    std::vector<std::string> tokens;
    std::vector<std::int32_t> types(248320, 5);
    for (int i = 0; i < 248320; ++i) tokens.push_back("[PAD" + std::to_string(i) + "]");
    const std::vector<std::pair<std::size_t, const char*>> added{
        {248044, "<|endoftext|>"},  {248046, "<|im_end|>"},    {248053, "<|vision_start|>"},
        {248054, "<|vision_end|>"}, {248056, "<|image_pad|>"}, {248057, "<|video_pad|>"}};
    for (const auto& [id, text] : added) {
      tokens[id] = text;
      types[id] = 3;
    }
    keys.set("tokenizer.ggml.model", std::string("gpt2"));
    keys.set("tokenizer.ggml.pre", std::string("qwen35"));
    keys.set("tokenizer.ggml.tokens", MetaArray{MetaType::string, std::move(tokens)});
    keys.set("tokenizer.ggml.token_type", MetaArray{MetaType::i32, std::move(types)});
    keys.set("tokenizer.ggml.merges", MetaArray{MetaType::string, std::vector<std::string>{}});
    keys.set("tokenizer.ggml.eos_token_id", std::uint32_t{248046});
    keys.set("tokenizer.ggml.padding_token_id", std::uint32_t{248044});
  }
};

TEST_P(RebuiltPublished, ConfigurationAndProcessorsComeOutByteForByte) {
  REGAUGE_GOLDEN_OR_SKIP(path, std::string("real/hf_config/") + GetParam());
  const ScratchDir scratch;
  write_text(scratch / "preprocessor_config.json", R"({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]})");
  const std::string published = read_text(path);
  Checkpoint source = checkpoint_of(parse_json(published, "config.json"));
  testing::add_sidecars(source, scratch.path());
  add_tensor(source, "model.language_model.embed_tokens.weight",
             Shape{248320, (*source.config)["text_config"]["hidden_size"].get<std::int64_t>()});
  Checkpoint model = gguf(source, OutputKind::model);
  set_tokenizer(model.metadata);
  model.arrays.emplace_back().name = "output.weight";
  const Checkpoint vision = gguf(source, OutputKind::mmproj);

  const auto files = rebuild(model, hf_facts(1, &vision));
  EXPECT_TRUE(text_in(files, "config.json") == published) << text_in(files, "config.json");
  // Of Qwen/Qwen3.5-27B and -9B, whose files are the same.
  const auto hash = [&files](std::string_view name) {
    const std::string text = text_in(files, name);
    return hex(Sha256::of(std::as_bytes(std::span(text))));
  };
  EXPECT_EQ(hash("preprocessor_config.json"), "27225450ac9c6529872ee1924fcb0962ff5634834f817040f444118116f4e516");
  EXPECT_EQ(hash("video_preprocessor_config.json"), "7768af27c1fafa9cc9011c1dc20067e03f8915e03b63504550e11d5066986d13");
}

INSTANTIATE_TEST_SUITE_P(Sizes, RebuiltPublished,
                         ::testing::Values("Qwen3.5-27B.config.json", "Qwen3.5-35B-A3B.config.json",
                                           "Qwen3.5-397B-A17B.config.json"),
                         [](const auto& file) {
                           std::string name = file.param;
                           std::erase_if(name, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; });
                           return name;
                         });

// A vocabulary of 151,643 tokens and 151,387 merges that somebody else trained, with the family's added tokens.
TEST(RebuiltVocabulary, OfAPublishedModelComesOutByteForByteWithItsFlags) {
  REGAUGE_GOLDEN_OR_SKIP(folder, "real/tokenizer_qwen25");
  Checkpoint source = checkpoint_of(Json::object());
  testing::add_sidecars(source, folder);
  Checkpoint gguf;
  gguf.dialect = Dialect::gguf;
  Findings findings;
  append_tokenizer_keys(source, 151936, "qwen2", gguf.metadata, findings);

  findings.clear();
  const auto vocabulary = read_gguf_vocabulary(gguf, "qwen2", findings);
  ASSERT_TRUE(vocabulary);
  const auto files = hf_tokenizer_files(gguf, *vocabulary, Dialect::hf, 131072, findings);
  EXPECT_TRUE(text_in(files, "vocab.json") == read_text(folder / "vocab.json"));
  EXPECT_TRUE(text_in(files, "merges.txt") == read_text(folder / "merges.txt"));
  const json made = json::parse(text_in(files, "tokenizer_config.json"));
  const json published = json::parse(read_text(folder / "tokenizer_config.json"));
  for (const auto& [key, value] : made.items()) {
    // Somebody added four tokens to this copy and did not list them.
    if (key == "additional_special_tokens") continue;
    EXPECT_EQ(value, published[key]) << key;
  }
}

// --- every GGUF file at hand

void expect_same_config(const qwen3_5::Config& made, const qwen3_5::Config& expected) {
  EXPECT_EQ(made.moe, expected.moe);
  EXPECT_EQ(made.text, expected.text);
  EXPECT_EQ(made.sizes_known, expected.sizes_known);
  EXPECT_EQ(made.layers, expected.layers);
  EXPECT_EQ(made.hidden, expected.hidden);
  EXPECT_EQ(made.vocab, expected.vocab);
  EXPECT_EQ(made.intermediate, expected.intermediate);
  EXPECT_EQ(made.heads, expected.heads);
  EXPECT_EQ(made.kv_heads, expected.kv_heads);
  EXPECT_EQ(made.head_dim, expected.head_dim);
  EXPECT_EQ(made.output_gate, expected.output_gate);
  EXPECT_EQ(made.key_heads, expected.key_heads);
  EXPECT_EQ(made.value_heads, expected.value_heads);
  EXPECT_EQ(made.key_dim, expected.key_dim);
  EXPECT_EQ(made.value_dim, expected.value_dim);
  EXPECT_EQ(made.conv, expected.conv);
  EXPECT_EQ(made.interval, expected.interval);
  EXPECT_EQ(made.full, expected.full);
  EXPECT_EQ(made.experts, expected.experts);
  EXPECT_EQ(made.experts_used, expected.experts_used);
  EXPECT_EQ(made.moe_intermediate, expected.moe_intermediate);
  EXPECT_EQ(made.shared_intermediate, expected.shared_intermediate);
  EXPECT_EQ(made.mtp_layers, expected.mtp_layers);
  EXPECT_EQ(made.tied, expected.tied);
  EXPECT_EQ(made.context, expected.context);
  // A key has 32 bits, a configuration the decimal that a person wrote.
  EXPECT_EQ(static_cast<float>(made.eps), static_cast<float>(expected.eps));
  EXPECT_EQ(static_cast<float>(made.theta), static_cast<float>(expected.theta));
  EXPECT_EQ(made.partial_rotary, expected.partial_rotary);
  auto sections = made.mrope;  // keys are padded to four
  if (!sections.empty()) sections.resize(4);
  EXPECT_EQ(sections, expected.mrope);
  EXPECT_EQ(made.scaling.type, expected.scaling.type);
  EXPECT_EQ(made.scaling.factor, expected.scaling.factor);
  EXPECT_EQ(made.scaling.original_context, expected.scaling.original_context);
  EXPECT_EQ(made.scaling.extrapolation_factor, expected.scaling.extrapolation_factor);
  EXPECT_EQ(made.scaling.attention_factor, expected.scaling.attention_factor);
  EXPECT_EQ(made.scaling.beta_fast, expected.scaling.beta_fast);
  EXPECT_EQ(made.scaling.beta_slow, expected.scaling.beta_slow);
  EXPECT_TRUE(made.guesses.empty());
}

class RebuiltFrom : public ::testing::TestWithParam<const char*> {
 protected:
  static std::optional<std::filesystem::path> find(const std::string& name) {
    if (name.starts_with("samples/")) return testing::sample_path(name.substr(8));
    return testing::find_golden(name);
  }
};

TEST_P(RebuiltFrom, GivesTheSameConfigurationAndTheSameKeys) {
  const auto path = find(GetParam());
  if (!path) GTEST_SKIP() << "golden data " << GetParam() << " not here: set REGAUGE_GOLDEN";
  const Checkpoint gguf = read_gguf(*path);
  const std::string architecture = *gguf.metadata.get_string("general.architecture");
  const int mtp = mtp_layers_of(gguf);
  const ScratchDir scratch;
  Findings findings;
  const auto files = recognise(gguf)->hf_files(gguf, hf_facts(mtp), findings);
  const Checkpoint directory = open_rebuilt(files, gguf, scratch);

  const bool moe = architecture == "qwen35moe";
  expect_same_config(qwen3_5::config_from_json(*directory.config, moe), qwen3_5::config_from_gguf(gguf, architecture));
  EXPECT_EQ(recognise(directory)->family(), recognise(gguf)->family());

  GgufFacts facts;
  facts.name = *gguf.metadata.get_string("general.name");
  facts.file_type = static_cast<std::uint32_t>(*gguf.metadata.get_uint("general.file_type"));
  facts.mtp_layers = mtp;
  Findings remade;
  const Metadata keys = recognise(directory)->gguf_metadata(directory, OutputKind::model, facts, remade);
  for (const auto& [key, value] : gguf.metadata.entries()) {
    // Counted from the tensors, which these tests do not list.
    if (key == "general.size_label") continue;
    ASSERT_NE(keys.find(key), nullptr) << key;
    EXPECT_TRUE(*keys.find(key) == value)
        << key << ": " << to_string(*keys.find(key)) << " against " << to_string(value);
  }
  // What the converter always writes and other writers leave out.
  for (const auto& [key, value] : keys.entries()) {
    const bool always = key == "general.type" || key == "general.quantization_version" ||
                        key == architecture + ".attention.recurrent_layers";
    EXPECT_TRUE(always || gguf.metadata.find(key) != nullptr) << key;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Files, RebuiltFrom,
    ::testing::Values("qwen35_family/hf-bf16.gguf", "qwen35_family/hf-bf16-q4_0.gguf",
                      "qwen35_family/gptq-int4-g128-noact.gguf", "qwen35_tiny/tiny.gguf", "qwen35_tiny/tiny-mtp.gguf",
                      "qwen35_tiny_moe/tiny.gguf", "qwen35_tiny_moe/tiny-mtp.gguf", "gguf/tiny-qwen35-q4_0.gguf",
                      "gguf/tiny-qwen35-q4_k_m.gguf", "gguf/tiny-qwen35-q8_0.gguf", "samples/qwen35-tiny-mtp.gguf"),
    [](const auto& file) {
      std::string name = file.param;
      std::ranges::replace_if(name, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
      return name;
    });

}  // namespace
}  // namespace regauge
