#include "base/output_file.h"

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/error.h"
#include "tests/support/golden.h"

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::read_whole_file;
using testing::ScratchDir;
using testing::write_whole_file;

template <typename Act>
std::optional<ErrorCode> code_of(Act act) {
  try {
    act();
    return std::nullopt;
  } catch (const Error& error) {
    EXPECT_FALSE(error.file().empty()) << error.what();
    return error.code();
  }
}

/// For its lifetime, files of this process cannot grow beyond `bytes`: the next best thing to a disk that is full.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : old_handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{.rlim_cur = bytes, .rlim_max = old_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, old_handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit old_{};
  void (*old_handler_)(int);
};

class OutputFileTest : public ::testing::Test {
 protected:
  fs::path target() const { return scratch_ / "model.gguf"; }
  fs::path partial() const { return scratch_ / "model.gguf.partial"; }
  void put(const fs::path& path, std::string_view text) { write_whole_file(path, bytes_of(text)); }
  std::string content(const fs::path& path) { return std::string(text_of(read_whole_file(path))); }
  std::size_t entries() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(scratch_.path()), fs::directory_iterator()));
  }

  ScratchDir scratch_;
};

TEST_F(OutputFileTest, CommitPutsTheBytesAtTheTargetAndLeavesNothingElse) {
  auto output = OutputFile::create(target());
  output.write_at(3, bytes_of(std::string_view("def")));
  output.write_at(0, bytes_of(std::string_view("abc")));
  EXPECT_FALSE(fs::exists(target())) << "not touched before commit";
  EXPECT_TRUE(fs::exists(partial()));
  output.commit();
  EXPECT_EQ(content(target()), "abcdef");
  EXPECT_EQ(entries(), 1U);
}

TEST_F(OutputFileTest, PreallocateFixesTheSizeAndReadsAsZeros) {
  auto output = OutputFile::create(target());
  output.preallocate(100'000);
  output.write_at(99'999, bytes_of(std::string_view("x")));
  output.commit();
  EXPECT_EQ(content(target()), std::string(99'999, '\0') + "x");
}

TEST_F(OutputFileTest, LongRunsAndStripsFarBehindThemAreWhatTheyWereWhenAllIsOnTheDisk) {
  // Both go to the disk before the end, strips once there are many and others have come far behind them.
  constexpr std::size_t kStrip = 5001;
  constexpr std::uint64_t kFar = 80 << 20;
  const std::string strip(kStrip, 's');
  const std::string run(3 << 20, 'r');
  auto output = OutputFile::create(target());
  for (std::uint64_t at = 0; at < std::uint64_t{20} << 20; at += 2 * kStrip) output.write_at(at, bytes_of(strip));
  output.write_at(kFar, bytes_of(run));
  for (std::uint64_t at = kStrip; at < std::uint64_t{20} << 20; at += 2 * kStrip) output.write_at(at, bytes_of(strip));
  for (std::uint64_t i = 0; i < 3400; ++i) output.write_at(kFar + run.size() + i * kStrip, bytes_of(strip));
  output.commit();
  const std::string found = content(target());
  ASSERT_EQ(found.size(), kFar + run.size() + 3400 * kStrip);
  const std::size_t strips = found.find_first_not_of('s');
  EXPECT_GE(strips, std::size_t{20} << 20);
  EXPECT_EQ(found.find_first_not_of('\0', strips), kFar);
  EXPECT_EQ(found.find_first_not_of('r', kFar), kFar + run.size());
  EXPECT_EQ(found.find_first_not_of('s', kFar + run.size()), std::string::npos);
}

TEST_F(OutputFileTest, PreallocateMayAlsoShrinkAndMayBeNothing) {
  auto output = OutputFile::create(target());
  output.preallocate(1000);
  output.preallocate(3);
  output.commit();
  EXPECT_EQ(fs::file_size(target()), 3U);
  auto empty = OutputFile::create(scratch_ / "empty");
  empty.preallocate(0);
  empty.commit();
  EXPECT_EQ(fs::file_size(scratch_ / "empty"), 0U);
}

TEST_F(OutputFileTest, ManyThreadsWriteTheirOwnRanges) {
  constexpr std::size_t kPiece = 5003;
  auto output = OutputFile::create(target());
  output.preallocate(64 * kPiece);
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < 8; ++t) {
      threads.emplace_back([&output, t] {
        for (std::size_t i = t; i < 64; i += 8) {
          output.write_at(i * kPiece, bytes_of(std::string(kPiece, static_cast<char>('0' + i))));
        }
      });
    }
  }
  output.commit();
  std::string expected;
  for (int i = 0; i < 64; ++i) expected += std::string(kPiece, static_cast<char>('0' + i));
  EXPECT_EQ(content(target()), expected);
}

TEST_F(OutputFileTest, AnOutputThatIsGivenUpLeavesTheOldTargetAndNoPartial) {
  put(target(), "old");
  {
    auto output = OutputFile::create(target(), {.overwrite = true});
    output.write_at(0, bytes_of(std::string_view("half of the new")));
    EXPECT_EQ(content(target()), "old");
  }
  EXPECT_EQ(content(target()), "old");
  EXPECT_EQ(entries(), 1U);
}

TEST_F(OutputFileTest, AnOutputThatIsGivenUpKeepsItsPartialWhenAsked) {
  {
    auto output = OutputFile::create(target(), {.on_failure = OnFailure::keep});
    output.write_at(0, bytes_of(std::string_view("half")));
  }
  EXPECT_FALSE(fs::exists(target()));
  EXPECT_EQ(content(partial()), "half");
}

TEST_F(OutputFileTest, AnExistingTargetNeedsOverwrite) {
  put(target(), "old");
  EXPECT_EQ(code_of([&] { OutputFile::create(target()); }), ErrorCode::invalid);
  EXPECT_EQ(content(target()), "old");
  EXPECT_EQ(entries(), 1U);
  auto output = OutputFile::create(target(), {.overwrite = true});
  output.write_at(0, bytes_of(std::string_view("new")));
  output.commit();
  EXPECT_EQ(content(target()), "new");
}

TEST_F(OutputFileTest, ATargetThatAppearsMeanwhileIsNotOverwritten) {
  {
    auto output = OutputFile::create(target());
    output.write_at(0, bytes_of(std::string_view("ours")));
    put(target(), "somebody else's");
    EXPECT_EQ(code_of([&] { output.commit(); }), ErrorCode::invalid);
  }
  EXPECT_EQ(content(target()), "somebody else's");
  EXPECT_EQ(entries(), 1U);
}

TEST_F(OutputFileTest, AStalePartialNeedsReplacePartialAndIsEmptiedThen) {
  put(partial(), "left over, and longer than what follows");
  EXPECT_EQ(code_of([&] { OutputFile::create(target()); }), ErrorCode::invalid);
  EXPECT_EQ(content(partial()), "left over, and longer than what follows");
  auto output = OutputFile::create(target(), {.replace_partial = true});
  output.write_at(0, bytes_of(std::string_view("new")));
  output.commit();
  EXPECT_EQ(content(target()), "new");
}

TEST_F(OutputFileTest, AnEmptyStalePartialIsNobodysLoss) {
  put(partial(), "");
  EXPECT_EQ(code_of([&] { OutputFile::create(target()).commit(); }), std::nullopt);
  EXPECT_EQ(entries(), 1U);
}

TEST_F(OutputFileTest, ASecondRunOnTheSameTargetIsRefusedAndHarmsNothing) {
  auto first = OutputFile::create(target());
  first.write_at(0, bytes_of(std::string_view("first")));
  EXPECT_EQ(code_of([&] { OutputFile::create(target()); }), ErrorCode::io);
  EXPECT_EQ(code_of([&] { OutputFile::create(target(), {.overwrite = true, .replace_partial = true}); }),
            ErrorCode::io);
  first.commit();
  EXPECT_EQ(content(target()), "first");
  EXPECT_EQ(code_of([&] { OutputFile::create(target()); }), ErrorCode::invalid) << "now it is the target that is there";
}

TEST_F(OutputFileTest, TheNameIsFreeAgainAfterGivingUp) {
  {
    auto first = OutputFile::create(target());
  }
  EXPECT_EQ(code_of([&] { OutputFile::create(target()).commit(); }), std::nullopt);
}

TEST_F(OutputFileTest, RacingRunsEndInExactlyOneResultOfOnePiece) {
  for (int round = 0; round < 30; ++round) {
    std::vector<int> committed(4);
    {
      std::vector<std::jthread> threads;
      for (std::size_t t = 0; t < committed.size(); ++t) {
        threads.emplace_back([&, t] {
          try {
            auto output = OutputFile::create(target(), {.replace_partial = true});
            const std::string mine(10'000, static_cast<char>('a' + t));
            output.write_at(0, bytes_of(mine));
            output.commit();
            committed[t] = 1;
          } catch (const Error& error) {
            EXPECT_TRUE(error.code() == ErrorCode::io || error.code() == ErrorCode::invalid) << error.what();
          }
        });
      }
    }
    ASSERT_EQ(std::ranges::count(committed, 1), 1);
    const auto winner = static_cast<std::size_t>(std::ranges::find(committed, 1) - committed.begin());
    ASSERT_EQ(content(target()), std::string(10'000, static_cast<char>('a' + winner)));
    ASSERT_EQ(entries(), 1U);
    fs::remove(target());
  }
}

TEST_F(OutputFileTest, AKilledRunLeavesTheTargetAsItWasAndAPartialThatCanBeReplaced) {
  put(target(), "old");
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto output = OutputFile::create(target(), {.overwrite = true});
    output.preallocate(1000);
    output.write_at(0, bytes_of(std::string_view("half")));
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(content(target()), "old");
  EXPECT_EQ(fs::file_size(partial()), 1000U);
  EXPECT_EQ(code_of([&] { OutputFile::create(target(), {.overwrite = true}); }), ErrorCode::invalid);
  auto output = OutputFile::create(target(), {.overwrite = true, .replace_partial = true});
  output.write_at(0, bytes_of(std::string_view("new")));
  output.commit();
  EXPECT_EQ(content(target()), "new");
}

TEST_F(OutputFileTest, ADiskTooSmallIsAnErrorBeforeWorkThatSaysWhatIsFree) {
  auto output = OutputFile::create(target());
  constexpr std::uint64_t kExbibyte = std::uint64_t{1} << 60;
  try {
    output.preallocate(kExbibyte);
    FAIL() << "no disk has that";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::io);
    EXPECT_EQ(error.file(), partial().native());
    EXPECT_NE(error.message().find(std::to_string(kExbibyte)), std::string::npos) << error.what();
    EXPECT_NE(error.message().find("free"), std::string::npos) << error.what();
  }
  EXPECT_EQ(fs::file_size(partial()), 0U);
  EXPECT_EQ(code_of([&] { output.preallocate(std::numeric_limits<std::uint64_t>::max()); }), ErrorCode::io);
}

TEST_F(OutputFileTest, ARefusedReservationGivesBackWhatItTook) {
  auto output = OutputFile::create(target());
  output.write_at(0, bytes_of(std::string_view("head")));
  {
    const FileSizeLimit limit(4096);
    EXPECT_EQ(code_of([&] { output.preallocate(1 << 20); }), ErrorCode::io);
  }
  EXPECT_EQ(content(partial()), "head");
}

TEST_F(OutputFileTest, AWriteThatFailsHalfWayIsAnErrorAndLeavesTheTarget) {
  put(target(), "old");
  {
    auto output = OutputFile::create(target(), {.overwrite = true});
    const std::string data(10'000, 'x');
    const FileSizeLimit limit(4096);
    try {
      output.write_at(0, bytes_of(data));
      ADD_FAILURE() << "wrote past the limit";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::io);
      EXPECT_EQ(error.byte_offset(), 4096U) << "the first byte that did not fit";
    }
  }
  EXPECT_EQ(content(target()), "old");
  EXPECT_EQ(entries(), 1U);
}

TEST_F(OutputFileTest, OffsetsBeyondWhatAFileCanHaveAreErrors) {
  auto output = OutputFile::create(target());
  const auto one = bytes_of(std::string_view("x"));
  for (const std::uint64_t offset : {std::numeric_limits<std::uint64_t>::max(), std::uint64_t{1} << 63,
                                     static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())}) {
    EXPECT_EQ(code_of([&] { output.write_at(offset, one); }), ErrorCode::io) << offset;
  }
}

TEST_F(OutputFileTest, PlacesThatCannotHoldAFileAreRefused) {
  fs::create_directory(target());
  EXPECT_EQ(code_of([&] { OutputFile::create(target(), {.overwrite = true}); }), ErrorCode::invalid);
  EXPECT_EQ(code_of([&] { OutputFile::create("/dev/null", {.overwrite = true}); }), ErrorCode::invalid);
  EXPECT_EQ(code_of([&] { OutputFile::create(scratch_ / "absent/model.gguf"); }), ErrorCode::not_found);
  for (const char* name : {"", ".", "..", "folder/"}) {
    EXPECT_EQ(code_of([&] { OutputFile::create(scratch_.path() / name); }), ErrorCode::invalid) << name;
  }
}

TEST_F(OutputFileTest, APartialThatIsALinkOrAPipeIsNotFollowed) {
  put(scratch_ / "precious", "precious");
  fs::create_symlink("precious", partial());
  EXPECT_EQ(code_of([&] { OutputFile::create(target(), {.replace_partial = true}); }), ErrorCode::invalid);
  EXPECT_EQ(content(scratch_ / "precious"), "precious");
  fs::remove(partial());
  ASSERT_EQ(mkfifo(partial().c_str(), 0600), 0);
  EXPECT_EQ(code_of([&] { OutputFile::create(target(), {.replace_partial = true}); }), ErrorCode::invalid);
}

TEST_F(OutputFileTest, ATargetThatIsALinkIsItselfReplaced) {
  put(scratch_ / "precious", "precious");
  fs::create_symlink("precious", target());
  auto output = OutputFile::create(target(), {.overwrite = true});
  output.write_at(0, bytes_of(std::string_view("new")));
  output.commit();
  EXPECT_FALSE(fs::is_symlink(target()));
  EXPECT_EQ(content(target()), "new");
  EXPECT_EQ(content(scratch_ / "precious"), "precious");
}

TEST_F(OutputFileTest, MovingKeepsTheOutputAndAssigningGivesUpTheOldOne) {
  auto first = OutputFile::create(target());
  auto second = OutputFile::create(scratch_ / "other");
  first.write_at(0, bytes_of(std::string_view("one")));
  second = std::move(first);
  EXPECT_FALSE(fs::exists(scratch_ / "other.partial"));
  second.commit();
  EXPECT_EQ(content(target()), "one");
}

}  // namespace
}  // namespace regauge
