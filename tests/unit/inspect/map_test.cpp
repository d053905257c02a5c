#include "inspect/map.h"

#include <gtest/gtest.h>

#include "inspect/render_text.h"
#include "tests/unit/inspect/checkpoint_builder.h"

namespace regauge::inspect {
namespace {

using testing::CheckpointBuilder;

PrecisionMap map_of(CheckpointBuilder& builder) {
  return make_map(builder.checkpoint(), make_catalog(builder.checkpoint(), nullptr), nullptr);
}

TEST(Map, ShowsEveryKindOfMatrixByBlock) {
  CheckpointBuilder builder;
  builder.gptq("layers.0.q", 64, 1024, {})
      .dense("layers.2.q.weight", DType::bf16, {64, 64})
      .dense("layers.0.norm.weight", DType::f32, {64})
      .dense("head.weight", DType::f16, {64, 64});
  const PrecisionMap map = map_of(builder);
  ASSERT_EQ(map.towers.size(), 1U);
  EXPECT_EQ(map.towers[0].blocks, 3);
  ASSERT_EQ(map.towers[0].rows.size(), 2U);
  const MapRow& q = map.towers[0].rows[0];
  EXPECT_EQ(q.label, "q");
  EXPECT_EQ(q.cells.at(0).symbol, '4');
  EXPECT_FALSE(q.cells.contains(1));
  EXPECT_EQ(q.cells.at(2).symbol, 'B');
  EXPECT_EQ(map.towers[0].rows[1].label, "small");
  ASSERT_EQ(map.outside.size(), 1U);
  EXPECT_EQ(map.outside[0].cells.at(0).symbol, 'H');
}

TEST(Map, ExpertsOfAnUnknownModelShareARow) {
  CheckpointBuilder builder;
  for (int expert = 0; expert < 3; ++expert) {
    builder.dense("layers.0.experts." + std::to_string(expert) + ".w1.weight", DType::bf16, {16, 16});
  }
  builder.dense("layers.0.experts.3.w1.weight", DType::f32, {16, 16});
  const PrecisionMap map = map_of(builder);
  ASSERT_EQ(map.towers.at(0).rows.size(), 1U);
  EXPECT_EQ(map.towers[0].rows[0].label, "experts.*.w1");
  EXPECT_EQ(map.towers[0].rows[0].cells.at(0).symbol, '+');
  EXPECT_EQ(map.towers[0].rows[0].cells.at(0).parameters, 4U * 256U);
}

TEST(Map, ABlockNumberThatNoModelHasTakesNoRoom) {
  CheckpointBuilder builder;
  builder.dense("layers.999999999.w.weight", DType::bf16, {16, 16});
  const PrecisionMap map = map_of(builder);
  EXPECT_TRUE(map.towers.empty());
  EXPECT_EQ(map.outside.size(), 1U);
}

TEST(Map, IsDrawnWithoutColourUnlessAskedFor) {
  CheckpointBuilder builder;
  builder.dense("layers.0.w.weight", DType::bf16, {16, 16}).dense("layers.1.w.weight", DType::f32, {16, 16});
  const PrecisionMap map = map_of(builder);
  const std::string plain = render_map(map, {});
  EXPECT_NE(plain.find("w  BF"), std::string::npos) << plain;
  EXPECT_EQ(plain.find('\x1b'), std::string::npos);
  EXPECT_NE(render_map(map, {.colour = Colour::ansi}).find('\x1b'), std::string::npos);
}

TEST(Map, TallModelsAreBrokenIntoStretchesThatFit) {
  CheckpointBuilder builder;
  for (int layer = 0; layer < 95; ++layer) {
    builder.dense("layers." + std::to_string(layer) + ".w.weight", DType::bf16, {16, 16});
  }
  const std::string text = render_map(map_of(builder), {.width = 60});
  std::size_t symbols = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    const std::string line = text.substr(begin, end - begin);
    EXPECT_LE(line.size(), 60U) << line;
    if (line.find("  w  ") != std::string::npos) symbols += static_cast<std::size_t>(std::ranges::count(line, 'B'));
    begin = end + 1;
  }
  EXPECT_EQ(symbols, 95U);
}

}  // namespace
}  // namespace regauge::inspect
