#pragma once

#include <filesystem>
#include <optional>

#include <nlohmann/json.hpp>

#include "ir/checkpoint.h"

namespace regauge::testing {

/// What @huggingface/gguf reads in a file (tests/support/parse_gguf.mjs); nothing when it refuses the file, which fails
/// the test. Call only where has_huggingface_parser().
std::optional<nlohmann::json> parse_with_huggingface(const std::filesystem::path& file);
bool has_huggingface_parser();

/// Expects that both read the same keys, tensors, shapes, types and offsets.
void expect_same_reading(const Checkpoint& ours, const nlohmann::json& theirs);

/// Skips the test visibly where the parser is not installed; fails it where CI=true.
#define REGAUGE_HUGGINGFACE_PARSER_OR_SKIP()                                                        \
  if (!::regauge::testing::has_huggingface_parser()) {                                              \
    if (::regauge::testing::oracle_is_obligatory()) FAIL() << "@huggingface/gguf is not installed"; \
    GTEST_SKIP() << "@huggingface/gguf is not here: run ./dev oracle or set REGAUGE_NODE_MODULES";  \
  }

}  // namespace regauge::testing
