#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/finding.h"
#include "base/json.h"
#include "ir/checkpoint.h"

namespace regauge {

/// A token beside the trained vocabulary: "<|im_end|>", "<think>".
struct AddedToken {
  std::int64_t id = 0;
  std::string text;
  bool special = false;
};

/// One entry of the trained vocabulary.
struct VocabularyEntry {
  std::int64_t id = 0;
  std::string text;  ///< in the byte-level alphabet: "Ġthe"
};

/// What a checkpoint's tokenizer files say, in one form for both layouts. Ids are as the files give them, unchecked.
struct TokenizerFiles {
  std::string file;  ///< tokenizer.json or vocab.json
  std::vector<VocabularyEntry> vocabulary;
  std::vector<AddedToken> added;
  std::vector<std::string> merges;         ///< "left right"
  std::optional<std::string> split_regex;  ///< of the pre-tokenizer
  Json config = Json::object();            ///< tokenizer_config.json, or an empty object
};

/// Reads tokenizer.json, or vocab.json with merges.txt, and tokenizer_config.json. Throws Error{malformed} for files
/// that break their form, Error{unsupported} for tokenizers that are no byte-level BPE, Error{not_found} without
/// merges.
TokenizerFiles read_tokenizer_files(const Checkpoint& source, Findings& findings);

}  // namespace regauge
