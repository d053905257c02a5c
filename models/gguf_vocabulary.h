#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/finding.h"
#include "ir/checkpoint.h"
#include "models/tokenizer_files.h"

namespace regauge {

/// The token of one of kSpecialTokens.
struct SpecialId {
  std::string_view type;  ///< "eos"
  std::int64_t id = 0;
  std::optional<std::string> text;  ///< nothing when the id is padding
  /// The converter found it in config.json, or could find it nowhere else: it is no added token.
  bool in_config = false;
};

/// A byte-level BPE tokenizer out of tokenizer.ggml.* keys, in the words of tokenizer.json.
struct GgufVocabulary {
  std::vector<VocabularyEntry> vocabulary;  ///< trained tokens by ascending id
  std::vector<AddedToken> added;            ///< by ascending id
  std::vector<std::pair<std::string, std::string>> merges;
  std::string_view split_regex;
  std::vector<SpecialId> special_ids;

  const AddedToken* find_added(std::string_view text) const;
  const SpecialId* find_special(std::string_view type) const;
};

/// Reads the keys. Padding that the converter invented ("[PAD<id>]" of type unused) is left out. Nothing, and a finding,
/// for a file without a tokenizer. `family_pre` stands in for an absent tokenizer.ggml.pre, which is a finding.
///
/// Throws Error{unsupported} for another kind of tokenizer and for a tokenizer.ggml.pre whose regex we do not know,
/// Error{malformed} naming the key for text that is not UTF-8, one text with two ids, lists of different length and
/// merges that are no pair.
std::optional<GgufVocabulary> read_gguf_vocabulary(const Checkpoint& gguf, std::string_view family_pre,
                                                   Findings& findings);

/// Whether the key is one that read_gguf_vocabulary() and hf_tokenizer_files() carry over.
bool is_tokenizer_key(std::string_view key);

}  // namespace regauge
