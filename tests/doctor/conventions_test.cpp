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
  static bool is_mtp_norm(const std::string& name) {
    return name.starts_with("mtp.") && name.find("norm") != std::string::npos;
  }
  static void shift_norms(const Path& file, float by) { shift(file, by, is_offset_norm); }
  static void shift_norms_of_mtp(const Path& file, float by) { shift(file, by, is_mtp_norm); }
  static void shift(const Path& file, float by, bool (*chosen)(const std::string&)) {
    SafetensorsPatch patch(file);
    for (auto* array : patch.ending(".weight")) {
      if (!chosen(array->name)) continue;
      std::vector<float> values =
          array->dtype == "F32" ? testing::from_f32(array->bytes) : testing::from_bf16(array->bytes);
      for (float& value : values) value += by;
      array->bytes = array->dtype == "F32" ? testing::to_f32(values) : testing::to_bf16(values);
    }
    patch.save(file);
  }
};

TEST_F(DoctorConventions, NormsThatHaveTheirOneInAHuggingFaceDirectoryAreFoundByTheirMeansAndLoseIt) {
  const Path model = gptq();
  shift_norms(model / "model.safetensors", 1);
  const Diagnosis diagnosis = diagnose(model);
  EXPECT_NE(find(diagnosis, "norms-shifted-twice")->finding.message.find("11 norms"), std::string::npos);
  expect_mended(model, "norms-shifted-twice");
}

TEST_F(DoctorConventions, NormsShiftedTwiceInAnMlxDirectoryAreFound) {
  const Path model = converted("qwen35-gptq-int4", "model", {"--to", "mlx", "--drop", "vision"});
  shift_norms(model / "model.safetensors", 1);
  expect_hopeless(model, "norms-shifted-twice");
}

TEST_F(DoctorConventions, NormsNeverShiftedInAnMlxDirectoryAreFoundAndGetTheirOne) {
  const Path model = converted("qwen35-gptq-int4", "model", {"--to", "mlx", "--drop", "vision"});
  shift_norms(model / "model.safetensors", -1);
  expect_mended(model, "norms-not-shifted");
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

TEST_F(DoctorConventions, ConvolutionsThatAreAllMlxsAreBroughtBackWithTheirNorms) {
  const Path model = copied("qwen35-bf16-tiny");
  for (const char* shard :
       {"model.safetensors-00001-of-00002.safetensors", "model.safetensors-00002-of-00002.safetensors"}) {
    SafetensorsPatch patch(model / shard);
    for (auto* array : patch.ending("linear_attn.conv1d.weight")) std::swap(array->shape[1], array->shape[2]);
    patch.save(model / shard);
    shift_norms(model / shard, 1);
  }
  expect_mended(model, "conv-layout-mlx");
}

/// Loaders convert both or neither; a rewriting that turned the axes alone would leave norms that nobody shifts.
TEST_F(DoctorConventions, AnMlxDirectoryOfRawNormsIsWrittenAnewWithNormsAndConvolutionsConverted) {
  const Path model = converted("qwen35-bf16-tiny", "model", {"--to", "mlx", "--drop", "vision,mtp"});
  SafetensorsPatch patch(model / "model.safetensors");
  for (auto* array : patch.ending("linear_attn.conv1d.weight")) std::swap(array->shape[1], array->shape[2]);
  patch.save(model / "model.safetensors");
  shift_norms(model / "model.safetensors", -1);
  ASSERT_EQ(faults(model), std::vector<std::string>{});
  run({"convert", model.string(), (scratch() / "anew").string(), "--to", "mlx", "--fresh", "--quiet"});
  EXPECT_EQ(faults(scratch() / "anew"), std::vector<std::string>{});
  SafetensorsPatch anew(scratch() / "anew/model.safetensors");
  for (auto* array : anew.ending("linear_attn.conv1d.weight")) EXPECT_EQ(array->shape[2], 1) << array->name;
  run({"diff", model.string(), (scratch() / "anew").string(), "--quiet"});
}

TEST_F(DoctorConventions, NormsOfTheMtpLayerAloneAreJudgedApart) {
  const Path model = copied("qwen35-bf16-tiny");
  for (const char* shard :
       {"model.safetensors-00001-of-00002.safetensors", "model.safetensors-00002-of-00002.safetensors"})
    shift_norms_of_mtp(model / shard, 1);
  EXPECT_NE(diagnose(model).ailments.front().finding.message.find("MTP"), std::string::npos);
  expect_mended(model, "norms-shifted-twice");
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
  const Ailment* note = find(diagnosis, "f32-pair-cast");
  ASSERT_NE(note, nullptr);
  EXPECT_EQ(note->finding.severity, Severity::note);
}

}  // namespace
}  // namespace regauge
