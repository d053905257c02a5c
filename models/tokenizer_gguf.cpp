#include "models/tokenizer_gguf.h"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "base/limits.h"
#include "base/text.h"
#include "models/gguf_general.h"
#include "models/tokenizer_conventions.h"
#include "models/tokenizer_files.h"

namespace regauge {
namespace {

void add_finding(Findings& findings, Severity severity, std::string_view code, std::string message,
                 std::string_view file) {
  Finding finding;
  finding.severity = severity;
  finding.code = code;
  finding.message = std::move(message);
  finding.file = file;
  findings.push_back(std::move(finding));
}

/// SentencePiece's mark for a space, which user-defined tokens carry into llama.cpp as a plain one.
std::string with_plain_spaces(std::string text) {
  constexpr std::string_view kMark = "\xE2\x96\x81";
  for (std::size_t at = text.find(kMark); at != std::string::npos; at = text.find(kMark, at + 1)) {
    text.replace(at, kMark.size(), " ");
  }
  return text;
}

/// Most rows of an embedding without a token. Published models pad by a few hundred; a configuration that claims
/// millions would cost memory that no file pays for.
constexpr std::int64_t kMaxPadding = std::int64_t{1} << 20;

class TokenTable {
 public:
  /// `tokens` is how many the files name, some of them perhaps twice.
  TokenTable(std::string_view file, std::int64_t size, std::size_t tokens) : file_(file) {
    if (size > static_cast<std::int64_t>(tokens) + kMaxPadding) {
      throw Error(ErrorCode::malformed, "{} tokens for an embedding of {} rows", tokens, size).at(file);
    }
    texts_.resize(static_cast<std::size_t>(size));
    types_.resize(static_cast<std::size_t>(size));
  }

  void put(std::int64_t id, std::string text, TokenType type) {
    if (id < 0 || id >= static_cast<std::int64_t>(texts_.size())) {
      throw Error(ErrorCode::malformed, "token '{}' has id {}, outside of the {} rows of the embedding",
                  printable(text), id, texts_.size())
          .at(file_);
    }
    const auto index = static_cast<std::size_t>(id);
    const bool taken = types_[index] != 0;
    if (taken && texts_[index] != text) {
      throw Error(ErrorCode::malformed, "id {} is both '{}' and '{}'", id, printable(texts_[index]), printable(text))
          .at(file_);
    }
    texts_[index] = std::move(text);
    types_[index] = static_cast<std::int32_t>(type);
  }

  /// What user-defined tokens look like in the file; apart from put(), which compares texts as the tokenizer knows
  /// them.
  void fill_and_check() {
    std::unordered_map<std::string_view, std::size_t> seen;
    seen.reserve(texts_.size());
    for (std::size_t i = 0; i < texts_.size(); ++i) {
      if (types_[i] == 0) {
        texts_[i] = fmt::format("[PAD{}]", i);
        types_[i] = static_cast<std::int32_t>(TokenType::unused);
      } else if (types_[i] == static_cast<std::int32_t>(TokenType::user_defined)) {
        texts_[i] = with_plain_spaces(std::move(texts_[i]));
      }
      const auto [other, fresh] = seen.emplace(texts_[i], i);
      if (!fresh) {
        throw Error(ErrorCode::malformed, "token '{}' has two ids, {} and {}", printable(texts_[i]), other->second, i)
            .at(file_);
      }
    }
  }

  std::vector<std::string> take_texts() { return std::move(texts_); }
  std::vector<std::int32_t> take_types() { return std::move(types_); }

 private:
  std::string_view file_;
  std::vector<std::string> texts_;
  std::vector<std::int32_t> types_;  ///< 0 while the id has no token
};

std::string_view pre_tokenizer(const TokenizerFiles& files, std::string_view family_pre, Findings& findings) {
  const auto known = std::ranges::find_if(kPreTokenizers, [&files](const PreTokenizer& one) {
    return files.split_regex && *files.split_regex == one.regex;
  });
  if (known == kPreTokenizers.end()) {
    const std::string_view what = files.split_regex ? "an unknown splitting regex" : "no splitting regex";
    add_finding(findings, Severity::warning, "tokenizer-pre-guessed",
                fmt::format("{}: '{}' is written, as the family has it", what, family_pre), files.file);
    return family_pre;
  }
  if (known->name != family_pre) {
    add_finding(findings, Severity::warning, "tokenizer-pre-differs",
                fmt::format("words are split as by '{}', where the family has '{}'", known->name, family_pre),
                files.file);
  }
  return known->name;
}

/// "<|im_end|>", or {"content": "<|im_end|>", ...}.
std::optional<std::string> token_text(const Json& config, const std::string& key) {
  const Json* entry = find(config, key);
  if (entry == nullptr) return std::nullopt;
  if (entry->is_string()) return entry->get<std::string>();
  return entry->is_object() ? get_string(*entry, "content") : std::nullopt;
}

/// config.json's `<type>_token_id`, at the root or else in text_config. A list of ids is no id.
std::optional<std::int64_t> config_id(const Json& config, const std::string& key) {
  const Json* value = find(config, key);
  if (value == nullptr) {
    if (const Json* text = get_object(config, "text_config")) value = find(*text, key);
  }
  if (value == nullptr || !value->is_number_integer()) return std::nullopt;
  return value->get<std::int64_t>();
}

/// Ids that tokenizer_config.json names go first, then those that only config.json gives, as SpecialVocab orders them.
void append_special_ids(const Checkpoint& source, const TokenizerFiles& files, std::int64_t vocab_size, Metadata& keys,
                        Findings& findings) {
  const auto set = [&](const SpecialToken& special, std::int64_t id, std::string_view file) {
    if (keys.find(special.key) != nullptr) return;
    if (id < 0 || id >= vocab_size) {
      add_finding(findings, Severity::warning, "special-token-out-of-range",
                  fmt::format("the {} token's id {} is no token and is left out", special.type, id), file);
      return;
    }
    keys.set(special.key, static_cast<std::uint32_t>(id));
  };
  for (const SpecialToken& special : kSpecialTokens) {
    const auto text = token_text(files.config, std::string(special.type) + "_token");
    if (!text) continue;
    const auto added = std::ranges::find(files.added, *text, &AddedToken::text);
    if (added != files.added.end()) set(special, added->id, files.file);
  }
  if (source.config && source.config->is_object()) {
    for (const SpecialToken& special : kSpecialTokens) {
      const auto id = config_id(*source.config, std::string(special.type) + "_token_id");
      if (id) set(special, *id, "config.json");
    }
  }
  if (keys.find("tokenizer.ggml.eos_token_id") == nullptr) {
    add_finding(findings, Severity::warning, "eos-absent",
                "no end-of-sequence token is named: llama.cpp takes token 11 for it", files.file);
  }
}

void append_flags(const TokenizerFiles& files, Metadata& keys) {
  for (const std::string_view type : {"bos", "eos", "sep"}) {
    const Json* flag = find(files.config, fmt::format("add_{}_token", type));
    if (flag != nullptr && flag->is_boolean())
      keys.set(fmt::format("tokenizer.ggml.add_{}_token", type), flag->get<bool>());
  }
}

struct ChatTemplate {
  std::string name;
  std::string text;
};

/// A template in a file of its own. Those inside JSON are UTF-8 by parse_json().
std::optional<std::string> template_file(const Checkpoint& source, std::string_view name) {
  auto text = source.sidecar_text(name, kMaxConfigBytes);
  if (text && !is_utf8(*text)) throw Error(ErrorCode::malformed, "not valid UTF-8").at(name);
  return text;
}

/// tokenizer_config.json wins over chat_template.jinja, that over chat_template.json.
std::vector<ChatTemplate> read_templates(const Checkpoint& source, const Json& tokenizer_config) {
  std::vector<ChatTemplate> found;
  const auto add = [&found](std::string name, std::string text) {
    found.push_back(ChatTemplate{std::move(name), std::move(text)});
  };
  const auto add_value = [&add](const Json& value, std::string_view file) {
    if (value.is_string()) {
      add("default", value.get<std::string>());
    } else if (value.is_array()) {
      for (const Json& one : value) {
        if (!one.is_object()) throw Error(ErrorCode::malformed, "a chat template is no object").at(file);
        const auto name = get_string(one, "name");
        const auto text = get_string(one, "template");
        if (name && text) add(*name, *text);
      }
    }
  };
  constexpr std::string_view kJinja = "chat_template.jinja";
  constexpr std::string_view kJson = "chat_template.json";
  constexpr std::string_view kMore = "additional_chat_templates/";
  if (const Json* value = find(tokenizer_config, "chat_template")) {
    add_value(*value, "tokenizer_config.json");
  } else if (auto text = template_file(source, kJinja)) {
    add("default", *std::move(text));
    for (const Sidecar& sidecar : source.sidecars) {
      if (!sidecar.name.starts_with(kMore) || !sidecar.name.ends_with(".jinja")) continue;
      auto more = template_file(source, sidecar.name);
      const std::string_view stem = std::string_view(sidecar.name).substr(kMore.size());
      if (more) add(std::string(stem.substr(0, stem.size() - 6)), *std::move(more));
    }
  } else if (const auto json = json_sidecar(source, kJson, kMaxConfigBytes)) {
    if (const Json* inner = find(*json, "chat_template")) add_value(*inner, kJson);
  }
  return found;
}

void append_templates(const Checkpoint& source, const TokenizerFiles& files, Metadata& keys) {
  std::optional<std::string> standard;
  std::vector<std::string> names;
  for (ChatTemplate& one : read_templates(source, files.config)) {
    std::ranges::replace_if(
        one.name, [](char c) { return !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')); },
        '_');
    if (one.name == "default") {
      standard = std::move(one.text);
    } else if (!one.name.empty()) {
      keys.set("tokenizer.chat_template." + one.name, std::move(one.text));
      if (std::ranges::find(names, one.name) == names.end()) names.push_back(one.name);
    }
  }
  if (!names.empty()) keys.set("tokenizer.chat_templates", MetaArray{MetaType::string, std::move(names)});
  if (standard) keys.set("tokenizer.chat_template", *std::move(standard));
}

}  // namespace

bool has_tokenizer(const Checkpoint& source) {
  return source.has_sidecar("tokenizer.json") || source.has_sidecar("vocab.json");
}

void append_tokenizer_keys(const Checkpoint& source, std::int64_t vocab_size, std::string_view family_pre,
                           Metadata& keys, Findings& findings) {
  TokenizerFiles files = read_tokenizer_files(source, findings);
  TokenTable table(files.file, vocab_size, files.vocabulary.size() + files.added.size());
  for (VocabularyEntry& entry : files.vocabulary) table.put(entry.id, std::move(entry.text), TokenType::normal);
  for (const AddedToken& token : files.added) {
    const bool control = token.special || looks_special(token.text);
    table.put(token.id, token.text, control ? TokenType::control : TokenType::user_defined);
  }
  table.fill_and_check();

  keys.set("tokenizer.ggml.model", std::string("gpt2"));
  keys.set("tokenizer.ggml.pre", std::string(pre_tokenizer(files, family_pre, findings)));
  keys.set("tokenizer.ggml.tokens", MetaArray{MetaType::string, table.take_texts()});
  keys.set("tokenizer.ggml.token_type", MetaArray{MetaType::i32, table.take_types()});
  keys.set("tokenizer.ggml.merges", MetaArray{MetaType::string, std::move(files.merges)});
  append_special_ids(source, files, vocab_size, keys, findings);
  append_flags(files, keys);
  append_templates(source, files, keys);
}

}  // namespace regauge
