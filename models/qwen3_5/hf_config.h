#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/finding.h"
#include "base/json.h"
#include "ir/metadata.h"
#include "models/gguf_vocabulary.h"
#include "models/hf_files.h"
#include "models/qwen3_5/config.h"

namespace regauge::qwen3_5 {

/// See Architecture::hf_files. `config` is that of the keys; `vision` is what facts.vision says, null without it.
std::vector<TextFile> make_hf_files(const Config& config, const VisionConfig* vision, const Checkpoint& model,
                                    const HfFacts& facts, Findings& findings);

inline constexpr std::string_view kEndOfText = "<|endoftext|>";

/// general.architecture, which is the prefix of the model's keys too.
std::string_view architecture_of(const Config& config);

/// What config.json is made of; everything outlives it.
struct HfSource {
  const Config& config;
  const VisionConfig* vision;  ///< null when none is written
  const std::optional<GgufVocabulary>& vocabulary;
  const Metadata& keys;
  const HfFacts& facts;
  bool dedicated_embeddings;  ///< an MTP layer brings an embedding of its own

  const SpecialId* find_special(std::string_view type) const {
    return vocabulary ? vocabulary->find_special(type) : nullptr;
  }
  std::optional<std::int64_t> added_id(std::string_view text) const;
  /// The ids that end a text: the chat turn's, and the document's behind it where that is another. Null without an
  /// eos key.
  Json end_ids() const;
};

/// `vision_config` of a tower.
Json hf_vision_config(const VisionConfig& vision, bool moe);

/// config.json in the order of the published ones.
Json hf_config(const HfSource& source, Findings& findings);

/// preprocessor_config.json and video_preprocessor_config.json. Throws Error{malformed} when `mmproj` has no usable
/// clip.vision.image_mean or image_std.
void append_processor_files(const VisionConfig& vision, const Checkpoint& mmproj, std::vector<TextFile>& files,
                            Findings& findings);

}  // namespace regauge::qwen3_5
