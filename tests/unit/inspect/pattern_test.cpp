#include "inspect/pattern.h"

#include <string>

#include <gtest/gtest.h>

namespace regauge::inspect {
namespace {

TEST(NamePattern, WithoutWildcardsIsAnyPartOfTheName) {
  EXPECT_TRUE(NamePattern("mlp").matches("model.layers.3.mlp.up_proj.weight"));
  EXPECT_TRUE(NamePattern("").matches("anything"));
  EXPECT_FALSE(NamePattern("mlp.down").matches("model.layers.3.mlp.up_proj.weight"));
}

TEST(NamePattern, WithWildcardsIsTheWholeName) {
  EXPECT_TRUE(NamePattern("model.*.weight").matches("model.layers.3.weight"));
  EXPECT_FALSE(NamePattern("layers.*.weight").matches("model.layers.3.weight"));
  EXPECT_TRUE(NamePattern("blk.?.attn_q").matches("blk.3.attn_q"));
  EXPECT_FALSE(NamePattern("blk.?.attn_q").matches("blk.13.attn_q"));
  EXPECT_TRUE(NamePattern("*").matches(""));
  EXPECT_FALSE(NamePattern("?").matches(""));
}

TEST(NamePattern, GoesBackToALaterPlaceWhenTheFirstFails) {
  EXPECT_TRUE(NamePattern("*ab").matches("aab"));
  EXPECT_TRUE(NamePattern("a*b*c").matches("abxbxc"));
  EXPECT_FALSE(NamePattern("a*b*c").matches("abxbx"));
}

TEST(NamePattern, ManyStarsTakeNoExponentialTime) {
  const std::string name(2000, 'a');
  std::string pattern;
  for (int i = 0; i < 50; ++i) pattern += "*a";
  EXPECT_FALSE(NamePattern(pattern + "b").matches(name));
}

}  // namespace
}  // namespace regauge::inspect
