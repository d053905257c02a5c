#include "inspect/wording.h"

#include <gtest/gtest.h>

namespace regauge::inspect {
namespace {

TEST(Wording, BothUnitsShowGibibytesFromOneOn) {
  EXPECT_EQ(both_units(1'073'741'823), "1.07 GB");
  EXPECT_EQ(both_units(1'073'741'824), "1.07 GB (1.00 GiB)");
  EXPECT_EQ(both_units(21'149'679'104), "21.15 GB (19.70 GiB)");
}

TEST(Wording, CountsTakeAPluralUnlessOne) {
  EXPECT_EQ(counted(1, "file"), "1 file");
  EXPECT_EQ(counted(0, "file"), "0 files");
  EXPECT_EQ(counted(2400, "array"), "2,400 arrays");
}

TEST(Wording, WrapsAtBlanksAndIndentsWhatFollows) {
  EXPECT_EQ(wrap("one two three", 7, "  "), "one two\n  three");
  EXPECT_EQ(wrap("short", 80, "  "), "short");
}

TEST(Wording, KeepsRunsOfBlanksInsideALine) { EXPECT_EQ(wrap("  a  b", 80, ""), "  a  b"); }

TEST(Wording, AWordWiderThanTheLineStandsAlone) {
  EXPECT_EQ(wrap("a very_long_word b", 6, "-"), "a\n-very_long_word\n-b");
}

TEST(Wording, WidthCountsCodePoints) { EXPECT_EQ(display_width("d\xC3\xA9j\xC3\xA0"), 4U); }

}  // namespace
}  // namespace regauge::inspect
