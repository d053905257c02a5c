#include <algorithm>
#include <memory>

#include <gtest/gtest.h>

#include "inspect/render_json.h"
#include "inspect/render_text.h"
#include "inspect/report.h"
#include "tests/support/golden.h"
#include "tests/unit/inspect/checkpoint_builder.h"

namespace regauge::inspect {
namespace {

using testing::CheckpointBuilder;

/// Renderers name files, so the checkpoint gets one.
class Render : public ::testing::Test {
 protected:
  Render() {
    testing::write_whole_file(folder_ / "w.safetensors", std::vector<std::byte>(100));
    builder_.checkpoint().files.push_back(
        {"w.safetensors", std::make_shared<File>(File::open(folder_ / "w.safetensors")), 8});
  }

  Json json() {
    const Report report = examine(builder_.checkpoint());
    return Json::parse(render_json(builder_.checkpoint(), report, {}));
  }

  testing::ScratchDir folder_;
  CheckpointBuilder builder_;
};

TEST_F(Render, JsonHasTheSchemaAndTheNumbers) {
  builder_.gptq("m", 64, 256, {}).dense("n", DType::bf16, {64});
  const Json document = json();
  EXPECT_EQ(document["schema"], "regauge.inspect/1");
  EXPECT_EQ(document["totals"]["quantized"]["parameters"], 16384);
  EXPECT_EQ(document["totals"]["everything"]["parameters"], 16384 + 64);
  EXPECT_EQ(document["tensors"].size(), 2U);
  EXPECT_EQ(document["tensors"][0]["arrays"].size(), 4U);
  EXPECT_EQ(document["file_bytes"], 100);
  EXPECT_TRUE(document["architecture"].is_null());
}

TEST_F(Render, JsonWithoutParametersHasNullForAverages) {
  EXPECT_TRUE(json()["totals"]["everything"]["bits_per_weight"].is_null());
}

TEST_F(Render, NamesThatAreNotUtf8AreEscapedInJson) {
  builder_.dense("w\xFFx", DType::f32, {2});
  EXPECT_EQ(json()["tensors"][0]["name"], "w\\xffx");
}

TEST_F(Render, NamesCannotMoveTheCursor) {
  builder_.dense("evil\x1b[2J\nname", DType::f32, {2});
  builder_.checkpoint().path = "dir\x1b]0;x";
  const Report report = examine(builder_.checkpoint());
  for (const std::string& text : {render_summary(report, {}), render_tensors(builder_.checkpoint(), report, ""),
                                  render_map(make_map(builder_.checkpoint(), report.catalog, nullptr), {}),
                                  render_stats(builder_.checkpoint(), measure(builder_.checkpoint(), 0))}) {
    EXPECT_EQ(text.find('\x1b'), std::string::npos) << text;
    EXPECT_EQ(text.find("\nname"), std::string::npos) << text;
  }
}

TEST_F(Render, AThousandAlikeFindingsTakeFourLines) {
  for (int i = 0; i < 1000; ++i) {
    builder_.checkpoint().findings.push_back({Severity::warning, "same-thing", "again", {}, "t" + std::to_string(i)});
  }
  builder_.checkpoint().findings.push_back({Severity::fault, "worse", "this is worse", {}, {}});
  const std::string text = render_summary(examine(builder_.checkpoint()), {});
  EXPECT_NE(text.find("997 more"), std::string::npos) << text;
  EXPECT_LT(text.find("this is worse"), text.find("again"));
}

TEST_F(Render, TheListOfTensorsEndsInTheirSum) {
  builder_.dense("a.w", DType::f32, {2, 3}).dense("b.w", DType::f32, {4}).dense("c", DType::f32, {1});
  const Report report = examine(builder_.checkpoint());
  const std::string text = render_tensors(builder_.checkpoint(), report, "*.w");
  EXPECT_NE(text.find("2 tensors, 10 parameters, 40 bytes"), std::string::npos) << text;
  EXPECT_EQ(count_matches(builder_.checkpoint(), "*.w"), 2U);
  EXPECT_EQ(count_matches(builder_.checkpoint(), "nothing"), 0U);
}

TEST_F(Render, AConfigurationThatCannotBeUsedIsAFaultAndTheTensorsAreShown) {
  builder_.dense("model.language_model.layers.0.input_layernorm.weight", DType::bf16, {64});
  builder_.checkpoint().config = Json{{"model_type", "qwen3_5"}, {"text_config", {{"num_hidden_layers", 1000000000}}}};
  const Report report = examine(builder_.checkpoint());
  ASSERT_FALSE(report.findings.empty());
  EXPECT_EQ(report.findings.front().code, "config-malformed");
  EXPECT_EQ(report.findings.front().severity, Severity::fault);
  EXPECT_FALSE(report.architecture);
  EXPECT_EQ(std::ranges::count(report.findings, "architecture-unknown", &Finding::code), 0);
  EXPECT_EQ(report.summary.everything.parameters, 64U);
}

}  // namespace
}  // namespace regauge::inspect
