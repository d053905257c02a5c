#include "models/gguf_vocabulary.h"

#include <algorithm>
#include <array>
#include <type_traits>
#include <unordered_map>

#include <fmt/format.h>

#include "base/error.h"
#include "base/text.h"
#include "models/hf_files.h"
#include "models/tokenizer_conventions.h"

namespace regauge {
namespace {

constexpr std::string_view kModel = "tokenizer.ggml.model";
constexpr std::string_view kPre = "tokenizer.ggml.pre";
constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
constexpr std::string_view kTypes = "tokenizer.ggml.token_type";
constexpr std::string_view kMerges = "tokenizer.ggml.merges";
constexpr std::string_view kFile = "tokenizer.json";
constexpr std::string_view kGuessed = "tokenizer-guessed";

// Added tokens that look like control tokens, for which reason the converter makes them such, and that every tokenizer
// of the family lists as not special. Source: tokenizer_config.json of Qwen2.5 and later, added_tokens_decoder.
constexpr std::array<std::string_view, 6> kPlainInSpiteOfLooks{"<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
                                                               "<|fim_pad|>",    "<|repo_name|>",  "<|file_sep|>"};
// Those that do not look so, for files that type no token at all. Same source.
constexpr std::array<std::string_view, 6> kPlain{"<tool_call>",      "</tool_call>", "<tool_response>",
                                                 "</tool_response>", "<think>",      "</think>"};

const std::vector<std::string>& strings(const Metadata& keys, std::string_view key) {
  const MetaArray* array = keys.get_array(key);
  if (array == nullptr) throw Error(ErrorCode::malformed, "'{}' is missing", key).tensor(key);
  const auto* texts = std::get_if<std::vector<std::string>>(&array->values);
  if (texts == nullptr) throw Error(ErrorCode::malformed, "'{}' is no array of strings", key).tensor(key);
  for (std::size_t i = 0; i < texts->size(); ++i) {
    if (!is_utf8((*texts)[i])) throw Error(ErrorCode::malformed, "entry {} is not valid UTF-8", i).tensor(key);
  }
  return *texts;
}

TokenType checked_type(std::int64_t number, std::size_t id) {
  if (number < 0 || number > static_cast<std::int64_t>(TokenType::byte)) {
    throw Error(ErrorCode::malformed, "token {} has type {}", id, number).tensor(kTypes);
  }
  const auto type = static_cast<TokenType>(number);
  if (type == TokenType::byte) {
    throw Error(ErrorCode::unsupported, "token {} is a byte token, which no byte-level BPE has", id).tensor(kTypes);
  }
  return type;
}

/// What a converter would have typed the tokens as, for files that do not say.
TokenType guessed_type(std::string_view text, std::size_t id) {
  if (text == fmt::format("[PAD{}]", id)) return TokenType::unused;
  if (looks_special(text)) return TokenType::control;
  return std::ranges::find(kPlain, text) != kPlain.end() ? TokenType::user_defined : TokenType::normal;
}

std::vector<TokenType> token_types(const Metadata& keys, const std::vector<std::string>& tokens, Findings& findings) {
  std::vector<TokenType> types;
  types.reserve(tokens.size());
  const MetaArray* array = keys.get_array(kTypes);
  if (array == nullptr) {
    note_guess(findings, Severity::warning, kGuessed, "no token has a type: added tokens are told by their text", kFile,
               kTypes);
    for (std::size_t i = 0; i < tokens.size(); ++i) types.push_back(guessed_type(tokens[i], i));
    return types;
  }
  if (array->size() != tokens.size()) {
    throw Error(ErrorCode::malformed, "{} types for {} tokens", array->size(), tokens.size()).tensor(kTypes);
  }
  std::visit(
      [&types](const auto& values) {
        using Element = typename std::decay_t<decltype(values)>::value_type;
        if constexpr (std::is_integral_v<Element> && sizeof(Element) <= 4) {
          for (const Element value : values) {
            types.push_back(checked_type(static_cast<std::int64_t>(value), types.size()));
          }
        } else {
          throw Error(ErrorCode::malformed, "'{}' is no array of 32-bit whole numbers", kTypes).tensor(kTypes);
        }
      },
      array->values);
  return types;
}

std::string_view split_regex(const Metadata& keys, std::string_view family_pre, Findings& findings) {
  const auto regex_of = [](std::string_view name) {
    return std::ranges::find(kPreTokenizers, name, &PreTokenizer::name);
  };
  const auto pre = keys.get_string(kPre);
  if (!pre) {
    note_guess(findings, Severity::warning, kGuessed,
               fmt::format("no pre-tokenizer is named: '{}' is written, as the family has it", family_pre), kFile,
               kPre);
    return regex_of(family_pre)->regex;
  }
  const auto known = regex_of(*pre);
  if (known == kPreTokenizers.end()) {
    throw Error(ErrorCode::unsupported, "words are split as by '{}', whose regex is not known here",
                printable(excerpt(*pre)))
        .tensor(kPre);
  }
  if (known->name != family_pre) {
    note_guess(findings, Severity::warning, "tokenizer-pre-differs",
               fmt::format("words are split as by '{}', where the family has '{}'", known->name, family_pre), kFile,
               kPre);
  }
  return known->regex;
}

/// Tokens by their text, to find those that merges make.
using TextIndex = std::unordered_map<std::string_view, std::size_t>;

TextIndex index_of(const std::vector<std::string>& tokens) {
  TextIndex index;
  index.reserve(tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto [other, fresh] = index.emplace(tokens[i], i);
    if (!fresh) {
      throw Error(ErrorCode::malformed, "token '{}' has two ids, {} and {}", printable(excerpt(tokens[i])),
                  other->second, i)
          .tensor(kTokens);
    }
  }
  return index;
}

std::pair<std::string, std::string> split_merge(const std::string& merge) {
  const std::size_t space = merge.find(' ');
  const bool pair = space != std::string::npos && space > 0 && space + 1 < merge.size() &&
                    merge.find(' ', space + 1) == std::string::npos;
  if (!pair) {
    throw Error(ErrorCode::malformed, "merge '{}' is no pair of tokens", printable(excerpt(merge))).tensor(kMerges);
  }
  return {merge.substr(0, space), merge.substr(space + 1)};
}

/// Reads the merges, and marks in `made` the tokens that they take or make.
void read_merges(const Metadata& keys, const TextIndex& index, GgufVocabulary& out, std::vector<bool>& made,
                 Findings& findings) {
  const std::vector<std::string>& merges = strings(keys, kMerges);
  out.merges.reserve(merges.size());
  FindingTally strangers;
  for (const std::string& merge : merges) {
    const auto& [left, right] = out.merges.emplace_back(split_merge(merge));
    for (const std::string& text : {left, right, left + right}) {
      const auto found = index.find(text);
      if (found != index.end()) {
        made[found->second] = true;
      } else {
        strangers.add(Severity::warning, "merge-without-token",
                      "a merge takes or makes what is no token; Hugging Face's tokenizers will refuse it", merge);
      }
    }
  }
  strangers.move_to(findings, kFile);
}

/// Sorts the tokens into trained and added ones.
void read_tokens(const std::vector<std::string>& tokens, const std::vector<TokenType>& types,
                 const std::vector<bool>& made, GgufVocabulary& out, Findings& findings) {
  FindingTally odd;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::string& text = tokens[i];
    TokenType type = types[i];
    if (type == TokenType::unused) {
      if (text == fmt::format("[PAD{}]", i)) continue;
      odd.add(Severity::warning, kGuessed, "an unused token is written as an ordinary one", text);
      type = TokenType::normal;
    }
    const auto id = static_cast<std::int64_t>(i);
    const bool trained = type == TokenType::normal || type == TokenType::undefined;
    if (!trained) {
      AddedToken& added = out.added.emplace_back();
      added.id = id;
      added.text = text;
      added.special = type != TokenType::user_defined;
      if (added.special && std::ranges::find(kPlainInSpiteOfLooks, text) != kPlainInSpiteOfLooks.end()) {
        odd.add(Severity::note, kGuessed, "a control token is written as not special, as the family has it", text);
        added.special = false;
      }
    }
    // tokenizer.json may list an added token among the trained ones too; it has to where merges lead to it.
    if (trained || made[i]) {
      VocabularyEntry& entry = out.vocabulary.emplace_back();
      entry.id = id;
      entry.text = text;
    }
  }
  odd.move_to(findings, kFile);
}

/// The converter writes first what tokenizer_config.json names, then what only config.json does, each in the order of
/// kSpecialTokens: an id behind one of a later kind came from config.json.
void read_special_ids(const Metadata& keys, const std::vector<std::string>& tokens, const std::vector<TokenType>& types,
                      GgufVocabulary& out, Findings& findings) {
  std::ptrdiff_t last = -1;
  bool in_config = false;
  for (const auto& [key, value] : keys.entries()) {
    const auto known = std::ranges::find(kSpecialTokens, key, &SpecialToken::key);
    if (known == kSpecialTokens.end()) continue;
    const std::uint64_t id = *keys.get_uint(key);
    if (id >= tokens.size()) {
      note_guess(findings, Severity::warning, "special-token-out-of-range",
                 fmt::format("the {} token's id {} is no token and is left out", known->type, id), kFile, key);
      continue;
    }
    in_config = in_config || known - kSpecialTokens.begin() < last;
    last = known - kSpecialTokens.begin();
    const auto index = static_cast<std::size_t>(id);
    SpecialId& special = out.special_ids.emplace_back();
    special.type = known->type;
    special.id = static_cast<std::int64_t>(id);
    if (types[index] != TokenType::unused) special.text = tokens[index];
    special.in_config = in_config || out.find_added(tokens[index]) == nullptr;
  }
}

}  // namespace

const AddedToken* GgufVocabulary::find_added(std::string_view text) const {
  const auto found = std::ranges::find(added, text, &AddedToken::text);
  return found == added.end() ? nullptr : &*found;
}

const SpecialId* GgufVocabulary::find_special(std::string_view type) const {
  const auto found = std::ranges::find(special_ids, type, &SpecialId::type);
  return found == special_ids.end() ? nullptr : &*found;
}

std::optional<GgufVocabulary> read_gguf_vocabulary(const Checkpoint& gguf, std::string_view family_pre,
                                                   Findings& findings) {
  const Metadata& keys = gguf.metadata;
  const std::string model = keys.get_string(kModel).value_or("none");
  if (model == "none" || model == "no_vocab") {
    note_guess(findings, Severity::warning, "tokenizer-absent",
               "the keys hold no tokenizer: none of its files is written", {}, kModel);
    return std::nullopt;
  }
  if (model != "gpt2") {
    throw Error(ErrorCode::unsupported, "a tokenizer of kind '{}', which is no byte-level BPE",
                printable(excerpt(model)))
        .tensor(kModel);
  }
  GgufVocabulary out;
  out.split_regex = split_regex(keys, family_pre, findings);
  const std::vector<std::string>& tokens = strings(keys, kTokens);
  const std::vector<TokenType> types = token_types(keys, tokens, findings);
  std::vector<bool> made(tokens.size());
  read_merges(keys, index_of(tokens), out, made, findings);
  read_tokens(tokens, types, made, out, findings);
  read_special_ids(keys, tokens, types, out, findings);
  return out;
}

bool is_tokenizer_key(std::string_view key) {
  constexpr std::array kKnown{kModel,
                              kPre,
                              kTokens,
                              kTypes,
                              kMerges,
                              std::string_view("tokenizer.ggml.add_bos_token"),
                              std::string_view("tokenizer.ggml.add_eos_token"),
                              std::string_view("tokenizer.ggml.add_sep_token"),
                              std::string_view("tokenizer.chat_template"),
                              std::string_view("tokenizer.chat_templates")};
  return std::ranges::find(kKnown, key) != kKnown.end() || key.starts_with("tokenizer.chat_template.") ||
         std::ranges::find(kSpecialTokens, key, &SpecialToken::key) != kSpecialTokens.end();
}

}  // namespace regauge
