#include <algorithm>
#include <chrono>
#include <random>

#include <gtest/gtest.h>

#include <signal.h>

#include "tests/support/big_checkpoint.h"
#include "tests/support/command.h"
#include "tests/support/golden.h"

// The program killed at random moments, and gone on with until it is done.

namespace regauge {
namespace {

using testing::read_whole_file;
using testing::RunningCommand;
using testing::ScratchDir;
using Clock = std::chrono::steady_clock;

constexpr int kKills = 40;

class Killed : public ::testing::Test {
 protected:
  std::vector<std::string> command(const std::filesystem::path& source, const std::filesystem::path& target) const {
    std::vector<std::string> words = {REGAUGE_CLI, "convert", source, target, "--quiet"};
    words.insert(words.end(), options_.begin(), options_.end());
    return words;
  }

  /// The bytes of every file below the folder, by name.
  static std::vector<std::pair<std::string, std::vector<std::byte>>> contents(const std::filesystem::path& folder) {
    std::vector<std::pair<std::string, std::vector<std::byte>>> found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      if (entry.is_regular_file())
        found.emplace_back(entry.path().lexically_relative(folder), read_whole_file(entry.path()));
    }
    std::ranges::sort(found);
    return found;
  }

  void expect_same_bytes_however_often_killed(const std::filesystem::path& source, const std::string& name) {
    std::filesystem::create_directory(scratch_ / "whole");
    const auto start = Clock::now();
    ASSERT_EQ(testing::run_command(command(source, scratch_ / "whole" / name)).exit_code, 0);
    const auto whole_run = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start);
    const auto expected = contents(scratch_ / "whole");

    std::mt19937 random(20);
    int kills = 0;
    while (kills < kKills) {
      const std::filesystem::path folder = scratch_ / "killed";
      std::filesystem::remove_all(folder);
      std::filesystem::create_directory(folder);
      if (replaces_) std::filesystem::copy(scratch_ / "whole", folder, std::filesystem::copy_options::recursive);
      auto words = command(source, folder / name);
      words.insert(words.end(), {"--resume", "--threads", "1"});
      for (bool done = false; !done;) {
        words.back() = std::to_string(std::array{1, 2, 7}[random() % 3]);
        RunningCommand running(words);
        const auto moment = std::uniform_int_distribution<std::int64_t>(0, whole_run.count())(random);
        done = running.ends_within(std::chrono::microseconds(moment));
        if (!done) running.send(SIGKILL);
        const auto result = running.wait();
        // It may have ended between the last look and the kill, or have done all but end.
        if (result.exit_code == 0) break;
        ASSERT_EQ(result.exit_code, 128 + SIGKILL) << result.err;
        ++kills;
        // Then only --force would do it again.
        done = !replaces_ && std::filesystem::exists(folder / name) &&
               !std::filesystem::exists(folder / (name + ".partial.journal"));
      }
      ASSERT_EQ(contents(folder), expected);
    }
  }

  ScratchDir scratch_;
  std::vector<std::string> options_;
  bool replaces_ = false;  ///< an older output lies there
};

TEST_F(Killed, ALargeFileComesOutTheSame) {
  testing::write_big_safetensors(scratch_ / "big.safetensors", 4, 1024, 4096);
  options_ = {"--dtype", "f16"};
  expect_same_bytes_however_often_killed(scratch_ / "big.safetensors", "model.safetensors");
}

TEST_F(Killed, AVerifiedRunComesOutTheSame) {
  testing::write_big_safetensors(scratch_ / "big.safetensors", 3, 1024, 4096);
  options_ = {"--dtype", "f16", "--verify", "--max-memory", "64MiB"};
  expect_same_bytes_however_often_killed(scratch_ / "big.safetensors", "model.safetensors");
}

TEST_F(Killed, TwoOutputsComeOutTheSame) {
  expect_same_bytes_however_often_killed(testing::sample_path("qwen35-gptq-int4"), "model.gguf");
}

TEST_F(Killed, ADirectoryComesOutTheSame) {
  options_ = {"--to", "gptq", "--split-max-size", "500K"};
  expect_same_bytes_however_often_killed(testing::sample_path("qwen35-gptq-int4"), "gptq");
}

TEST_F(Killed, WhatItReplacesIsGoneInTheEnd) {
  options_ = {"--to", "mlx", "--force"};
  replaces_ = true;
  expect_same_bytes_however_often_killed(testing::sample_path("qwen35-gptq-int4"), "mlx");
}

}  // namespace
}  // namespace regauge
