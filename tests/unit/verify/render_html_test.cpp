#include "verify/render_html.h"

#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "inspect/html.h"
#include "tests/support/tensors.h"
#include "verify/fidelity_map.h"

namespace regauge {
namespace {

using testing::dense_tensor;

Tensor matrix(const std::string& name, float first) {
  std::vector<float> values(32, 1.0F);
  values.front() = first;
  return dense_tensor(name, Shape{2, 16}, values);
}

Faithfulness judged(std::vector<Tensor> candidate, std::vector<Tensor> reference) {
  Checkpoint first;
  first.tensors = std::move(candidate);
  Checkpoint second;
  second.tensors = std::move(reference);
  const DiffOptions options{.only = "", .keys = false, .decode_all = true, .threads = 1};
  return judge(diff(std::vector{OpenedPath{&first, nullptr}}, std::vector{OpenedPath{&second, nullptr}}, options), {});
}

std::size_t occurrences(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

TEST(Html, EscapesWhatAFileNames) {
  EXPECT_EQ(inspect::html_text("a<b>&\"c'\x1b"), "a&lt;b&gt;&amp;&quot;c&#39;\\x1b");
}

TEST(FidelityMap, PutsEveryWeightInItsBlockAndWhatOneSideLacksBesideIt) {
  const Faithfulness result = judged({matrix("model.layers.0.mlp.up_proj.weight", 2),
                                      matrix("model.layers.63.mlp.up_proj.weight", 1), matrix("head.weight", 1)},
                                     {matrix("model.layers.0.mlp.up_proj.weight", 1),
                                      matrix("model.layers.63.mlp.down_proj.weight", 3), matrix("head.weight", 1)});
  const auto towers = make_fidelity_map(result.diff);
  ASSERT_EQ(towers.size(), 2U);
  const FidelityTower& blocks = towers.front();
  EXPECT_TRUE(blocks.numbered);
  ASSERT_EQ(blocks.kinds.size(), 2U);
  EXPECT_EQ(blocks.kinds[0].label, "up_proj");
  EXPECT_EQ(blocks.kinds[1].label, "down_proj");
  ASSERT_EQ(blocks.blocks.size(), 2U);
  EXPECT_EQ(blocks.blocks.at(0).at(0).measured.different, 1U);
  EXPECT_EQ(blocks.blocks.at(63).at(0).only_first, 1U);
  EXPECT_EQ(blocks.blocks.at(63).at(1).only_second, 1U);
  EXPECT_FALSE(towers.back().numbered);
}

TEST(HtmlReport, RunsNothingThatANameSmugglesIn) {
  const std::string name = "model.layers.0.<script>x</script>\"onload='y.weight";
  const std::string page = render_faithfulness_html(judged({matrix(name, 2)}, {matrix(name, 1)}), "<img src=x>", "b&c");
  EXPECT_EQ(occurrences(page, "<script>"), 1U);
  EXPECT_EQ(occurrences(page, "<img"), 0U);
  EXPECT_EQ(occurrences(page, "\"onload"), 0U);
  EXPECT_NE(page.find("&lt;script&gt;x"), std::string::npos);
}

// Everything is inside: no address of anything else.
TEST(HtmlReport, NeedsNothingButItself) {
  const std::string page = render_faithfulness_html(judged({matrix("w", 2)}, {matrix("w", 1)}), "a", "b");
  EXPECT_EQ(page.find("http:"), std::string::npos);
  EXPECT_EQ(page.find("https:"), std::string::npos);
  EXPECT_EQ(page.find("src="), std::string::npos);
  EXPECT_NE(page.find("prefers-color-scheme: dark"), std::string::npos);
  EXPECT_EQ(page, render_faithfulness_html(judged({matrix("w", 2)}, {matrix("w", 1)}), "a", "b"));
}

// 2 against 1: a relative error of 1 over the root of 32, in the bin from 2^0.
TEST(HtmlReport, ShowsTheNumbersOfTheReport) {
  const std::string page = render_faithfulness_html(judged({matrix("w", 2)}, {matrix("w", 1)}), "a", "b");
  EXPECT_NE(page.find("<td data-v=\"0.176776695\">0.177</td>"), std::string::npos);
  EXPECT_NE(page.find("|&Delta;| from 2^0 to 2^1: 1 values"), std::string::npos);
  EXPECT_EQ(occurrences(page, "class=\"sortable\""), 2U);
  EXPECT_NE(page.find("verdict good"), std::string::npos);
}

TEST(HtmlReport, MarksInfinitiesAndWhatIsMissing) {
  const Faithfulness result =
      judged({matrix("w", std::numeric_limits<float>::infinity())}, {matrix("w", 1), matrix("v", 1)});
  const std::string page = render_faithfulness_html(result, "a", "b");
  EXPECT_NE(page.find("data-v=\"Infinity\""), std::string::npos);
  EXPECT_NE(page.find("class=\"gone\""), std::string::npos);
  EXPECT_NE(page.find("verdict bad"), std::string::npos);
  EXPECT_EQ(page.find("nan"), std::string::npos);
}

}  // namespace
}  // namespace regauge
