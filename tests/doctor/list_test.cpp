// What the doctor can tell, what its page explains, and what these tests break.
#include <algorithm>
#include <filesystem>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/patch.h"
#include "verify/doctor.h"

namespace regauge {
namespace {

namespace fs = std::filesystem;

std::set<std::string> told() {
  std::set<std::string> codes;
  for (const std::string_view code : ailment_codes()) codes.emplace(code);
  return codes;
}

TEST(DoctorsList, IsInOrderAndNamesNothingTwice) {
  const auto codes = ailment_codes();
  EXPECT_TRUE(std::ranges::is_sorted(codes));
  EXPECT_EQ(told().size(), codes.size());
}

/// The words in backquotes in the first cell of each row of the page's tables that are headed "code".
std::set<std::string> explained() {
  std::set<std::string> codes;
  std::istringstream page(testing::read_text(fs::path(REGAUGE_SOURCE_DIR) / "docs/doctor.md"));
  const std::regex word("`([^`]+)`");
  bool inside = false;
  for (std::string line; std::getline(page, line);) {
    if (line.rfind("| code |", 0) == 0) inside = true;
    if (line.empty()) inside = false;
    if (!inside || line.rfind("| `", 0) != 0) continue;
    const std::string cell = line.substr(1, line.find('|', 1) - 1);
    for (std::sregex_iterator at(cell.begin(), cell.end(), word); at != std::sregex_iterator(); ++at)
      EXPECT_TRUE(codes.insert((*at)[1]).second) << (*at)[1] << " is explained twice";
  }
  return codes;
}

TEST(DoctorsList, IsWhatThePageExplains) { EXPECT_EQ(explained(), told()); }

TEST(DoctorsList, HasABrokenSampleForEveryCode) {
  std::string tests;
  for (const auto& entry : fs::directory_iterator(fs::path(REGAUGE_SOURCE_DIR) / "tests/doctor")) {
    if (entry.path().filename() != "list_test.cpp") tests += testing::read_text(entry.path());
  }
  for (const std::string& code : told())
    EXPECT_NE(tests.find('"' + code + '"'), std::string::npos) << "no test breaks a checkpoint for " << code;
}

}  // namespace
}  // namespace regauge
