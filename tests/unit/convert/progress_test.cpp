#include <gtest/gtest.h>

#include "convert/render.h"

namespace regauge {
namespace {

constexpr std::uint64_t kGB = 1'000'000'000;

TEST(ProgressText, SaysBytesRateTimeLeftAndTensor) {
  const Progress progress{
      .bytes_done = 4 * kGB, .bytes_skipped = 0, .bytes_total = 10 * kGB, .tensor = "blk.3.ffn_up.weight"};
  EXPECT_EQ(render_progress(progress, 8.0, 100), "4.00 GB of 10.00 GB, 500 MB/s, 12 s left  blk.3.ffn_up.weight");
}

TEST(ProgressText, SkippedBytesAreDoneAndNoSpeed) {
  const Progress progress{.bytes_done = 8 * kGB, .bytes_skipped = 6 * kGB, .bytes_total = 108 * kGB, .tensor = "t"};
  EXPECT_EQ(render_progress(progress, 10.0, 100), "8.00 GB of 108.00 GB, 200 MB/s, 8 min 20 s left  t");
}

TEST(ProgressText, FitsEveryWidth) {
  const std::string name(300, 'n');
  const Progress progress{.bytes_done = kGB, .bytes_skipped = 0, .bytes_total = 1000 * kGB, .tensor = name};
  for (std::size_t width = 0; width < 200; ++width) {
    EXPECT_LE(render_progress(progress, 3.0, width).size(), width);
  }
  EXPECT_EQ(render_progress(progress, 3.0, 79).size(), 79U);
}

TEST(ProgressText, MovesNoCursor) {
  const Progress progress{.bytes_done = kGB, .bytes_skipped = 0, .bytes_total = 2 * kGB, .tensor = "a\r\x1b[2J"};
  const std::string line = render_progress(progress, 1.0, 100);
  EXPECT_EQ(line.find('\r'), std::string::npos);
  EXPECT_EQ(line.find('\x1b'), std::string::npos);
}

TEST(ProgressText, KnowsNoTimeLeftBeforeAnythingIsMade) {
  const Progress progress{.bytes_done = kGB, .bytes_skipped = kGB, .bytes_total = 100 * kGB, .tensor = "t"};
  EXPECT_EQ(render_progress(progress, 1.0, 100), "1.00 GB of 100.00 GB, 0 MB/s  t");
}

}  // namespace
}  // namespace regauge
