#include "base/text.h"

#include <cstdint>
#include <limits>
#include <string>

#include <gtest/gtest.h>

namespace regauge {
namespace {

using namespace std::string_literals;

TEST(IsUtf8, AcceptsTheFirstAndLastCodePointOfEachLength) {
  EXPECT_TRUE(is_utf8(""));
  EXPECT_TRUE(is_utf8("\0\x7F"s));
  EXPECT_TRUE(is_utf8("\xC2\x80\xDF\xBF"));
  EXPECT_TRUE(is_utf8("\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF"));
  EXPECT_TRUE(is_utf8("\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"));
}

// The ill-formed sequences of the Unicode standard, section 3.9, tables 3-8 to 3-11, and the neighbours of every bound.
TEST(IsUtf8, RefusesWhatIsIllFormed) {
  for (const auto& text : {"\x80"s,
                           "\xBF"s,
                           "\xC0\x80"s,
                           "\xC1\xBF"s,
                           "\xC2"s,
                           "\xC2\x7F"s,
                           "\xC2\xC0"s,
                           "\xE0\x80\x80"s,
                           "\xE0\x9F\xBF"s,
                           "\xE1\x80"s,
                           "\xE1\x80\xE2"s,
                           "\xED\xA0\x80"s,
                           "\xED\xBF\xBF"s,
                           "\xF0\x80\x80\x80"s,
                           "\xF0\x8F\xBF\xBF"s,
                           "\xF1\x80\x80"s,
                           "\xF1\x80\x80\x41"s,
                           "\xF4\x90\x80\x80"s,
                           "\xF5\x80\x80\x80"s,
                           "\xFE"s,
                           "\xFF"s}) {
    EXPECT_FALSE(is_utf8(text)) << testing::PrintToString(text);
    EXPECT_FALSE(is_utf8("ok " + text)) << testing::PrintToString(text);
    EXPECT_FALSE(is_utf8(text + " ok")) << testing::PrintToString(text);
  }
}

TEST(Printable, LeavesOrdinaryTextAlone) {
  const auto text = "model.layers.3.mlp.up_proj.weight \\ häß 模型 🙂"s;
  EXPECT_EQ(printable(text), text);
}

TEST(Printable, EscapesWhatATerminalWouldAct) {
  EXPECT_EQ(printable("a\nb\r\tc"), "a\\nb\\r\\tc");
  EXPECT_EQ(printable("\x1B[2J\x07\x7F\0"s), "\\x1b[2J\\x07\\x7f\\x00");
  EXPECT_EQ(printable("\xC2\x9B"
                      "31m"),
            "\\u{9b}31m");
}

TEST(Printable, EscapesWhatMakesOneNameLookLikeAnother) {
  EXPECT_EQ(printable("a\xE2\x80"s + "\xAE"s + "b\xE2\x80\x8B"s), "a\\u{202e}b\\u{200b}");
  EXPECT_EQ(printable("\xEF\xBB\xBFx"), "\\u{feff}x");
}

TEST(Printable, EscapesEachByteThatIsNotUtf8AndGoesOn) {
  EXPECT_EQ(printable("a\xFF\xC3z\xE2\x82"), "a\\xff\\xc3z\\xe2\\x82");
}

TEST(Printable, KeepsLineFeedsWhenAsked) { EXPECT_EQ(printable("a\nb\r", LineFeeds::keep), "a\nb\\r"); }

TEST(Printable, IsIdempotentAndAlwaysUtf8OverAllPairsOfBytes) {
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) {
      const std::string text{static_cast<char>(a), static_cast<char>(b)};
      const std::string once = printable(text);
      ASSERT_TRUE(is_utf8(once));
      ASSERT_EQ(printable(once), once);
    }
  }
}

TEST(FormatBytes, IsExactBelowAKilobyte) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
}

TEST(FormatBytes, UsesDecimalUnitsWithTwoPlaces) {
  EXPECT_EQ(format_bytes(1000), "1.00 kB");
  EXPECT_EQ(format_bytes(1004), "1.00 kB");
  EXPECT_EQ(format_bytes(1005), "1.01 kB");
  EXPECT_EQ(format_bytes(17'420'000'000), "17.42 GB");
  EXPECT_EQ(format_bytes(55'562'855'904), "55.56 GB");
  EXPECT_EQ(format_bytes(std::numeric_limits<std::uint64_t>::max()), "18.45 EB");
}

TEST(FormatBytes, RoundsIntoTheNextUnitInsteadOfShowingAThousand) {
  EXPECT_EQ(format_bytes(999'994), "999.99 kB");
  EXPECT_EQ(format_bytes(999'995), "1.00 MB");
  EXPECT_EQ(format_bytes(999'999'999'999), "1.00 TB");
}

TEST(FormatCount, MarksThousands) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(1000), "1,000");
  EXPECT_EQ(format_count(27'781'427'952), "27,781,427,952");
  EXPECT_EQ(format_count(std::numeric_limits<std::uint64_t>::max()), "18,446,744,073,709,551,615");
}

}  // namespace
}  // namespace regauge
