#pragma once

#include <cstdint>
#include <string_view>

#include "base/finding.h"
#include "ir/checkpoint.h"
#include "ir/metadata.h"

namespace regauge {

/// Whether the checkpoint brings a vocabulary: tokenizer.json, or vocab.json of the older pair.
bool has_tokenizer(const Checkpoint& source);

/// Appends tokenizer.ggml.* and tokenizer.chat_template* for a byte-level BPE tokenizer, in llama.cpp's order: model,
/// pre, tokens, token_type, merges, special ids, add_* flags, chat templates. There are `vocab_size` tokens, the rows
/// of the embedding; ids without a text become "[PAD<id>]". `family_pre` is the pre-tokenizer that stands in for one
/// that tokenizer.json describes and we do not know, which is a finding.
///
/// Throws Error{malformed}, naming file and token, for an id outside of the vocabulary, one id with two texts or one
/// text with two ids (which aborts llama.cpp); Error{unsupported} for another kind of tokenizer; Error{not_found}
/// without merges. Sources: ggml-org/llama.cpp conversion/base.py get_vocab_base, gguf-py/gguf/vocab.py SpecialVocab.
void append_tokenizer_keys(const Checkpoint& source, std::int64_t vocab_size, std::string_view family_pre,
                           Metadata& keys, Findings& findings);

}  // namespace regauge
