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

TEST_F(DoctorGptq, AGroupSizeThatTheShapesContradictIsPutRight) {
  const Path model = gptq();
  patch_quantization(model, [](Json& section) { section["group_size"] = section["group_size"] == 64 ? 32 : 64; });
  expect_mended(model, "gptq-group-mismatch");
}

TEST_F(DoctorGptq, AHeadThatIsCalledQuantizedAndIsDenseIsCalledDense) {
  const Path model = gptq();
  patch_quantization(model, [](Json& section) { section["lm_head"] = true; });
  expect_mended(model, "gptq-head-dense");
  EXPECT_EQ(Json::parse(testing::read_text(scratch() / "model-mended/quantize_config.json"))["lm_head"], false);
}

TEST_F(DoctorGptq, WithoutAConfigOneIsMadeOfTheShapes) {
  const Path model = gptq();
  std::filesystem::remove(model / "quantize_config.json");
  patch_json(model / "config.json", [](Json& config) { config.erase("quantization_config"); });
  expect_mended(model, "gptq-config-missing");
  EXPECT_EQ(Json::parse(testing::read_text(scratch() / "model-mended/quantize_config.json"))["bits"], 4);
}

TEST_F(DoctorGptq, PlanarWordsUnderAnotherFormatsNameAreNamedAsTheyAre) {
  const Path model = scratch() / "model";
  run({"convert", testing::sample_path("qwen35-gptq-int4").string(), model.string(), "--to", "gptq", "--drop", "mtp",
       "--layout", "planar", "--quiet"});
  patch_quantization(model, [](Json& section) {
    for (const char* key : {"format", "checkpoint_format"}) section[key] = "gptq";
    // A rule that says 5 bits, of a module that is not there, makes everything planar all the same.
    section["dynamic"] = {{"+:.*\\.down_proj$", {{"bits", 4}}}, {"+:.*\\.none$", {{"bits", 5}}}};
  });
  const Diagnosis diagnosis = diagnose(model);
  EXPECT_EQ(faults(diagnosis), (std::vector<std::string>{"gptq-format-planar", "gptq-rule-unused"}));
  std::vector<std::string> words = find(diagnosis, "gptq-format-planar")->cures.at(0).command;
  words.erase(words.begin());
  run(words);
  EXPECT_EQ(faults(Path(words[2])), std::vector<std::string>{});
  EXPECT_EQ(Json::parse(testing::read_text(Path(words[2]) / "quantize_config.json"))["format"], "gptq_p");
}

class DoctorTwoWidths : public DoctorGptq {
 protected:
  Path two_widths() {
    const Path model = scratch() / "model";
    run({"convert", testing::sample_path("qwen35-gptq-int4").string(), model.string(), "--to", "gptq", "--drop", "mtp",
         "--recipe", "int8-attention-int4", "--quiet"});
    EXPECT_EQ(faults(model), std::vector<std::string>{});
    return model;
  }
};

TEST_F(DoctorTwoWidths, ZerosOfTwoConventionsAreStoredByOne) {
  const Path model = two_widths();
  SafetensorsPatch patch(model / "model.safetensors");
  std::size_t changed = 0;
  for (auto* array : patch.ending(".qzeros")) {
    if (array->bytes.at(0) != std::byte{127}) continue;  // 8 bits, stored minus one
    for (std::byte& zero : array->bytes) zero = std::byte{128};
    ++changed;
  }
  ASSERT_GT(changed, 0U);
  patch.save(model / "model.safetensors");
  expect_mended(model, "gptq-zeros-mixed");
  SafetensorsPatch mended(scratch() / "model-mended/model.safetensors");
  for (auto* array : mended.ending(".qzeros"))
    EXPECT_TRUE(array->bytes.at(0) == std::byte{127} || array->bytes.at(0) == std::byte{0x77}) << array->name;
}

TEST_F(DoctorTwoWidths, PartsOfAFusedMatrixInTwoWidthsGetTheWiderOne) {
  const Path model = scratch() / "model";
  run({"convert", testing::sample_path("qwen35-gptq-int4").string(), model.string(), "--to", "gptq", "--drop", "mtp",
       "--recipe", "int4-g128", "--tensor-type", "k_proj=int8-g128", "--quiet"});
  const Diagnosis diagnosis = diagnose(model);
  EXPECT_NE(find(diagnosis, "fusion-mixed")->finding.message.find("k_proj u8 g128"), std::string::npos)
      << find(diagnosis, "fusion-mixed")->finding.message;
  expect_mended(model, "fusion-mixed");
  // The wider one keeps its codes, and what is not of that matrix its own.
  SafetensorsPatch before(model / "model.safetensors");
  SafetensorsPatch after(scratch() / "model-mended/model.safetensors");
  const std::string layer = "model.language_model.layers.3.";
  for (const char* module : {"self_attn.k_proj", "self_attn.o_proj", "mlp.up_proj"}) {
    const std::string name = layer + module + ".qweight";
    EXPECT_EQ(after.array(name).bytes, before.array(name).bytes) << name;
  }
  EXPECT_EQ(after.array(layer + "self_attn.q_proj.qweight").shape[0],
            2 * before.array(layer + "self_attn.q_proj.qweight").shape[0]);
}

TEST_F(DoctorTwoWidths, APartOfAFusedMatrixThatIsDenseLeavesTheOthersDense) {
  const Path model = scratch() / "model";
  run({"convert", testing::sample_path("qwen35-gptq-int4").string(), model.string(), "--to", "gptq", "--drop", "mtp",
       "--tensor-type", "layers.1.mlp.gate_proj=bf16", "--quiet"});
  const Diagnosis diagnosis = diagnose(model);
  ASSERT_NE(find(diagnosis, "fusion-mixed"), nullptr);
  std::vector<std::string> words = find(diagnosis, "fusion-mixed")->cures.at(0).command;
  words.erase(words.begin());
  run(words);
  EXPECT_EQ(faults(Path(words[2])), std::vector<std::string>{});
}

TEST_F(DoctorGptq, ActOrderThatARuleDeclaresIsDeclared) {
  const Path model = gptq();
  SafetensorsPatch patch(model / "model.safetensors");
  for (auto* array : patch.ending(".mlp.down_proj.g_idx"))
    std::swap_ranges(array->bytes.begin(), array->bytes.begin() + 4, array->bytes.end() - 4);
  patch.save(model / "model.safetensors");
  EXPECT_EQ(faults(model), std::vector<std::string>{"act-order-undeclared"});
  patch_quantization(model,
                     [](Json& section) { section["dynamic"]["+:.*\\.mlp\\.down_proj$"] = {{"desc_act", true}}; });
  EXPECT_EQ(faults(model), std::vector<std::string>{});
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
