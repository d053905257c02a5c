#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "models/hf_files.h"

// Looking into the files that are made of GGUF keys.
namespace regauge::testing {

inline const TextFile* find_file(const std::vector<TextFile>& files, std::string_view name) {
  const auto found = std::ranges::find(files, name, &TextFile::name);
  return found == files.end() ? nullptr : &*found;
}

inline std::string text_in(const std::vector<TextFile>& files, std::string_view name) {
  const TextFile* file = find_file(files, name);
  if (file == nullptr) ADD_FAILURE() << name << " was not made";
  return file == nullptr ? "" : file->text;
}

inline bool has_finding(const Findings& findings, std::string_view code, std::string_view tensor) {
  return std::ranges::any_of(findings, [&](const Finding& one) { return one.code == code && one.tensor == tensor; });
}

inline HfFacts hf_facts(int mtp_layers, const Checkpoint* vision = nullptr, Dialect target = Dialect::hf) {
  HfFacts facts;
  facts.mtp_layers = mtp_layers;
  facts.vision = vision;
  facts.target = target;
  return facts;
}

}  // namespace regauge::testing
