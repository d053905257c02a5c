// GPTQ checkpoints whose labels and rules say something else than their tensors.
#include <bit>

#include "tests/doctor/ward.h"

namespace regauge {
namespace {

using Json = nlohmann::ordered_json;
using testing::patch_json;
using testing::SafetensorsPatch;

class DoctorGptq : public testing::DoctorWard {
 protected:
  static void patch_quantization(const Path& model, const std::function<void(Json&)>& change) {
    patch_json(model / "quantize_config.json", change);
    patch_json(model / "config.json", [&](Json& config) { change(config["quantization_config"]); });
  }
  /// The healthy model with this `dynamic`.
  Path with_rules(const Json& rules) {
    const Path model = gptq();
    patch_quantization(model, [&](Json& section) { section["dynamic"] = rules; });
    return model;
  }
};

TEST_F(DoctorGptq, ZerosLabelledV1AndStoredV2AreStoredAsLabelled) {
  const Path model = gptq();
  SafetensorsPatch patch(model / "model.safetensors");
  for (auto* array : patch.ending(".qzeros")) {
    for (std::size_t i = 0; i < array->bytes.size(); i += 4) {
      std::uint32_t word = 0;
      std::memcpy(&word, &array->bytes[i], 4);
      word += 0x11111111;  // 7 becomes 8 in every field
      std::memcpy(&array->bytes[i], &word, 4);
    }
  }
  patch.save(model / "model.safetensors");
  expect_mended(model, "gptq-zeros-mislabelled");
  SafetensorsPatch mended(scratch() / "model-mended/model.safetensors");
  EXPECT_EQ(mended.ending(".qzeros").at(0)->bytes.at(0), std::byte{0x77});
}

TEST_F(DoctorGptq, ARuleThatMatchesNothingGoesAway) {
  expect_mended(with_rules({{"+:.*\\.experts\\..*", {{"bits", 4}}}}), "gptq-rule-unused");
}

TEST_F(DoctorGptq, ARuleThatExcludesAQuantizedModuleGoesAway) {
  const Path model = with_rules({{"-:.*\\.mlp\\..*", Json::object()}});
  expect_mended(model, "gptq-excluded-quantized");
}

TEST_F(DoctorGptq, ARuleOfOtherBitsThanTheTensorsHaveIsPutRight) {
  expect_mended(with_rules({{"+:.*\\.mlp\\..*", {{"bits", 8}}}}), "gptq-bits-mismatch");
}

TEST_F(DoctorGptq, RulesThatMissFusedNamesAreWrittenToMatchThem) {
  const Path model = with_rules({{"+:.*\\.(q|k|v)_proj$", {{"desc_act", true}}}});
  expect_mended(model, "gptq-rules-miss-fused");
}

TEST_F(DoctorGptq, ADenseModuleThatNoRuleExcludesIsExcluded) {
  const Path model = gptq();
  SafetensorsPatch patch(model / "model.safetensors");
  const std::string module = "model.language_model.layers.1.mlp.down_proj";
  const std::vector<std::int64_t> words = patch.array(module + ".qweight").shape;
  const std::int64_t inputs = words[0] * 8;
  patch.erase([&](const std::string& name) { return name.starts_with(module + "."); });
  patch.arrays.push_back({module + ".weight",
                          "BF16",
                          {words[1], inputs},
                          testing::Bytes(static_cast<std::size_t>(words[1] * inputs * 2))});
  patch.save(model / "model.safetensors");
  expect_mended(model, "gptq-dense-not-excluded");
}

TEST_F(DoctorGptq, ActOrderThatIsNotDeclaredIsDeclared) {
  const Path model = gptq();
  SafetensorsPatch patch(model / "model.safetensors");
  for (auto* array : patch.ending(".g_idx")) {
    // First and last column change places, and so their groups.
    std::swap_ranges(array->bytes.begin(), array->bytes.begin() + 4, array->bytes.end() - 4);
  }
  patch.save(model / "model.safetensors");
  expect_mended(model, "act-order-undeclared");
}

TEST_F(DoctorGptq, DeclaredActOrderIsANoteWithAWayToLoadersThatCannot) {
  const Path model = gptq();
  SafetensorsPatch patch(model / "model.safetensors");
  for (auto* array : patch.ending(".g_idx")) {
    std::swap_ranges(array->bytes.begin(), array->bytes.begin() + 4, array->bytes.end() - 4);
  }
  patch.save(model / "model.safetensors");
  patch_quantization(model, [](Json& section) { section["desc_act"] = true; });
  const Diagnosis diagnosis = diagnose(model);
  EXPECT_TRUE(diagnosis.healthy());
  const Ailment* note = find(diagnosis, "act-order");
  ASSERT_NE(note, nullptr);
  EXPECT_EQ(note->breaks, (std::vector{Loader::mlx_lm, Loader::llama_cpp}));
  std::vector<std::string> words = note->cures.at(0).command;
  words.erase(words.begin());
  words.emplace_back("--quiet");
  run(words);
  EXPECT_EQ(faults(Path(words[2])), std::vector<std::string>{});
}

TEST_F(DoctorGptq, AnInfiniteScaleIsFound) {
  const Path model = gptq();
  SafetensorsPatch patch(model / "model.safetensors");
  auto& scales = patch.ending(".scales").at(0)->bytes;
  scales[0] = std::byte{0x00};
  scales[1] = std::byte{0x7C};
  patch.save(model / "model.safetensors");
  const Diagnosis diagnosis = diagnose(model);
  EXPECT_EQ(faults(diagnosis), std::vector<std::string>{"not-finite"});
}

}  // namespace
}  // namespace regauge
