#include "convert/gguf_keys.h"

#include <gtest/gtest.h>

namespace regauge {
namespace {

// As llama.cpp's converter titles a model without a card. Source: ggml-org/llama.cpp gguf-py/gguf/metadata.py, id_to_title.
TEST(TitleFromPath, CapitalisesLowerCaseWordsAndKeepsTheRest) {
  EXPECT_EQ(title_from_path("/models/qwen35-gptq-int4"), "Qwen35 Gptq Int4");
  EXPECT_EQ(title_from_path("/models/Qwen3.5-27B-GPTQ/"), "Qwen3.5 27B GPTQ");
}

PlannedOutput output_of(std::vector<std::pair<std::variant<DType, BlockType>, Shape>> arrays) {
  PlannedOutput output;
  for (auto& [element, shape] : arrays) {
    Step step;
    step.shape = shape;
    step.arrays.push_back({{"t", element, std::move(shape)}, BandLayout::rows});
    output.steps.push_back(std::move(step));
  }
  return output;
}

TEST(GgufFileType, IsThatOfTheMostMatrices) {
  EXPECT_EQ(gguf_file_type(output_of(
                {{BlockType::q4_0, Shape{32, 32}}, {BlockType::q4_0, Shape{32, 32}}, {DType::bf16, Shape{9999, 32}}})),
            2U);
  EXPECT_EQ(gguf_file_type(output_of({{DType::bf16, Shape{4, 4}}, {DType::f32, Shape{4}}, {DType::f32, Shape{4}}})),
            32U)
      << "vectors do not vote";
  EXPECT_EQ(gguf_file_type(output_of({})), 0U);
}

TEST(OutputPath, PutsTheVisionTowerBesideTheModel) {
  EXPECT_EQ(output_path("d/m.gguf", OutputKind::model), "d/m.gguf");
  EXPECT_EQ(output_path("d/m.gguf", OutputKind::mmproj), "d/mmproj-m.gguf");
  EXPECT_EQ(output_path("m.gguf", OutputKind::mtp), "mtp-m.gguf");
  EXPECT_EQ(output_path("d/m.gguf", OutputKind::adapter), "d/m-LoRA.gguf");
}

}  // namespace
}  // namespace regauge
