#include "models/hf_files.h"

#include <limits>
#include <set>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/error.h"
#include "models/architecture.h"
#include "models/qwen3_5/config.h"
#include "tests/unit/models/checkpoints.h"

namespace regauge {
namespace {

using nlohmann::json;
using testing::add_tensor;
using testing::checkpoint_of;
using testing::read_gguf;
using testing::ScratchDir;
using testing::write_text;

std::string read_text(const std::filesystem::path& path) {
  const auto bytes = testing::read_whole_file(path);
  return std::string(text_of(bytes));
}

const TextFile* find_file(const std::vector<TextFile>& files, std::string_view name) {
  const auto found = std::ranges::find(files, name, &TextFile::name);
  return found == files.end() ? nullptr : &*found;
}

std::string text_in(const std::vector<TextFile>& files, std::string_view name) {
  const TextFile* file = find_file(files, name);
  if (file == nullptr) ADD_FAILURE() << name << " was not made";
  return file == nullptr ? "" : file->text;
}

bool has_finding(const Findings& findings, std::string_view code, std::string_view tensor) {
  return std::ranges::any_of(findings, [&](const Finding& one) { return one.code == code && one.tensor == tensor; });
}

HfFacts facts_of(int mtp_layers, const Checkpoint* vision = nullptr, Dialect target = Dialect::hf) {
  HfFacts facts;
  facts.mtp_layers = mtp_layers;
  facts.vision = vision;
  facts.target = target;
  return facts;
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
    files_ = recognise(model_)->hf_files(model_, facts_of(1, &vision_), findings_);
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
  const json config = json::parse(text_in(rebuild(model_, facts_of(0)), "config.json"));
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
  EXPECT_EQ(find_file(rebuild(model_, facts_of(0)), "preprocessor_config.json"), nullptr);
}

TEST_F(RebuiltFamily, ForMlxIsLaidOutAsMlxLmDoes) {
  const auto files = rebuild(model_, facts_of(0, nullptr, Dialect::mlx));
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

  const auto files = rebuild(model, facts_of(1, &vision));
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
  const auto files = recognise(gguf)->hf_files(gguf, facts_of(mtp), findings);
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

// --- a small file in memory, one thing changed at a time

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
  HfFacts facts() const { return facts_of(0, &vision_); }
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
