#include <gtest/gtest.h>

#include "base/error.h"
#include "models/tokenizer_gguf.h"
#include "tests/unit/models/checkpoints.h"

namespace regauge {
namespace {

using testing::checkpoint_of;
using testing::ScratchDir;
using testing::write_text;

constexpr std::string_view kQwen35Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|)"
    R"(\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+)";
constexpr std::string_view kQwen2Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|)"
    R"(\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+)";

class Tokenizer : public ::testing::Test {
 protected:
  /// tokenizer.json with a, b, ab and these added tokens and merges.
  void write_tokenizer(std::string_view added, std::string_view merges = R"(["a b"])",
                       std::string_view vocab = R"({"a": 0, "b": 1, "ab": 2})", std::string_view regex = kQwen35Regex) {
    write_text(scratch_ / "tokenizer.json",
               fmt::format(R"({{"added_tokens": [{}], "pre_tokenizer": {{"type": "Sequence", "pretokenizers": [)"
                           R"({{"type": "Split", "pattern": {{"Regex": "{}"}}}}, {{"type": "ByteLevel"}}]}},)"
                           R"("post_processor": {{"type": "ByteLevel"}},)"
                           R"("model": {{"type": "BPE", "vocab": {}, "merges": {}}}}})",
                           added, regex, vocab, merges));
  }
  void write_config(std::string_view text) { write_text(scratch_ / "tokenizer_config.json", text); }

  Metadata keys(std::int64_t vocab_size, Json config = Json::object()) {
    Checkpoint checkpoint = checkpoint_of(std::move(config));
    testing::add_sidecars(checkpoint, scratch_.path());
    Metadata out;
    append_tokenizer_keys(checkpoint, vocab_size, "qwen35", out, findings_);
    return out;
  }
  std::pair<ErrorCode, std::string> fault(std::int64_t vocab_size) {
    try {
      keys(vocab_size);
    } catch (const Error& error) {
      return {error.code(), error.file()};
    }
    ADD_FAILURE() << "accepted";
    return {};
  }
  bool found(std::string_view code) const {
    return std::ranges::find(findings_, code, &Finding::code) != findings_.end();
  }
  static std::vector<std::string> texts(const Metadata& keys, std::string_view key) {
    return std::get<std::vector<std::string>>(keys.get_array(key)->values);
  }
  static std::vector<std::int32_t> types(const Metadata& keys) {
    return std::get<std::vector<std::int32_t>>(keys.get_array("tokenizer.ggml.token_type")->values);
  }

  ScratchDir scratch_;
  Findings findings_;
};

using Fault = std::pair<ErrorCode, std::string>;

TEST_F(Tokenizer, FillsTheRowsWithoutATokenUpWithDistinctPads) {
  write_tokenizer(R"({"id": 3, "content": "<|end|>", "special": true})");
  const Metadata made = keys(6);
  EXPECT_EQ(texts(made, "tokenizer.ggml.tokens"),
            (std::vector<std::string>{"a", "b", "ab", "<|end|>", "[PAD4]", "[PAD5]"}));
  EXPECT_EQ(types(made), (std::vector<std::int32_t>{1, 1, 1, 3, 5, 5}));
}

TEST_F(Tokenizer, TellsControlTokensFromThoseOfUsers) {
  write_tokenizer(
      R"({"id": 3, "content": "<think>", "special": false}, {"id": 4, "content": "<|fim_pad|>", "special": false},
                     {"id": 5, "content": "<tts_pad>", "special": true}, {"id": 6, "content": "<unused7>"},
                     {"id": 7, "content": "x▁y"}, {"id": 2, "content": "ab", "special": true})");
  const Metadata made = keys(8);
  EXPECT_EQ(types(made), (std::vector<std::int32_t>{1, 1, 3, 4, 3, 3, 3, 4}));
  EXPECT_EQ(texts(made, "tokenizer.ggml.tokens")[7], "x y");
}

TEST_F(Tokenizer, JoinsMergesThatComeInPairs) {
  write_tokenizer("", R"([["a", "b"], ["x y", "z"]])");
  EXPECT_EQ(texts(keys(3), "tokenizer.ggml.merges"), (std::vector<std::string>{"a b", "xĠy z"}));
}

TEST_F(Tokenizer, KeepsMergesThatComeAsText) {
  write_tokenizer("", R"(["a b", "# #"])");
  EXPECT_EQ(texts(keys(3), "tokenizer.ggml.merges"), (std::vector<std::string>{"a b", "# #"}));
}

TEST_F(Tokenizer, ReadsMergesFromTheirFileWhenTheJsonHasNone) {
  write_tokenizer("", "[]");
  write_text(scratch_ / "merges.txt", "#version: 0.2\na b\n\n# #\none two three\n");
  EXPECT_EQ(texts(keys(3), "tokenizer.ggml.merges"), (std::vector<std::string>{"a b", "# #"}));
  EXPECT_TRUE(found("merges-malformed"));
}

TEST_F(Tokenizer, WithoutMergesCannotBeWritten) {
  write_tokenizer("", "[]");
  EXPECT_EQ(fault(3), Fault(ErrorCode::not_found, "merges.txt"));
}

TEST_F(Tokenizer, RefusesWhatWouldAbortOrContradictItself) {
  write_tokenizer(R"({"id": 9, "content": "<|end|>"})");
  EXPECT_EQ(fault(9), Fault(ErrorCode::malformed, "tokenizer.json")) << "an id beyond the embedding";
  write_tokenizer(R"({"id": 3, "content": "ab"})");
  EXPECT_EQ(fault(4), Fault(ErrorCode::malformed, "tokenizer.json")) << "one text with two ids";
  write_tokenizer(R"({"id": 2, "content": "<|end|>"})");
  EXPECT_EQ(fault(4), Fault(ErrorCode::malformed, "tokenizer.json")) << "one id with two texts";
  write_tokenizer(R"({"id": 3, "content": "[PAD4]"})");
  EXPECT_EQ(fault(5), Fault(ErrorCode::malformed, "tokenizer.json")) << "a token that looks like our padding";
  write_tokenizer("", R"(["a b"])", R"({"a": 0, "b": 0})");
  EXPECT_EQ(fault(3), Fault(ErrorCode::malformed, "tokenizer.json")) << "two entries with one id";
  write_tokenizer("", R"(["a b"])", R"({"a": 0, "a": 1})");
  EXPECT_EQ(fault(3), Fault(ErrorCode::malformed, "tokenizer.json")) << "a key twice";
}

TEST_F(Tokenizer, RefusesBrokenFiles) {
  for (const char* vocab :
       {R"({"a": -1})", R"({"a": "0"})", R"({"a": 1.5})", R"({"a": 99999999999})", R"(["a"])", "3"}) {
    write_tokenizer("", R"(["a b"])", vocab);
    EXPECT_EQ(fault(3), Fault(ErrorCode::malformed, "tokenizer.json")) << vocab;
  }
  for (const char* merges : {R"([["a"]])", R"([["a", "b", "c"]])", "[1]", R"("a b")", R"([["a", 1]])"}) {
    write_tokenizer("", merges);
    EXPECT_EQ(fault(3), Fault(ErrorCode::malformed, "tokenizer.json")) << merges;
  }
  for (const char* added : {R"({"id": 3})", R"({"content": "x"})", R"("x")", R"({"id": -3, "content": "x"})"}) {
    write_tokenizer(added);
    EXPECT_EQ(fault(3), Fault(ErrorCode::malformed, "tokenizer.json")) << added;
  }
  write_text(scratch_ / "tokenizer.json", "{\"model\": ");
  EXPECT_EQ(fault(3), Fault(ErrorCode::malformed, "tokenizer.json"));
  write_text(scratch_ / "tokenizer.json", R"({"model": {"type": "Unigram"}})");
  EXPECT_EQ(fault(3), Fault(ErrorCode::unsupported, "tokenizer.json"));
  write_tokenizer("");
  write_config("[]");
  EXPECT_EQ(fault(3), Fault(ErrorCode::malformed, "tokenizer_config.json"));
}

TEST_F(Tokenizer, RefusesTextThatIsNotUtf8) {
  write_tokenizer("", "[]");
  write_text(scratch_ / "merges.txt", "a \xFF\n");
  EXPECT_EQ(fault(3), Fault(ErrorCode::malformed, "merges.txt"));
  write_tokenizer("");
  write_text(scratch_ / "chat_template.jinja", "\xC3(");
  EXPECT_EQ(fault(3), Fault(ErrorCode::malformed, "chat_template.jinja"));
}

TEST_F(Tokenizer, DoesNotPadAnEmbeddingThatNoVocabularyExplains) {
  write_tokenizer("");
  EXPECT_EQ(texts(keys(100'000), "tokenizer.ggml.tokens").size(), 100'000U);
  EXPECT_EQ(fault(16'000'000), Fault(ErrorCode::malformed, "tokenizer.json"));
}

TEST_F(Tokenizer, TellsTheFamilysWordSplittingByItsRegex) {
  write_tokenizer("");
  EXPECT_EQ(keys(3).get_string("tokenizer.ggml.pre"), "qwen35");
  EXPECT_FALSE(found("tokenizer-pre-guessed") || found("tokenizer-pre-differs"));
  write_tokenizer("", R"(["a b"])", R"({"a": 0, "b": 1, "ab": 2})", kQwen2Regex);
  EXPECT_EQ(keys(3).get_string("tokenizer.ggml.pre"), "qwen2");
  EXPECT_TRUE(found("tokenizer-pre-differs"));
  write_tokenizer("", R"(["a b"])", R"({"a": 0, "b": 1, "ab": 2})", "[a-z]+");
  EXPECT_EQ(keys(3).get_string("tokenizer.ggml.pre"), "qwen35");
  EXPECT_TRUE(found("tokenizer-pre-guessed"));
}

TEST_F(Tokenizer, TakesSpecialIdsFromItsOwnConfigurationFirst) {
  write_tokenizer(
      R"({"id": 3, "content": "<|end|>", "special": true}, {"id": 4, "content": "<|pad|>", "special": true})");
  write_config(R"({"bos_token": null, "eos_token": {"content": "<|end|>"}, "pad_token": "<|pad|>", "unk_token": "gone",
                   "add_bos_token": false, "add_eos_token": "no"})");
  Json config =
      parse_json(R"({"eos_token_id": 0, "sep_token_id": [1], "text_config": {"bos_token_id": 1}})", "config.json");
  const Metadata made = keys(5, config);
  std::vector<Metadata::Entry> rest(made.entries().begin() + 5, made.entries().end());
  const std::vector<Metadata::Entry> expected{{"tokenizer.ggml.eos_token_id", std::uint32_t{3}},
                                              {"tokenizer.ggml.padding_token_id", std::uint32_t{4}},
                                              {"tokenizer.ggml.bos_token_id", std::uint32_t{1}},
                                              {"tokenizer.ggml.add_bos_token", false}};
  EXPECT_TRUE(rest == expected);
}

TEST_F(Tokenizer, LeavesOutSpecialIdsThatAreNoTokens) {
  write_tokenizer("");
  const Metadata made =
      keys(3, parse_json(R"({"bos_token_id": 3, "eos_token_id": -1, "pad_token_id": 2})", "config.json"));
  EXPECT_EQ(made.find("tokenizer.ggml.bos_token_id"), nullptr);
  EXPECT_EQ(made.find("tokenizer.ggml.eos_token_id"), nullptr);
  EXPECT_EQ(made.get_uint("tokenizer.ggml.padding_token_id"), 2U);
  EXPECT_TRUE(found("special-token-out-of-range"));
  EXPECT_TRUE(found("eos-absent"));
}

TEST_F(Tokenizer, PrefersTheChatTemplateOfItsConfiguration) {
  write_tokenizer("");
  write_text(scratch_ / "chat_template.json", R"({"chat_template": "from json"})");
  EXPECT_EQ(keys(3).get_string("tokenizer.chat_template"), "from json");
  write_text(scratch_ / "chat_template.jinja", "from jinja");
  EXPECT_EQ(keys(3).get_string("tokenizer.chat_template"), "from jinja");
  write_config(R"({"chat_template": "from config"})");
  EXPECT_EQ(keys(3).get_string("tokenizer.chat_template"), "from config");
}

TEST_F(Tokenizer, WritesNamedChatTemplatesBesideTheDefault) {
  write_tokenizer("");
  write_config(R"({"chat_template": [{"name": "tool use", "template": "T"}, {"name": "default", "template": "D"}]})");
  const Metadata made = keys(3);
  EXPECT_EQ(made.get_string("tokenizer.chat_template.tool_use"), "T");
  EXPECT_EQ(texts(made, "tokenizer.chat_templates"), (std::vector<std::string>{"tool_use"}));
  EXPECT_EQ(made.get_string("tokenizer.chat_template"), "D");
}

TEST_F(Tokenizer, ReportsAddedTokensThatItsFilesTellDifferently) {
  write_tokenizer(R"({"id": 3, "content": "<|end|>"})");
  write_config(R"({"added_tokens_decoder": {"3": {"content": "<|fin|>"}}})");
  EXPECT_EQ(texts(keys(4), "tokenizer.ggml.tokens")[3], "<|end|>");
  EXPECT_TRUE(found("added-tokens-differ"));
}

TEST_F(Tokenizer, ReadsTheOlderPairOfFiles) {
  write_text(scratch_ / "vocab.json", R"({"a": 0, "b": 1, "ab": 2})");
  write_text(scratch_ / "merges.txt", "a b\n");
  write_text(scratch_ / "added_tokens.json", R"({"<|end|>": 3, "<think>": 4})");
  write_config(R"({"eos_token": "<|end|>", "added_tokens_decoder": {"3": {"content": "<|end|>", "special": true}}})");
  const Metadata made = keys(5);
  EXPECT_EQ(types(made), (std::vector<std::int32_t>{1, 1, 1, 3, 4}));
  EXPECT_EQ(made.get_uint("tokenizer.ggml.eos_token_id"), 3U);
  EXPECT_TRUE(found("tokenizer-pre-guessed"));
}

TEST_F(Tokenizer, ReadsAPublishedVocabularyOfTheOlderPair) {
  REGAUGE_GOLDEN_OR_SKIP(folder, "real/tokenizer_qwen25");
  Checkpoint checkpoint = checkpoint_of(Json::object());
  testing::add_sidecars(checkpoint, folder);
  Metadata made;
  append_tokenizer_keys(checkpoint, 152064, "qwen2", made, findings_);
  const auto tokens = texts(made, "tokenizer.ggml.tokens");
  EXPECT_EQ(tokens.size(), 152064U);
  EXPECT_EQ(tokens[0], "!");
  EXPECT_EQ(tokens[151643], "<|endoftext|>");
  EXPECT_EQ(tokens[152063], "[PAD152063]");
  EXPECT_EQ(texts(made, "tokenizer.ggml.merges").size(), 151387U);
  const auto kinds = types(made);
  EXPECT_EQ(std::ranges::count(kinds, 1), 151643);
  EXPECT_EQ(std::ranges::count(kinds, 5), 152064 - 151643 - 26);
}

}  // namespace
}  // namespace regauge
