#include <algorithm>
#include <cctype>
#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "formats/format.h"
#include "models/architecture.h"
#include "tests/support/command.h"
#include "tests/support/golden.h"
#include "tests/support/oracle.h"

// Tokenizer files made anew from GGUF keys, judged by the ids that @huggingface/tokenizers makes of text with them.

namespace regauge {
namespace {

using testing::run_command;
using testing::ScratchDir;

nlohmann::json read_json(const std::filesystem::path& path) {
  const auto bytes = testing::read_whole_file(path);
  return nlohmann::json::parse(text_of(bytes));
}

/// Writes the tokenizer of a GGUF file as Hugging Face's files.
void rebuild(const std::filesystem::path& gguf, Dialect target, const ScratchDir& folder) {
  const Checkpoint checkpoint = open_checkpoint(gguf);
  HfFacts facts;
  facts.target = target;
  Findings findings;
  for (const TextFile& file : recognise(checkpoint)->hf_files(checkpoint, facts, findings)) {
    std::ofstream(folder / file.name, std::ios::binary) << file.text;
  }
}

class RebuiltTokenizer : public ::testing::TestWithParam<const char*> {};

TEST_P(RebuiltTokenizer, GivesHuggingFacesIdsForEveryString) {
  REGAUGE_GOLDEN_OR_SKIP(gguf, std::string("qwen35_family/") + GetParam());
  REGAUGE_GOLDEN_OR_SKIP(tokenize, "qwen35_family/tokenize.json");
  const auto modules = testing::find_node_modules();
  if (!modules || !std::filesystem::exists(*modules / "@huggingface/tokenizers")) {
    if (testing::oracle_is_obligatory()) FAIL() << "@huggingface/tokenizers is not installed";
    GTEST_SKIP() << "@huggingface/tokenizers not here: run ./dev oracle or set REGAUGE_NODE_MODULES";
  }
  const auto golden = read_json(tokenize);
  auto texts = nlohmann::json::array();
  for (const auto& test : golden["tests"]) texts.push_back(test["text"]);
  ASSERT_EQ(texts.size(), 39U);
  for (const Dialect target : {Dialect::hf, Dialect::mlx}) {
    const ScratchDir folder;
    rebuild(gguf, target, folder);
    std::ofstream(folder / "texts.json", std::ios::binary) << texts.dump();
    const auto run = run_command({"node", std::string(REGAUGE_SOURCE_DIR) + "/tests/support/tokenize.mjs",
                                  std::filesystem::absolute(*modules), folder.path(), folder / "texts.json"});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    const auto report = nlohmann::json::parse(run.out);
    ASSERT_EQ(report.size(), golden["tests"].size());
    for (std::size_t i = 0; i < report.size(); ++i) {
      EXPECT_EQ(report[i]["ids"], golden["tests"][i]["ids"]) << golden["tests"][i]["text"];
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Family, RebuiltTokenizer,
                         ::testing::Values("hf-bf16.gguf", "gptq-int4-g128-noact.gguf", "hf-bf16-q4_0.gguf"),
                         [](const auto& file) {
                           std::string name = file.param;
                           std::ranges::replace_if(name, [](char c) { return std::isalnum(c) == 0; }, '_');
                           return name;
                         });

}  // namespace
}  // namespace regauge
