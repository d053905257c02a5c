// Norms, convolutions and the F32 pair as careless tools leave them.
#include "tests/doctor/ward.h"

namespace regauge {
namespace {

using testing::GgufPatch;
using testing::SafetensorsPatch;

class DoctorConventions : public testing::DoctorWard {
 protected:
  static bool is_offset_norm(const std::string& name) {
    return name.ends_with("norm.weight") && name.find("linear_attn.norm") == std::string::npos &&
           name.find("visual") == std::string::npos && name.find("mtp.") == std::string::npos;
  }
  static void shift_norms(const Path& file, float by) {
    SafetensorsPatch patch(file);
    for (auto* array : patch.ending("norm.weight")) {
      if (!is_offset_norm(array->name)) continue;
      std::vector<float> values =
          array->dtype == "F32" ? testing::from_f32(array->bytes) : testing::from_bf16(array->bytes);
      for (float& value : values) value += by;
      array->bytes = array->dtype == "F32" ? testing::to_f32(values) : testing::to_bf16(values);
    }
    patch.save(file);
  }
};

TEST_F(DoctorConventions, NormsThatHaveTheirOneInAHuggingFaceDirectoryAreFoundByTheirMeans) {
  const Path model = gptq();
  shift_norms(model / "model.safetensors", 1);
  expect_hopeless(model, "norms-shifted-twice");
  const Diagnosis diagnosis = diagnose(model);
  EXPECT_NE(find(diagnosis, "norms-shifted-twice")->finding.message.find("11 norms"), std::string::npos);
}

TEST_F(DoctorConventions, NormsShiftedTwiceInAnMlxDirectoryAreFound) {
  const Path model = converted("qwen35-gptq-int4", "model", {"--to", "mlx", "--drop", "vision"});
  shift_norms(model / "model.safetensors", 1);
  expect_hopeless(model, "norms-shifted-twice");
}

TEST_F(DoctorConventions, NormsNeverShiftedInAnMlxDirectoryAreFound) {
  const Path model = converted("qwen35-gptq-int4", "model", {"--to", "mlx", "--drop", "vision"});
  shift_norms(model / "model.safetensors", -1);
  expect_hopeless(model, "norms-not-shifted");
}

TEST_F(DoctorConventions, NormsNeverShiftedInAGgufAreMadeAnewFromTheOriginal) {
  const Path path = converted("qwen35-gptq-int4", "model.gguf", {});
  GgufPatch file(path);
  for (auto& tensor : file.tensors) {
    if (!tensor.name.ends_with("_norm.weight") || tensor.name.find("ssm_norm") != std::string::npos) continue;
    std::vector<float> values = testing::from_f32(tensor.bytes);
    for (float& value : values) value -= 1;
    tensor.bytes = testing::to_f32(values);
  }
  file.save(path);
  expect_mended(path, "norms-not-shifted", 0, testing::sample_path("qwen35-gptq-int4"));
}

TEST_F(DoctorConventions, ConvolutionsOfTwoLayoutsAreMadeAlike) {
  const Path model = gptq();
  SafetensorsPatch patch(model / "model.safetensors");
  auto convolutions = patch.ending("layers.2.linear_attn.conv1d.weight");
  ASSERT_EQ(convolutions.size(), 1U);
  std::swap(convolutions.front()->shape[1], convolutions.front()->shape[2]);
  patch.save(model / "model.safetensors");
  expect_mended(model, "conv-layout-mixed");
}

TEST_F(DoctorConventions, ConvolutionsOfTwoLayoutsAreMadeAlikeInAnMlxDirectory) {
  const Path model = converted("qwen35-gptq-int4", "model", {"--to", "mlx", "--drop", "vision"});
  SafetensorsPatch patch(model / "model.safetensors");
  auto convolutions = patch.ending("layers.2.linear_attn.conv1d.weight");
  ASSERT_EQ(convolutions.size(), 1U);
  std::swap(convolutions.front()->shape[1], convolutions.front()->shape[2]);
  patch.save(model / "model.safetensors");
  expect_mended(model, "conv-layout-mixed");
}

TEST_F(DoctorConventions, ACastOfSomeOfTheF32PairIsAFaultAndOfAllIsARemark) {
  const Path model = gptq();
  SafetensorsPatch patch(model / "model.safetensors");
  const auto cast = [](SafetensorsPatch::Array& array) {
    if (array.dtype != "F32") return;
    array.bytes = testing::to_bf16(testing::from_f32(array.bytes));
    array.dtype = "BF16";
  };
  cast(*patch.ending("layers.0.linear_attn.A_log").at(0));
  patch.save(model / "model.safetensors");
  expect_hopeless(model, "f32-pair-half-cast");
  for (const char* suffix : {"linear_attn.A_log", "linear_attn.norm.weight"}) {
    for (auto* array : patch.ending(suffix)) cast(*array);
  }
  patch.save(model / "model.safetensors");
  const Diagnosis diagnosis = diagnose(model);
  EXPECT_TRUE(diagnosis.healthy());
  EXPECT_TRUE(std::ranges::find(diagnosis.remarks, "f32-pair-cast", &Finding::code) != diagnosis.remarks.end());
}

}  // namespace
}  // namespace regauge
