#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "formats/format.h"
#include "formats/gguf/gguf.h"
#include "tests/support/command.h"
#include "tests/support/golden.h"
#include "tests/support/oracle.h"
#include "tests/support/pack.h"

// Files that we write, read by @huggingface/gguf.

namespace regauge {
namespace {

using testing::run_command;
using testing::ScratchDir;

void expect_same_reading(const Checkpoint& ours, const nlohmann::json& theirs) {
  EXPECT_EQ(theirs["version"], 3);
  EXPECT_EQ(theirs["data_offset"], ours.files.front().data_offset);
  std::vector<std::string> keys;
  for (const auto& [key, value] : ours.metadata.entries()) {
    keys.push_back(key);
    if (const auto* array = std::get_if<MetaArray>(&value)) {
      EXPECT_EQ(theirs["lengths"][key], array->size()) << key;
    } else if (const auto* text = std::get_if<std::string>(&value)) {
      EXPECT_EQ(theirs["scalars"][key], *text) << key;
    } else if (const auto* number = std::get_if<std::uint32_t>(&value)) {
      EXPECT_EQ(theirs["scalars"][key], *number) << key;
    }
  }
  EXPECT_EQ(theirs["key_names"], keys);
  ASSERT_EQ(theirs["tensors"].size(), ours.arrays.size());
  for (std::size_t i = 0; i < ours.arrays.size(); ++i) {
    const StoredArray& array = ours.arrays[i];
    const auto& seen = theirs["tensors"][i];
    EXPECT_EQ(seen["name"], array.name);
    EXPECT_EQ(seen["offset"], array.offset - ours.files.front().data_offset) << array.name;
    EXPECT_EQ(seen["shape"], (std::vector<std::int64_t>(array.shape.dims.rbegin(), array.shape.dims.rend())))
        << array.name;
    const auto* dtype = std::get_if<DType>(&array.element);
    const GgmlType& type = dtype != nullptr ? *ggml_type(*dtype) : ggml_type(std::get<BlockType>(array.element));
    EXPECT_EQ(seen["type"], type.id) << array.name;
  }
}

TEST(HuggingFaceParser, ReadsModelAndVisionFilesAsWeDo) {
  REGAUGE_GOLDEN_OR_SKIP(source, "qwen35_family/gptq-int4-g128-noact");
  const auto modules = testing::find_node_modules();
  if (!modules || !std::filesystem::exists(*modules / "@huggingface/gguf"))
    GTEST_SKIP() << "@huggingface/gguf is not installed";
  const ScratchDir scratch;
  ASSERT_EQ(run_command({REGAUGE_CLI, "convert", source, scratch / "model.gguf", "--quiet"}).exit_code, 0);
  for (const char* name : {"model.gguf", "mmproj-model.gguf"}) {
    const auto run = run_command({"node", std::string(REGAUGE_SOURCE_DIR) + "/tests/support/parse_gguf.mjs",
                                  std::filesystem::absolute(*modules), scratch / name});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    expect_same_reading(open_checkpoint(scratch / name), nlohmann::json::parse(run.out));
  }
}

TEST(HuggingFaceParser, ReadsContainersAsPlainGguf) {
  REGAUGE_GOLDEN_OR_SKIP(source, "qwen35_family/gptq-mixed-eora");
  const auto modules = testing::find_node_modules();
  if (!modules || !std::filesystem::exists(*modules / "@huggingface/gguf"))
    GTEST_SKIP() << "@huggingface/gguf is not installed";
  const ScratchDir scratch;
  for (const bool zstd : {false, true}) {
    const auto packed = scratch / (zstd ? "zstd.rg.gguf" : "raw.rg.gguf");
    testing::pack(open_checkpoint(source), packed, {.zstd = zstd});
    const auto run = run_command({"node", std::string(REGAUGE_SOURCE_DIR) + "/tests/support/parse_gguf.mjs",
                                  std::filesystem::absolute(*modules), packed});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    expect_same_reading(open_gguf(probe(packed)), nlohmann::json::parse(run.out));
  }
}

}  // namespace
}  // namespace regauge
