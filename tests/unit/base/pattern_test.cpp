#include "base/pattern.h"

#include <gtest/gtest.h>

namespace regauge {
namespace {

TEST(Pattern, MatchesFromTheStartUnlessToldOtherwise) {
  MatchBudget budget;
  EXPECT_FALSE(Pattern("ffn_down").matches("blk.0.ffn_down.weight", budget));
  EXPECT_TRUE(Pattern("ffn_down", PatternAnchor::anywhere).matches("blk.0.ffn_down.weight", budget));
  EXPECT_FALSE(Pattern("^ffn_down", PatternAnchor::anywhere).matches("blk.0.ffn_down.weight", budget));
}

}  // namespace
}  // namespace regauge
