#include <chrono>
#include <thread>

#include <gtest/gtest.h>

#include <signal.h>

#include "base/bytes.h"
#include "tests/support/big_checkpoint.h"
#include "tests/support/command.h"
#include "tests/support/golden.h"

// What stops the program from outside: a signal, a full disk, a limit.

namespace regauge {
namespace {

using testing::CommandLimits;
using testing::read_whole_file;
using testing::run_command;
using testing::RunningCommand;
using testing::ScratchDir;

class Stopped : public ::testing::Test {
 protected:
  Stopped() {
    testing::write_big_safetensors(source_, 6, 2048, 4096);
    const std::string precious = "precious";
    testing::write_whole_file(target_, bytes_of(precious));
  }

  std::string target_text() const {
    const auto bytes = read_whole_file(target_);
    return std::string(text_of(std::span(bytes).first(std::min<std::size_t>(bytes.size(), 8))));
  }

  std::vector<std::string> command(std::vector<std::string> more = {}) const {
    std::vector<std::string> words = {REGAUGE_CLI, "convert", source_,     target_, "--dtype",
                                      "f16",       "--force", "--threads", "1"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  /// Waits until the first bands are on record.
  bool wait_for_bands() const {
    const std::filesystem::path journal = target_ + ".partial.journal";
    for (int i = 0; i < 20'000; ++i) {
      std::error_code ignored;
      const auto size = std::filesystem::file_size(journal, ignored);
      if (!ignored && size > 300) return true;
      std::this_thread::sleep_for(std::chrono::microseconds(500));
    }
    return false;
  }

  ScratchDir scratch_;
  // A blank and a quote, so that the line that resumes has something to quote.
  std::string source_ = scratch_ / "it's big.safetensors";
  std::string target_ = scratch_ / "model.safetensors";
};

TEST_F(Stopped, BySignalItKeepsWhatItHasAndPrintsTheLineThatGoesOn) {
  for (const int signal : {SIGINT, SIGTERM}) {
    RunningCommand running(command());
    ASSERT_TRUE(wait_for_bands());
    running.send(signal);
    const auto result = running.wait();
    ASSERT_EQ(result.exit_code, 2) << result.err;
    EXPECT_EQ(target_text(), "precious");
    EXPECT_TRUE(std::filesystem::exists(target_ + ".partial"));
    EXPECT_NE(result.err.find("interrupted"), std::string::npos);

    // The last line, as it stands, in a shell.
    const auto line = result.err.rfind("\n  ");
    ASSERT_NE(line, std::string::npos) << result.err;
    const auto resumed = run_command({"bash", "-c", result.err.substr(line)});
    EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
    EXPECT_NE(resumed.out.find("were there already"), std::string::npos) << resumed.out;
    EXPECT_FALSE(std::filesystem::exists(target_ + ".partial"));
    EXPECT_FALSE(std::filesystem::exists(target_ + ".partial.journal"));

    const std::string whole = scratch_ / "whole.safetensors";
    ASSERT_EQ(run_command({REGAUGE_CLI, "convert", source_, whole, "--dtype", "f16", "--force"}).exit_code, 0);
    EXPECT_EQ(read_whole_file(target_), read_whole_file(whole));
    const std::string precious = "precious";
    testing::write_whole_file(target_, bytes_of(precious));
  }
}

TEST_F(Stopped, ByALimitOnFilesItLeavesNothing) {
  const auto result = run_command(command(), CommandLimits{.data_bytes = {}, .file_bytes = 1'000'000});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(target_text(), "precious");
  EXPECT_FALSE(std::filesystem::exists(target_ + ".partial"));
  EXPECT_FALSE(std::filesystem::exists(target_ + ".partial.journal"));
}

TEST_F(Stopped, ByAFullDiskItLeavesNothing) {
  const std::string disk = scratch_ / "disk";
  std::filesystem::create_directory(disk);
  // A mount of our own needs a name space of our own, which not every system lets one have.
  const std::string script =
      "mount -t tmpfs -o size=1m none \"$3\" || exit 77; echo precious >\"$3/m.safetensors\"; "
      "\"$1\" convert \"$2\" \"$3/m.safetensors\" --dtype f16 --force; echo \"exit $?\"; "
      "ls \"$3\"; cat \"$3/m.safetensors\"";
  const auto result = run_command(
      {"unshare", "--user", "--map-root-user", "--mount", "bash", "-c", script, "bash", REGAUGE_CLI, source_, disk});
  if (result.exit_code == 77 || result.out.empty())
    GTEST_SKIP() << "no file system can be mounted here: " << result.err;
  EXPECT_EQ(result.out, "exit 2\nm.safetensors\nprecious\n");
  EXPECT_NE(result.err.find("No space left"), std::string::npos) << result.err;
}

TEST_F(Stopped, ASecondRunOnTheSameTargetIsTurnedAway) {
  RunningCommand running(command());
  ASSERT_TRUE(wait_for_bands());
  const auto second = run_command(command({"--resume"}));
  EXPECT_EQ(second.exit_code, 2);
  EXPECT_NE(second.err.find("in use"), std::string::npos) << second.err;
  EXPECT_EQ(running.wait().exit_code, 0);
}

}  // namespace
}  // namespace regauge
