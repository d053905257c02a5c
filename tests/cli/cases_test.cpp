// Runs every folder of tests/cli/cases: see README.md there.
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <sys/wait.h>

#include "tests/support/golden.h"

namespace regauge {
namespace {

namespace fs = std::filesystem;

const fs::path& cases_folder() {
  static const fs::path kFolder = fs::path(REGAUGE_SOURCE_DIR) / "tests/cli/cases";
  return kFolder;
}

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(cases_folder())) {
    if (fs::exists(entry.path() / "cmd")) names.push_back(entry.path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

std::string text_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// The file's text, or nothing expected: an absent file stands for silence.
std::string expected_text(const fs::path& path) { return fs::exists(path) ? text_of(path) : ""; }

int expected_exit(const fs::path& folder) {
  return fs::exists(folder / "exit") ? std::stoi(text_of(folder / "exit")) : 0;
}

std::string quoted(const fs::path& path) { return "'" + path.string() + "'"; }

class CliCase : public ::testing::TestWithParam<std::string> {};

TEST_P(CliCase, AnswersAsWritten) {
  const fs::path folder = cases_folder() / GetParam();
  const testing::ScratchDir scratch;
  const fs::path work = scratch / "work";
  fs::create_directory(work);
  const std::string command = "cd " + quoted(work) + " && env -u NO_COLOR LC_ALL=C REGAUGE=" + quoted(REGAUGE_CLI) +
                              " SAMPLES=" + quoted(fs::path(REGAUGE_SOURCE_DIR) / "samples") + " bash " +
                              quoted(folder / "cmd") + " >" + quoted(scratch / "stdout") + " 2>" +
                              quoted(scratch / "stderr") + " </dev/null";
  const int status = std::system(command.c_str());
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), expected_exit(folder));
  EXPECT_EQ(text_of(scratch / "stdout"), expected_text(folder / "stdout"));
  EXPECT_EQ(text_of(scratch / "stderr"), expected_text(folder / "stderr"));
}

std::string test_name(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(Cases, CliCase, ::testing::ValuesIn(case_names()), test_name);

}  // namespace
}  // namespace regauge
