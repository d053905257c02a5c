#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace regauge::testing {

/// What tests/support/llama_logits.py is to do with a model in real llama.cpp.
struct LlamaRun {
  std::filesystem::path model;
  std::filesystem::path expected;      ///< with the logits to compare with, which names the prompt too
  std::string tensor = "logits";       ///< of `expected`; an MTP pass takes mtp_<it>
  bool mtp = false;                    ///< run the model's MTP block too
  std::filesystem::path draft = {};    ///< or the one of this file
  std::filesystem::path adapter = {};  ///< attached at scale 1
  std::filesystem::path save = {};     ///< where the logits go, in a form that `expected` takes
};

struct LlamaAnswer {
  /// 0 ran and is finite; 1 not finite, or of another shape than expected; 2 refused by the loader; 3 loaded and did
  /// not run; from 128 on ended by a signal, as by a failed assertion.
  int status = -1;
  std::optional<double> main;  ///< largest absolute difference from the expected logits
  std::optional<double> mtp;
  int positions = 0;
  int argmax_agrees = 0;  ///< at so many positions
  std::string log;
};

LlamaAnswer run_in_llama(const LlamaRun& run);

/// The ids that llama.cpp makes of each text with a model's own tokenizer keys, as JSON arrays; fewer when it fails.
std::vector<nlohmann::json> tokenize_in_llama(const std::filesystem::path& model,
                                              const std::vector<std::string>& texts);

}  // namespace regauge::testing
