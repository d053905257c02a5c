#include <string>

#include <gtest/gtest.h>

#include "formats/format.h"
#include "formats/gguf/gguf.h"
#include "tests/support/command.h"
#include "tests/support/golden.h"
#include "tests/support/oracle.h"
#include "tests/support/pack.h"
#include "tests/support/parsed_gguf.h"

// Files that we write, read by @huggingface/gguf.

namespace regauge {
namespace {

using testing::run_command;
using testing::ScratchDir;

TEST(HuggingFaceParser, ReadsModelAndVisionFilesAsWeDo) {
  REGAUGE_GOLDEN_OR_SKIP(source, "qwen35_family/gptq-int4-g128-noact");
  REGAUGE_HUGGINGFACE_PARSER_OR_SKIP();
  const ScratchDir scratch;
  ASSERT_EQ(run_command({REGAUGE_CLI, "convert", source, scratch / "model.gguf", "--quiet"}).exit_code, 0);
  for (const char* name : {"model.gguf", "mmproj-model.gguf"}) {
    const auto read = testing::parse_with_huggingface(scratch / name);
    ASSERT_TRUE(read);
    testing::expect_same_reading(open_checkpoint(scratch / name), *read);
  }
}

TEST(HuggingFaceParser, ReadsContainersAsPlainGguf) {
  REGAUGE_GOLDEN_OR_SKIP(source, "qwen35_family/gptq-mixed-eora");
  REGAUGE_HUGGINGFACE_PARSER_OR_SKIP();
  const ScratchDir scratch;
  for (const bool zstd : {false, true}) {
    const auto packed = scratch / (zstd ? "zstd.rg.gguf" : "raw.rg.gguf");
    testing::pack(open_checkpoint(source), packed, {.zstd = zstd});
    const auto read = testing::parse_with_huggingface(packed);
    ASSERT_TRUE(read);
    testing::expect_same_reading(open_gguf(probe(packed)), *read);
  }
}

}  // namespace
}  // namespace regauge
