#include "convert/journal.h"

#include <limits>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/error.h"
#include "convert/journal_lines.h"
#include "tests/support/golden.h"

namespace regauge {
namespace {

using testing::ScratchDir;

const Fingerprint kFingerprint{.program = "1.2.3", .source = {1, 2}, .plan = {3, 4}};

BandRecord record(std::size_t step, std::int64_t begin, std::int64_t end, double worst = 0.0) {
  return {.band = {0, step, {begin, end}},
          .loss = {.changed = 7, .worst = worst, .worst_steps = 0.25, .irreversible = 9},
          .verified = true,
          .digests = {{5, 6}, {~std::uint64_t{0}, 8}}};
}

class JournalFile : public ::testing::Test {
 protected:
  std::string text() const { return std::string(text_of(testing::read_whole_file(path_))); }
  void write(const std::string& text) const { testing::write_whole_file(path_, bytes_of(text)); }
  Journal open(Stale stale = Stale::resume, const Fingerprint& fingerprint = kFingerprint) const {
    return Journal(target_, fingerprint, stale);
  }
  /// The error of opening it.
  Error failure(Stale stale, const Fingerprint& fingerprint = kFingerprint) const {
    try {
      open(stale, fingerprint);
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "it opened";
    return Error(ErrorCode::internal, "");
  }

  ScratchDir scratch_;
  std::filesystem::path target_ = scratch_ / "model.gguf";
  std::filesystem::path path_ = scratch_ / "model.gguf.partial.journal";
};

TEST_F(JournalFile, GivesBackWhatWasAdded) {
  {
    Journal journal = open();
    EXPECT_FALSE(journal.has_bands());
    journal.add(record(3, 0, 64, 0.1));
    EXPECT_TRUE(journal.has_bands());
    journal.add({SealedOutput{.device = 1, .inode = 2, .modified_ns = -3, .file_bytes = 4}});
  }
  const Journal journal = open();
  EXPECT_TRUE(journal.resumed());
  ASSERT_EQ(journal.bands().size(), 1U);
  const BandRecord& band = journal.bands().front();
  EXPECT_EQ(band.band.step, 3U);
  EXPECT_EQ(band.band.rows, (RowRange{0, 64}));
  EXPECT_EQ(band.loss.changed, 7U);
  EXPECT_EQ(band.loss.worst, 0.1);
  EXPECT_EQ(band.loss.irreversible, 9U);
  EXPECT_TRUE(band.verified);
  EXPECT_EQ(band.digests, record(3, 0, 64).digests);
  ASSERT_EQ(journal.sealed().size(), 1U);
  EXPECT_EQ(journal.sealed().front(), (SealedOutput{.device = 1, .inode = 2, .modified_ns = -3, .file_bytes = 4}));
}

TEST_F(JournalFile, KeepsEveryLossToTheLastBit) {
  const double values[] = {
      0.0, 5e-324, 1.0 / 3, 6.0e-8, 1.7976931348623157e308, std::numeric_limits<double>::infinity()};
  for (const double worst : values) {
    const auto parsed = journal_lines::parse_band(journal_lines::band_line(record(0, 0, 1, worst)));
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->loss.worst, worst);
  }
}

TEST_F(JournalFile, ForgetsALineThatIsCutShortAnywhereAndWritesOnBehindTheLastWholeOne) {
  open().add(record(0, 0, 64));
  const std::string one = text();
  open().add(record(0, 64, 128));
  const std::string two = text();
  for (std::size_t length = one.size(); length < two.size(); ++length) {
    write(two.substr(0, length));
    Journal journal = open();
    ASSERT_EQ(journal.bands().size(), 1U) << length;
    ASSERT_EQ(text(), one);
    journal.add(record(0, 64, 128));
    ASSERT_EQ(text(), two);
  }
}

TEST_F(JournalFile, BelievesNothingBehindADamagedLine) {
  open().add(record(0, 0, 64));
  const std::size_t begin = text().size();
  open().add(record(0, 64, 128));
  const std::size_t end = text().size();
  open().add(record(0, 128, 192));
  const std::string whole = text();
  for (std::size_t at = begin; at < end; ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    write(damaged);
    ASSERT_LE(open().bands().size(), 1U) << at;
  }
}

TEST_F(JournalFile, TakesTheLaterOfTwoLinesAboutTheSameRows) {
  open().add(record(0, 0, 128, 1.0));
  open().add(record(0, 0, 64, 2.0));
  open().add(record(0, 64, 128, 3.0));
  const Journal journal = open();
  ASSERT_EQ(journal.bands().size(), 2U);
  EXPECT_EQ(journal.bands()[0].loss.worst, 2.0);
  EXPECT_EQ(journal.bands()[1].loss.worst, 3.0);
}

TEST_F(JournalFile, CutShortInItsFirstLineIsNone) {
  open();
  const std::string head = text();
  for (std::size_t length = 0; length < head.size(); ++length) {
    write(head.substr(0, length));
    if (length != 0 && length < 15) continue;  // not yet known for a journal
    ASSERT_FALSE(open(Stale::refuse).resumed()) << length;
    ASSERT_EQ(text(), head);
  }
}

TEST_F(JournalFile, OfAnUnfinishedRunIsRefusedUnlessItIsResumedOrReplaced) {
  open().add(record(0, 0, 64));
  const std::string before = text();
  const Error error = failure(Stale::refuse);
  EXPECT_EQ(error.code(), ErrorCode::invalid);
  EXPECT_EQ(error.file(), path_.string());
  EXPECT_EQ(text(), before);
  EXPECT_TRUE(open(Stale::replace).bands().empty());
}

TEST_F(JournalFile, OfAnotherConversionSaysWhatIsDifferent) {
  open().add(record(0, 0, 64));
  Fingerprint other = kFingerprint;
  other.program = "1.2.4";
  EXPECT_NE(failure(Stale::resume, other).message().find("1.2.4"), std::string::npos);
  other = kFingerprint;
  other.source.low = 0;
  EXPECT_NE(failure(Stale::resume, other).message().find("source has changed"), std::string::npos);
  other = kFingerprint;
  other.plan.high = 0;
  EXPECT_NE(failure(Stale::resume, other).message().find("options"), std::string::npos);
  EXPECT_FALSE(open(Stale::resume_or_replace, other).resumed());
}

TEST_F(JournalFile, OfSomebodyElseIsNeverTouched) {
  write("my diary\n");
  for (const Stale stale : {Stale::refuse, Stale::resume, Stale::replace}) {
    EXPECT_EQ(failure(stale).code(), ErrorCode::invalid);
    EXPECT_EQ(text(), "my diary\n");
  }
}

TEST_F(JournalFile, IsOneRunsAlone) {
  const Journal first = open();
  EXPECT_EQ(failure(Stale::resume).code(), ErrorCode::io);
  EXPECT_EQ(failure(Stale::replace).code(), ErrorCode::io);
}

TEST_F(JournalFile, IsGoneWhenItIsRemoved) {
  Journal journal = open();
  journal.remove();
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(JournalFile, NeedsItsFolder) {
  EXPECT_THROW(Journal(scratch_ / "none" / "model.gguf", kFingerprint, Stale::refuse), Error);
}

}  // namespace
}  // namespace regauge
