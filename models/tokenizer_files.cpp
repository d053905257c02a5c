#include "models/tokenizer_files.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "base/error.h"
#include "base/limits.h"
#include "base/text.h"
#include "models/gguf_general.h"

namespace regauge {
namespace {

constexpr std::string_view kTokenizer = "tokenizer.json";
constexpr std::string_view kVocabulary = "vocab.json";
constexpr std::string_view kMerges = "merges.txt";
constexpr std::string_view kConfig = "tokenizer_config.json";
constexpr std::string_view kAdded = "added_tokens.json";

void add_finding(Findings& findings, Severity severity, std::string_view code, std::string message,
                 std::string_view file) {
  Finding finding;
  finding.severity = severity;
  finding.code = code;
  finding.message = std::move(message);
  finding.file = file;
  findings.push_back(std::move(finding));
}

std::int64_t id_of(const Json& value, std::string_view text, std::string_view file) {
  if (!value.is_number_integer() || value < 0 || value > std::int64_t{1} << 31) {
    throw Error(ErrorCode::malformed, "the id of token '{}' is {}", printable(text),
                value.is_number() ? value.dump() : std::string(value.type_name()))
        .at(file);
  }
  return value.get<std::int64_t>();
}

std::vector<VocabularyEntry> read_vocabulary(const Json& vocabulary, std::string_view file) {
  std::vector<VocabularyEntry> entries;
  entries.reserve(vocabulary.size());
  for (const auto& [text, id] : vocabulary.get_ref<const Json::object_t&>()) {
    VocabularyEntry& entry = entries.emplace_back();
    entry.id = id_of(id, text, file);
    entry.text = text;
  }
  return entries;
}

/// "Ġ t", or ["Ġ", "t"] as tokenizers writes since its version 0.20; a space inside a part becomes the byte-level one.
std::string merge_text(const Json& merge) {
  if (merge.is_string()) return merge.get<std::string>();
  const bool pair = merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
  if (!pair) throw Error(ErrorCode::malformed, "a merge is neither a string nor a pair of strings").at(kTokenizer);
  const auto escaped = [](const std::string& part) {
    if (part.find(' ') == std::string::npos) return part;
    std::string out;
    for (const char c : part) out += c == ' ' ? std::string("\xC4\xA0") : std::string(1, c);
    return out;
  };
  return escaped(merge[0].get_ref<const std::string&>()) + " " + escaped(merge[1].get_ref<const std::string&>());
}

std::vector<std::string_view> words_of(std::string_view line) {
  constexpr std::string_view kBlank = " \t\r\v\f";
  std::vector<std::string_view> words;
  std::size_t at = line.find_first_not_of(kBlank);
  while (at != std::string_view::npos) {
    const std::size_t end = std::min(line.find_first_of(kBlank, at), line.size());
    words.push_back(line.substr(at, end - at));
    at = line.find_first_not_of(kBlank, end);
  }
  return words;
}

std::vector<std::string> read_merges_file(const Checkpoint& source, Findings& findings) {
  const auto text = source.sidecar_text(kMerges, kMaxTokenizerBytes);
  std::vector<std::string> merges;
  if (!text) return merges;
  if (!is_utf8(*text)) throw Error(ErrorCode::malformed, "not valid UTF-8").at(kMerges);
  std::size_t ignored = 0;
  std::string_view rest = *text;
  for (bool first = true; !rest.empty(); first = false) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    const std::vector<std::string_view> words = words_of(line);
    // Only the first line is a comment: "#version: 0.2". Later ones may start with the token "#".
    if (words.empty() || (first && words.front().starts_with('#'))) continue;
    if (words.size() == 2) {
      merges.push_back(std::string(words[0]) + " " + std::string(words[1]));
    } else {
      ++ignored;
    }
  }
  if (ignored > 0) {
    add_finding(findings, Severity::warning, "merges-malformed",
                fmt::format("{} lines are no pair of tokens and are left out", ignored), kMerges);
  }
  return merges;
}

/// The regex of the first Split inside a pre-tokenizer.
std::optional<std::string> split_regex(const Json& node) {
  if (!node.is_object()) return std::nullopt;
  if (get_string(node, "type") == "Split") {
    const Json* pattern = get_object(node, "pattern");
    return pattern == nullptr ? std::nullopt : get_string(*pattern, "Regex");
  }
  if (const Json* inner = get_array(node, "pretokenizers")) {
    for (const Json& one : *inner) {
      if (auto found = split_regex(one)) return found;
    }
  }
  return std::nullopt;
}

void read_added(const Json& list, TokenizerFiles& files) {
  for (const Json& one : list) {
    if (!one.is_object()) throw Error(ErrorCode::malformed, "an added token is no object").at(kTokenizer);
    const auto text = get_string(one, "content");
    const Json* id = find(one, "id");
    if (!text || id == nullptr)
      throw Error(ErrorCode::malformed, "an added token without content or id").at(kTokenizer);
    AddedToken& added = files.added.emplace_back();
    added.id = id_of(*id, *text, kTokenizer);
    added.text = *text;
    added.special = get_bool(one, "special").value_or(false);
  }
}

/// tokenizer_config.json repeats the added tokens by id, and is the only place of them where there is no
/// tokenizer.json.
void read_added_decoder(TokenizerFiles& files, Findings& findings) {
  const Json* decoder = get_object(files.config, "added_tokens_decoder");
  if (decoder == nullptr) return;
  const bool fallback = files.file != kTokenizer;
  for (const auto& [key, value] : decoder->get_ref<const Json::object_t&>()) {
    std::int64_t id = -1;
    const auto [end, fault] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (fault != std::errc{} || end != key.data() + key.size() || id < 0 || !value.is_object()) {
      throw Error(ErrorCode::malformed, "'added_tokens_decoder' has an entry '{}'", printable(key)).at(kConfig);
    }
    const auto text = get_string(value, "content");
    if (!text) throw Error(ErrorCode::malformed, "added token {} without content", id).at(kConfig);
    if (!fallback) {
      const auto known = std::ranges::find(files.added, id, &AddedToken::id);
      if (known == files.added.end() || known->text != *text) {
        add_finding(
            findings, Severity::warning, "added-tokens-differ",
            fmt::format("token {} is '{}' here and not in {}, which is believed", id, printable(*text), kTokenizer),
            kConfig);
      }
      continue;
    }
    AddedToken& added = files.added.emplace_back();
    added.id = id;
    added.text = *text;
    added.special = get_bool(value, "special").value_or(false);
  }
}

void read_fast(const Checkpoint& source, TokenizerFiles& files, Findings& findings) {
  files.file = kTokenizer;
  const Json json = *json_sidecar(source, kTokenizer, kMaxTokenizerBytes, JsonDuplicates::refuse);
  const Json* model = get_object(json, "model");
  if (model == nullptr) throw Error(ErrorCode::malformed, "'model' is missing").at(kTokenizer);
  const auto type = get_string(*model, "type");
  if (type.value_or("BPE") != "BPE" || get_bool(*model, "byte_fallback").value_or(false)) {
    throw Error(ErrorCode::unsupported, "a tokenizer that is no byte-level BPE ({})",
                type.value_or("BPE, byte fallback"))
        .at(kTokenizer);
  }
  const Json* vocabulary = get_object(*model, "vocab");
  if (vocabulary == nullptr) throw Error(ErrorCode::malformed, "'model.vocab' is missing").at(kTokenizer);
  files.vocabulary = read_vocabulary(*vocabulary, kTokenizer);
  if (const Json* merges = get_array(*model, "merges")) {
    files.merges.reserve(merges->size());
    for (const Json& merge : *merges) files.merges.push_back(merge_text(merge));
  }
  if (const Json* added = get_array(json, "added_tokens")) read_added(*added, files);
  if (const Json* pre = get_object(json, "pre_tokenizer")) files.split_regex = split_regex(*pre);
  const Json* post = get_object(json, "post_processor");
  if (post != nullptr && get_string(*post, "type") != "ByteLevel") {
    add_finding(findings, Severity::warning, "post-processor-left-out",
                fmt::format("a post-processor of type {} is not translated", get_string(*post, "type").value_or("?")),
                kTokenizer);
  }
}

void read_slow(const Checkpoint& source, TokenizerFiles& files) {
  files.file = kVocabulary;
  const Json json = *json_sidecar(source, kVocabulary, kMaxTokenizerBytes, JsonDuplicates::refuse);
  files.vocabulary = read_vocabulary(json, kVocabulary);
  if (const auto added = json_sidecar(source, kAdded, kMaxConfigBytes, JsonDuplicates::refuse)) {
    for (const auto& [text, id] : added->get_ref<const Json::object_t&>()) {
      AddedToken& token = files.added.emplace_back();
      token.id = id_of(id, text, kAdded);
      token.text = text;
    }
  }
}

/// Later mentions of an id with the same text add only that the token is special.
void merge_repeated(std::vector<AddedToken>& added) {
  std::ranges::stable_sort(added, {}, &AddedToken::id);
  std::vector<AddedToken> unique;
  for (AddedToken& token : added) {
    if (!unique.empty() && unique.back().id == token.id && unique.back().text == token.text) {
      unique.back().special = unique.back().special || token.special;
    } else {
      unique.push_back(std::move(token));
    }
  }
  added = std::move(unique);
}

}  // namespace

TokenizerFiles read_tokenizer_files(const Checkpoint& source, Findings& findings) {
  TokenizerFiles files;
  try {
    if (source.has_sidecar(kTokenizer)) {
      read_fast(source, files, findings);
    } else {
      read_slow(source, files);
    }
  } catch (Error& error) {
    error.at(files.file);
    throw;
  }
  try {
    if (auto config = json_sidecar(source, kConfig, kMaxConfigBytes)) files.config = *std::move(config);
    read_added_decoder(files, findings);
  } catch (Error& error) {
    error.at(kConfig);
    throw;
  }
  merge_repeated(files.added);
  if (files.merges.empty()) files.merges = read_merges_file(source, findings);
  if (files.merges.empty()) {
    throw Error(ErrorCode::not_found, "no merges, neither in {} nor in {}: llama.cpp needs them", files.file, kMerges)
        .at(kMerges);
  }
  return files;
}

}  // namespace regauge
