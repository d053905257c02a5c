#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "formats/layouts/block_scales.h"
#include "tests/support/golden.h"

namespace regauge::layouts {
namespace {

struct Case {
  BlockType type;
  std::string file;
};

class BlockScales : public ::testing::TestWithParam<Case> {};

// By ggml's own decoder: within a run, values differ by whole multiples of the scale (as far as f32 rounds the sum with a
// minimum), and reach no further than the codes do.
TEST_P(BlockScales, AreTheDistanceOfNeighbouringValues) {
  const auto [type, file] = GetParam();
  REGAUGE_GOLDEN_OR_SKIP(path, "ggml/" + file + ".safetensors");
  const testing::GoldenFile golden(path);
  const auto blocks = golden["random_bytes"].bytes;
  const auto values = golden["random_dequantized"].as<float>();
  const auto width = static_cast<std::size_t>(scale_width(type));
  std::vector<float> scales(values.size() / width);
  read_block_scales(type, blocks, scales);
  std::size_t checked = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double step = std::abs(static_cast<double>(scales[i / width]));
    const double first = values[i / width * width];
    const double largest = std::max(std::abs(first), std::abs(static_cast<double>(values[i])));
    if (step == 0 || largest > 1e4 * step) continue;  // a minimum that drowns the codes
    const double steps = (static_cast<double>(values[i]) - first) / step;
    EXPECT_NEAR(steps, std::round(steps), 1e-3) << i;
    EXPECT_LE(std::abs(steps), 255.5) << i;
    ++checked;
  }
  EXPECT_GT(checked, values.size() / 2);
}

INSTANTIATE_TEST_SUITE_P(Type, BlockScales,
                         ::testing::Values(Case{BlockType::q4_0, "q4_0"}, Case{BlockType::q4_1, "q4_1"},
                                           Case{BlockType::q5_0, "q5_0"}, Case{BlockType::q5_1, "q5_1"},
                                           Case{BlockType::q8_0, "q8_0"}, Case{BlockType::q2_K, "q2_K"},
                                           Case{BlockType::q3_K, "q3_K"}, Case{BlockType::q4_K, "q4_K"},
                                           Case{BlockType::q5_K, "q5_K"}, Case{BlockType::q6_K, "q6_K"}),
                         [](const auto& tested) { return tested.param.file; });

TEST(BlockScales, OfCodebooksThereAreNone) {
  EXPECT_EQ(scale_width(BlockType::iq4_nl), 0);
  std::vector<float> scales(1);
  EXPECT_THROW(read_block_scales(BlockType::iq4_nl, std::vector<std::byte>(18), scales), Error);
}

}  // namespace
}  // namespace regauge::layouts
