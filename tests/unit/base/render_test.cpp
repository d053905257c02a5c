#include "base/render.h"

#include <gtest/gtest.h>

namespace regauge {
namespace {

TEST(TextTable, PadsToTheWidestCellAndLeavesNoTrailingBlanks) {
  TextTable table({TextTable::Align::right});
  table.add({"n", "name"});
  table.add({"1200", "x"});
  EXPECT_EQ(table.text(1), "    n  name\n 1200  x\n");
}

TEST(TextTable, CountsCodePointsNotBytes) {
  TextTable table;
  table.add({"é", "|"});
  table.add({"ab", "|"});
  EXPECT_EQ(table.text(), "é   |\nab  |\n");
}

TEST(FindingText, NamesWhatIsKnownAndEscapesTheRest) {
  EXPECT_EQ(to_string(Finding{Severity::warning, "c", "odd", "a.gguf", "t\x1b[1m"}),
            "warning: a.gguf: tensor 't\\x1b[1m': odd");
  EXPECT_EQ(to_string(Finding{Severity::note, "c", "fine", "", ""}), "note: fine");
}

TEST(JsonText, KeepsUtf8AndSpellsOutOtherBytes) {
  EXPECT_EQ(json_text("é"), Json("é"));
  EXPECT_EQ(json_text("a\xff"
                      "é"),
            Json("a\\xffé"));
  EXPECT_EQ(json_text("\xc3"), Json("\\xc3"));
}

}  // namespace
}  // namespace regauge
