#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/command.h"
#include "tests/support/golden.h"
#include "tests/support/patch.h"
#include "verify/doctor.h"

namespace regauge::testing {

/// A folder for broken checkpoints, and the program that mends them.
class DoctorWard : public ::testing::Test {
 protected:
  using Path = std::filesystem::path;

  /// A copy of a sample that tests may change; a file keeps its name, a directory is called "model".
  Path copied(const std::string& sample) {
    const Path from = sample_path(sample);
    const Path to = scratch_ / (std::filesystem::is_directory(from) ? "model" : from.filename().string());
    std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
    return to;
  }
  /// What the program makes of a sample with these options, which nothing is wrong with.
  Path converted(const std::string& sample, const std::string& name, std::vector<std::string> options) {
    const Path to = scratch_ / name;
    options.insert(options.begin(), {"convert", sample_path(sample).string(), to.string(), "--quiet"});
    run(options);
    EXPECT_TRUE(diagnose(to).healthy());
    return to;
  }
  Path gptq() { return converted("qwen35-gptq-int4", "model", {"--to", "gptq", "--drop", "mtp"}); }

  static void run(std::vector<std::string> words) {
    words.insert(words.begin(), REGAUGE_CLI);
    const CommandResult result = run_command(words);
    EXPECT_EQ(result.exit_code, 0) << result.err;
  }

  static const Ailment* find(const Diagnosis& diagnosis, std::string_view code) {
    for (const Ailment& ailment : diagnosis.ailments) {
      if (ailment.finding.code == code) return &ailment;
    }
    return nullptr;
  }
  /// The faults' codes, each once, in bytewise order.
  static std::vector<std::string> faults(const Diagnosis& diagnosis) {
    std::vector<std::string> codes;
    for (const Ailment& ailment : diagnosis.ailments) {
      if (ailment.finding.severity == Severity::fault) codes.push_back(ailment.finding.code);
    }
    std::ranges::sort(codes);
    codes.erase(std::unique(codes.begin(), codes.end()), codes.end());
    return codes;
  }
  static std::vector<std::string> faults(const Path& path) { return faults(diagnose(path)); }

  /// Says that `path` has the fault `code` and no other, runs its cure of that number, `other` in place of ORIGINAL or DONOR, and
  /// says that the outcome is healthy.
  static void expect_mended(const Path& path, const std::string& code, std::size_t cure = 0, const Path& other = {}) {
    const Diagnosis diagnosis = diagnose(path);
    EXPECT_EQ(faults(diagnosis), std::vector{code});
    const Ailment* ailment = find(diagnosis, code);
    ASSERT_NE(ailment, nullptr);
    EXPECT_FALSE(ailment->breaks.empty());
    EXPECT_FALSE(ailment->finding.message.empty());
    ASSERT_LT(cure, ailment->cures.size());
    std::vector<std::string> words = ailment->cures[cure].command;
    ASSERT_GE(words.size(), 4U);
    ASSERT_EQ(words.front(), "regauge");
    words.erase(words.begin());
    for (const char* placeholder : {"ORIGINAL", "DONOR"})
      std::ranges::replace(words, std::string(placeholder), other.string());
    run(words);
    EXPECT_EQ(faults(Path(words[2])), std::vector<std::string>{});
  }
  /// The same of a fault that no command mends, as it has to say.
  static void expect_hopeless(const Path& path, const std::string& code) {
    const Diagnosis diagnosis = diagnose(path);
    EXPECT_EQ(faults(diagnosis), std::vector{code});
    const Ailment* ailment = find(diagnosis, code);
    ASSERT_NE(ailment, nullptr);
    EXPECT_FALSE(ailment->breaks.empty());
    EXPECT_FALSE(ailment->finding.message.empty());
    ASSERT_FALSE(ailment->cures.empty());
    for (const Cure& cure : ailment->cures) {
      EXPECT_TRUE(cure.command.empty());
      EXPECT_FALSE(cure.effect.empty());
    }
  }

  const ScratchDir& scratch() const { return scratch_; }

 private:
  ScratchDir scratch_;
};

}  // namespace regauge::testing
