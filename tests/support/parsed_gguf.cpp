#include "tests/support/parsed_gguf.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "ir/ggml_type.h"
#include "tests/support/command.h"
#include "tests/support/oracle.h"

namespace regauge::testing {

bool has_huggingface_parser() {
  const auto modules = find_node_modules();
  return modules && std::filesystem::exists(*modules / "@huggingface/gguf");
}

std::optional<nlohmann::json> parse_with_huggingface(const std::filesystem::path& file) {
  const auto run = run_command({"node", std::string(REGAUGE_SOURCE_DIR) + "/tests/support/parse_gguf.mjs",
                                std::filesystem::absolute(*find_node_modules()), file});
  if (run.exit_code == 0) return nlohmann::json::parse(run.out);
  ADD_FAILURE() << file << ": " << run.err;
  return std::nullopt;
}

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

}  // namespace regauge::testing
