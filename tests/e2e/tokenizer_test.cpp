#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "tests/support/command.h"
#include "tests/support/golden.h"
#include "tests/support/oracle.h"

// The tokenizer keys that a conversion writes, judged by what real llama.cpp makes of text with them.

namespace regauge {
namespace {

using testing::run_command;
using testing::ScratchDir;

TEST(TokenizerInLlama, GivesTheIdsThatHuggingFaceGives) {
  REGAUGE_GOLDEN_OR_SKIP(source, "qwen35_family/gptq-int4-g128-noact");
  REGAUGE_GOLDEN_OR_SKIP(tokenize, "qwen35_family/tokenize.json");
  REGAUGE_ORACLE_OR_SKIP(oracle);
  RecordProperty("ggml", oracle.version());
  const ScratchDir scratch;
  const std::string model = scratch / "model.gguf";
  ASSERT_EQ(run_command({REGAUGE_CLI, "convert", source, model, "--quiet"}).exit_code, 0);

  const auto bytes = testing::read_whole_file(tokenize);
  const auto golden = nlohmann::json::parse(text_of(bytes));
  std::vector<std::string> command{"python3", std::string(REGAUGE_SOURCE_DIR) + "/tests/support/llama_logits.py",
                                   "tokenize", model, "--"};
  for (const auto& test : golden["tests"]) command.push_back(test["text"].get<std::string>());
  const auto run = run_command(command);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto report = nlohmann::json::parse(run.out);
  ASSERT_EQ(report["texts"].size(), golden["tests"].size());
  // llama.cpp does not normalise to NFC; the golden file has the ids for that too, confirmed for every string.
  for (std::size_t i = 0; i < golden["tests"].size(); ++i) {
    EXPECT_EQ(report["texts"][i]["ids"], golden["tests"][i]["ids_without_nfc"]) << golden["tests"][i]["text"];
  }
}

}  // namespace
}  // namespace regauge
