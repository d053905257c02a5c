#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "convert/adapt.h"

namespace regauge {

/// A key of the metadata or of a file beside the weights, or a whole such file.
struct KeyDiff {
  std::string where;                 ///< "metadata", "config.json", "tokenizer.json"
  std::string key;                   ///< dotted; empty when it is the whole file
  std::optional<std::string> first;  ///< its value, shortened; nothing when it is absent
  std::optional<std::string> second;
  bool counted = true;  ///< false: about packaging or storage, not about the model
};

/// Compares what is not weights. Two directories: config.json, tokenizer and other files, JSON key by key. Two GGUF files: key
/// by key. One of each: the keys that a GGUF file made from the directory would have. What cannot be compared is
/// appended to `unread`.
std::vector<KeyDiff> diff_keys(std::span<const OpenedPath> first, std::span<const OpenedPath> second,
                               int first_mtp_layers, int second_mtp_layers, std::vector<std::string>& unread);

}  // namespace regauge
