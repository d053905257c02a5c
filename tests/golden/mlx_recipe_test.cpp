#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "convert/execute.h"
#include "convert/plan.h"
#include "convert/recipe/recipe.h"
#include "formats/format.h"
#include "models/architecture.h"
#include "tests/support/golden.h"

// BF16 to MLX by presets, held against directories that MLX itself quantized from the same BF16 model.

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::ScratchDir;

struct Case {
  std::string preset;
  std::string golden;
};

class MlxPreset : public ::testing::TestWithParam<Case> {};

std::vector<std::byte> bytes_of(const Checkpoint& checkpoint, const StoredArray& array) {
  return checkpoint.files[array.file].file->read_range(array.offset, array.bytes);
}

/// The quantization section, its keys in no order.
nlohmann::json settings_of(const Checkpoint& checkpoint) {
  return nlohmann::json::parse(find(*checkpoint.config, "quantization")->dump());
}

TEST_P(MlxPreset, GivesTheArraysAndSettingsThatMlxGave) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(from, "qwen35_family/hf-bf16");
  REGAUGE_FULL_GOLDEN_OR_SKIP(golden, "qwen35_family/" + GetParam().golden);
  const ScratchDir scratch;
  const Checkpoint source = open_checkpoint(from);
  const auto architecture = recognise(source);
  ConvertOptions options;
  options.format = "mlx";
  options.recipe = std::make_shared<const Recipe>(preset(GetParam().preset));
  execute(plan_conversion(source, architecture.get(), scratch / "made", options), source, options);

  const Checkpoint made = open_checkpoint(scratch / "made");
  const Checkpoint wanted = open_checkpoint(golden);
  EXPECT_EQ(settings_of(made), settings_of(wanted));
  for (const StoredArray& array : wanted.arrays) {
    // mlx-lm rounds these F32 vectors to BF16, which nobody asked for here.
    if (array.name.ends_with("linear_attn.norm.weight")) continue;
    const StoredArray* found = made.find_array(array.name);
    ASSERT_NE(found, nullptr) << array.name;
    EXPECT_EQ(element_name(*found), element_name(array)) << array.name;
    EXPECT_EQ(found->shape, array.shape) << array.name;
    EXPECT_TRUE(bytes_of(made, *found) == bytes_of(wanted, array)) << array.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Presets, MlxPreset,
                         ::testing::Values(Case{"mlx-4bit", "mlx-4bit"}, Case{"proposal-c", "mlx-8865"}),
                         [](const auto& tested) {
                           return tested.param.golden == "mlx-4bit" ? std::string("Uniform") : std::string("Mixed");
                         });

TEST(Like, TakesTheLayoutOfAnotherCheckpointInWhateverFormat) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(from, "qwen35_family/hf-bf16");
  REGAUGE_FULL_GOLDEN_OR_SKIP(like, "qwen35_family/mlx-8865");
  const Checkpoint other = open_checkpoint(like);
  const ScratchDir scratch;
  const Checkpoint source = open_checkpoint(from);
  const auto architecture = recognise(source);
  ConvertOptions options;
  options.recipe = std::make_shared<const Recipe>(layout_of(other, recognise(other).get()));

  options.format = "mlx";
  const Plan mlx = plan_conversion(source, architecture.get(), scratch / "made", options);
  std::size_t quantized = 0;
  for (const Step& step : mlx.outputs.front().steps) {
    const Tensor* theirs = other.find(step.name);
    if (theirs == nullptr || !is_quantized(theirs->encoding)) continue;
    EXPECT_EQ(step.encoding, to_string(theirs->encoding)) << step.name;
    ++quantized;
  }
  EXPECT_EQ(quantized, 33U);

  // 8, 6 and 5 bits in the words of GGUF.
  options.format = "gguf";
  const Plan gguf = plan_conversion(source, architecture.get(), scratch / "made.gguf", options);
  const std::map<std::string, std::string> words{
      {"token_embd.weight", "Q8_0"}, {"blk.0.attn_qkv.weight", "Q6_K"}, {"blk.0.ffn_up.weight", "Q5_K"}};
  std::map<std::string, std::string> found;
  for (const Step& step : gguf.outputs.front().steps) {
    if (words.contains(step.name)) found[step.name] = step.encoding;
  }
  EXPECT_EQ(found, words);
}

}  // namespace
}  // namespace regauge
