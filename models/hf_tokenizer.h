#pragma once

#include <cstdint>
#include <vector>

#include "base/finding.h"
#include "ir/checkpoint.h"
#include "models/gguf_vocabulary.h"
#include "models/hf_files.h"

namespace regauge {

/// tokenizer.json, tokenizer_config.json and chat templates of a directory for `target`; for hf also vocab.json and
/// merges.txt, which the official one has. Flags and chat templates are read from the keys of `gguf`; `context` becomes
/// model_max_length. What no key says is a finding. Throws Error{malformed} for a chat template that is not UTF-8.
std::vector<TextFile> hf_tokenizer_files(const Checkpoint& gguf, const GgufVocabulary& vocabulary, Dialect target,
                                         std::int64_t context, Findings& findings);

}  // namespace regauge
