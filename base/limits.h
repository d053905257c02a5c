#pragma once

#include <cstddef>
#include <cstdint>

namespace regauge {

// What readers refuse to believe, in one place. A limit of a format's owner names its source; the others are ours, set far
// above anything published and low enough that a hostile file cannot make us allocate without paying for it in bytes.

/// Longest safetensors header. Source: huggingface/safetensors safetensors/src/tensor.rs, MAX_HEADER_SIZE.
inline constexpr std::uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;
/// Most characters of a GGUF string. Source: ggml-org/ggml src/gguf.cpp, GGUF_MAX_STRING_LENGTH.
inline constexpr std::uint64_t kMaxGgufStringBytes = std::uint64_t{1} << 30;
/// Most elements of a GGUF array. Source: ggml-org/ggml src/gguf.cpp, GGUF_MAX_ARRAY_ELEMENTS.
inline constexpr std::uint64_t kMaxGgufArrayElements = std::uint64_t{1} << 30;
/// A GGUF tensor name is shorter than this, so that it fits with its end mark. Source: ggml-org/ggml include/ggml.h,
/// GGML_MAX_NAME.
inline constexpr std::size_t kGgufNameBytes = 64;
/// Most dimensions of a GGUF tensor. Source: ggml-org/ggml include/ggml.h, GGML_MAX_DIMS.
inline constexpr std::uint32_t kMaxGgufDims = 4;
/// Most dimensions of any tensor we take; the largest published rank in the family is 5 (the patch embedding).
inline constexpr std::size_t kMaxDims = 64;

/// Deepest JSON nesting. Source: serde-rs/json src/de.rs, remaining_depth, through which the reference safetensors reader
/// and Hugging Face tokenizers parse.
inline constexpr std::size_t kMaxJsonDepth = 128;
/// Most JSON values in one document: above the 14 million of a full 100 MB safetensors header of the shortest entries.
inline constexpr std::uint64_t kMaxJsonValues = 20'000'000;
/// Largest config.json, index or other small text beside the tensors; a published index of 100,000 tensors has 9 MB.
inline constexpr std::uint64_t kMaxConfigBytes = std::uint64_t{64} << 20;
/// Largest tokenizer.json, merges.txt or vocab.json; those of 250,000 tokens have 20 MB.
inline constexpr std::uint64_t kMaxTokenizerBytes = std::uint64_t{512} << 20;

}  // namespace regauge
