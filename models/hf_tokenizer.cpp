#include "models/hf_tokenizer.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"
#include "base/text.h"

namespace regauge {
namespace {

constexpr std::string_view kGuessed = "tokenizer-guessed";
constexpr std::string_view kTemplate = "tokenizer.chat_template";

/// An object of a quarter of a million keys, which must not be looked through at each insertion.
void append(Json& object, std::string key, Json value) {
  object.get_ref<Json::object_t&>().emplace_back(std::move(key), std::move(value));
}

Json vocabulary_json(const GgufVocabulary& vocabulary) {
  Json object = Json::object();
  for (const VocabularyEntry& entry : vocabulary.vocabulary) append(object, entry.text, entry.id);
  return object;
}

Json byte_level() {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", false}};
}

Json split(std::string_view regex) {
  return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
}

Json added_token(const AddedToken& token) {
  return {{"id", token.id},  {"content", token.text}, {"single_word", false},    {"lstrip", false},
          {"rstrip", false}, {"normalized", false},   {"special", token.special}};
}

// Source: huggingface/tokenizers tokenizers/src/models/bpe/serialization.rs and
// huggingface/transformers src/transformers/models/qwen3_5/tokenization_qwen3_5.py.
Json tokenizer_json(const GgufVocabulary& vocabulary) {
  Json added = Json::array();
  for (const AddedToken& token : vocabulary.added) added.push_back(added_token(token));
  Json merges = Json::array();
  for (const auto& [left, right] : vocabulary.merges) merges.push_back(Json::array({left, right}));
  Json model{{"type", "BPE"},
             {"dropout", nullptr},
             {"unk_token", nullptr},
             {"continuing_subword_prefix", ""},
             {"end_of_word_suffix", ""},
             {"fuse_unk", false},
             {"byte_fallback", false},
             {"ignore_merges", false}};
  append(model, "vocab", vocabulary_json(vocabulary));
  append(model, "merges", std::move(merges));

  Json json{{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  append(json, "added_tokens", std::move(added));
  append(json, "normalizer", {{"type", "NFC"}});
  append(json, "pre_tokenizer",
         {{"type", "Sequence"}, {"pretokenizers", Json::array({split(vocabulary.split_regex), byte_level()})}});
  append(json, "post_processor", byte_level());
  append(json, "decoder", byte_level());
  append(json, "model", std::move(model));
  return json;
}

std::string merges_text(const GgufVocabulary& vocabulary) {
  std::string text = "#version: 0.2\n";
  for (const auto& [left, right] : vocabulary.merges) {
    text += left;
    text += ' ';
    text += right;
    text += '\n';
  }
  return text;
}

struct ChatTemplate {
  std::string name;
  std::string text;
};

std::string checked_template(const Metadata& keys, std::string_view key) {
  std::string text = *keys.get_string(key);
  if (!is_utf8(text)) throw Error(ErrorCode::malformed, "not valid UTF-8").tensor(key);
  return text;
}

/// A template's name becomes part of a file's: nothing but what the converter leaves of one may be in it.
bool is_template_name(std::string_view name) {
  return !name.empty() && std::ranges::all_of(name, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  });
}

/// The default one first, then the others in the order of their keys.
std::vector<ChatTemplate> chat_templates(const Metadata& keys, Findings& findings) {
  std::vector<ChatTemplate> found;
  if (keys.find(kTemplate) != nullptr) found.push_back({"default", checked_template(keys, kTemplate)});
  const std::string prefix = std::string(kTemplate) + ".";
  for (const auto& [key, value] : keys.entries()) {
    if (!key.starts_with(prefix)) continue;
    const std::string name = key.substr(prefix.size());
    if (!is_template_name(name) || name == "default") {
      note_guess(findings, Severity::warning, "chat-template-left-out", "a chat template's name cannot be a file's", {},
                 excerpt(key));
      continue;
    }
    found.push_back({name, checked_template(keys, key)});
  }
  return found;
}

// transformers prefers the files, older releases and other loaders know only the entry of tokenizer_config.json.
// Source: huggingface/transformers src/transformers/tokenization_utils_base.py, _from_pretrained.
Json template_entry(const std::vector<ChatTemplate>& templates) {
  if (templates.size() == 1 && templates.front().name == "default") return templates.front().text;
  Json list = Json::array();
  for (const ChatTemplate& one : templates) list.push_back({{"name", one.name}, {"template", one.text}});
  return list;
}

void add_flag(Json& config, const Metadata& keys, std::string_view name) {
  if (const auto flag = keys.get_bool(fmt::format("tokenizer.ggml.{}", name))) append(config, std::string(name), *flag);
}

Json added_tokens_decoder(const GgufVocabulary& vocabulary) {
  Json decoder = Json::object();
  for (const AddedToken& token : vocabulary.added) {
    append(decoder, std::to_string(token.id),
           {{"content", token.text},
            {"lstrip", false},
            {"normalized", false},
            {"rstrip", false},
            {"single_word", false},
            {"special", token.special}});
  }
  return decoder;
}

/// The token as tokenizer_config.json names it: null where only config.json has it.
Json special_text(const GgufVocabulary& vocabulary, std::string_view type) {
  const SpecialId* special = vocabulary.find_special(type);
  if (special == nullptr || !special->text) return nullptr;
  const bool added = vocabulary.find_added(*special->text) != nullptr;
  // One that is no added token is written in both places: the converter finds it in config.json only.
  return special->in_config && added ? Json(nullptr) : Json(*special->text);
}

/// Keys in alphabetical order, as transformers saves them.
Json tokenizer_config(const GgufVocabulary& vocabulary, const Metadata& keys,
                      const std::vector<ChatTemplate>& templates, std::int64_t context) {
  const SpecialId* pad = vocabulary.find_special("pad");
  Json specials = Json::array();
  for (const AddedToken& token : vocabulary.added) {
    if (token.special && (pad == nullptr || pad->id != token.id)) specials.push_back(token.text);
  }
  Json config = Json::object();
  add_flag(config, keys, "add_bos_token");
  add_flag(config, keys, "add_eos_token");
  append(config, "add_prefix_space", false);
  add_flag(config, keys, "add_sep_token");
  append(config, "added_tokens_decoder", added_tokens_decoder(vocabulary));
  append(config, "additional_special_tokens", std::move(specials));
  append(config, "bos_token", special_text(vocabulary, "bos"));
  if (!templates.empty()) append(config, "chat_template", template_entry(templates));
  append(config, "clean_up_tokenization_spaces", false);
  append(config, "eos_token", special_text(vocabulary, "eos"));
  append(config, "errors", "replace");
  if (vocabulary.find_special("mask") != nullptr) append(config, "mask_token", special_text(vocabulary, "mask"));
  append(config, "model_max_length", context);
  append(config, "pad_token", special_text(vocabulary, "pad"));
  if (vocabulary.find_special("sep") != nullptr) append(config, "sep_token", special_text(vocabulary, "sep"));
  append(config, "split_special_tokens", false);
  append(config, "tokenizer_class", "Qwen2Tokenizer");
  append(config, "unk_token", special_text(vocabulary, "unk"));
  return config;
}

void note_guesses(const Metadata& keys, Findings& findings) {
  note_guess(findings, Severity::note, kGuessed,
             "no key says it, the family has it: normalizer NFC; pre_tokenizer, decoder and post_processor ByteLevel; "
             "added tokens that are not normalized, not stripped and match inside of words",
             "tokenizer.json");
  note_guess(findings, Severity::note, kGuessed,
             "no key says it, the family has it: tokenizer_class, add_prefix_space, clean_up_tokenization_spaces, "
             "errors, split_special_tokens; model_max_length is the context's length",
             "tokenizer_config.json");
  for (const std::string_view name : {"tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"}) {
    if (keys.get_bool(name).value_or(false)) {
      note_guess(findings, Severity::warning, kGuessed,
                 "a token is to be added to every text, which the post_processor written here does not do",
                 "tokenizer.json", name);
    }
  }
}

}  // namespace

std::vector<TextFile> hf_tokenizer_files(const Checkpoint& gguf, const GgufVocabulary& vocabulary, Dialect target,
                                         std::int64_t context, Findings& findings) {
  const std::vector<ChatTemplate> templates = chat_templates(gguf.metadata, findings);
  note_guesses(gguf.metadata, findings);
  std::vector<TextFile> files;
  for (const ChatTemplate& one : templates) {
    const bool standard = one.name == "default";
    files.push_back({standard ? "chat_template.jinja" : "additional_chat_templates/" + one.name + ".jinja", one.text});
  }
  if (target == Dialect::hf) files.push_back({"merges.txt", merges_text(vocabulary)});
  files.push_back({"tokenizer.json", render_json(tokenizer_json(vocabulary), 2)});
  files.push_back({"tokenizer_config.json",
                   render_json(tokenizer_config(vocabulary, gguf.metadata, templates, context), 2) + "\n"});
  if (target == Dialect::hf) files.push_back({"vocab.json", render_json(vocabulary_json(vocabulary), -1)});
  return files;
}

}  // namespace regauge
