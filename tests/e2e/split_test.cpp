#include <memory>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "formats/format.h"
#include "tests/support/command.h"
#include "tests/support/golden.h"
#include "tests/support/oracle.h"
#include "tests/support/rewrite.h"

namespace regauge {
namespace {

/// What real llama.cpp says of a model's logits against the expected ones.
nlohmann::json logits_of(const std::string& model, const std::string& expected) {
  const auto run = testing::run_command({"python3", std::string(REGAUGE_SOURCE_DIR) + "/tests/support/llama_logits.py",
                                         "logits", model, "--expected", expected, "--max-diff", "0.3", "--mtp"});
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
  return nlohmann::json::parse(run.out, nullptr, false);
}

TEST(SplitGguf, LlamaCppComputesFromTheShardsWhatItComputesFromTheWhole) {
  REGAUGE_GOLDEN_OR_SKIP(path, "qwen35_family/hf-bf16.gguf");
  REGAUGE_GOLDEN_OR_SKIP(expected, "qwen35_family/hf-bf16.expected.safetensors");
  REGAUGE_ORACLE_OR_SKIP(oracle);
  RecordProperty("ggml", oracle.version());
  const testing::ScratchDir scratch;
  const Checkpoint whole = open_checkpoint(path);
  const auto writer = find_format("gguf")->create(scratch / "m.gguf", {.shard_bytes = 2'000'000});
  testing::fill(*writer, whole, whole.metadata);
  writer->finish();
  const nlohmann::json of_shards = logits_of((scratch / "m-00001-of-00003.gguf").native(), expected);
  const nlohmann::json of_whole = logits_of(path, expected);
  ASSERT_TRUE(of_shards.is_object() && of_shards.contains("max_abs_diff"));
  EXPECT_EQ(of_shards["max_abs_diff"], of_whole["max_abs_diff"]);
  EXPECT_EQ(of_shards["mtp"]["max_abs_diff"], of_whole["mtp"]["max_abs_diff"]);
}

}  // namespace
}  // namespace regauge
