#pragma once

#include <array>
#include <cstdint>
#include <string_view>

// What tokenizer files and tokenizer.ggml.* keys call the same things, for both directions.

namespace regauge {

/// Source: ggml-org/llama.cpp include/llama.h, llama_token_type.
enum class TokenType : std::int32_t {
  undefined = 0,
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6
};

struct PreTokenizer {
  std::string_view regex;  ///< of the Split in tokenizer.json
  std::string_view name;   ///< tokenizer.ggml.pre
};

// The converter knows pre-tokenizers by a hash over the ids of a test sentence, which differs between vocabularies. The
// splitting regex says the same thing directly: Qwen3.5 counts combining marks as letters, Qwen2 and 3 do not.
// Source: huggingface/transformers src/transformers/models/{qwen3_5,qwen2}/tokenization_*.py, PRETOKENIZE_REGEX.
inline constexpr std::array kPreTokenizers{
    PreTokenizer{R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)"
                 R"(\s*[\r\n]+|\s+(?!\S)|\s+)",
                 "qwen35"},
    PreTokenizer{R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
                 R"(\s*[\r\n]+|\s+(?!\S)|\s+)",
                 "qwen2"},
};

struct SpecialToken {
  std::string_view type;  ///< in tokenizer_config.json "<type>_token", in config.json "<type>_token_id"
  std::string_view key;
};

/// In the order in which the converter's SpecialVocab looks; "seperator" is spelled so in the format.
inline constexpr std::array kSpecialTokens{
    SpecialToken{"bos", "tokenizer.ggml.bos_token_id"},     SpecialToken{"eos", "tokenizer.ggml.eos_token_id"},
    SpecialToken{"unk", "tokenizer.ggml.unknown_token_id"}, SpecialToken{"sep", "tokenizer.ggml.seperator_token_id"},
    SpecialToken{"pad", "tokenizer.ggml.padding_token_id"}, SpecialToken{"mask", "tokenizer.ggml.mask_token_id"},
};

/// Whether the converter takes an added token of this text for a control token whatever tokenizer.json says.
/// Source: ggml-org/llama.cpp conversion/base.py, does_token_look_special.
bool looks_special(std::string_view text);

}  // namespace regauge
