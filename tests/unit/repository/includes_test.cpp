// Which folder may include which: the rule that keeps the rooms apart, held against every #include of the source tree.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace {

namespace fs = std::filesystem;

using Edges = std::map<std::string, std::set<std::string>>;

// "formats" is the files that lie in formats/ itself: the seam (format.h), the writer that formats of fixed placement
// share, and the registry, which names every format.
// A folder may always include itself.
const Edges kAllowed = {
    {"base", {}},
    {"ir", {"base"}},
    {"models", {"ir", "base"}},
    {"formats",
     {"formats/safetensors", "formats/gptq", "formats/mlx", "formats/gguf", "formats/container", "formats/layouts",
      "models", "ir", "base"}},
    {"formats/layouts", {"ir", "base"}},
    {"formats/safetensors",
     {"formats/format.h", "formats/positional_file.h", "formats/positional_writer.h", "formats/layouts", "models", "ir",
      "base"}},
    {"formats/gptq",
     {"formats/format.h", "formats/positional_file.h", "formats/positional_writer.h", "formats/safetensors",
      "formats/layouts", "models", "ir", "base"}},
    {"formats/mlx",
     {"formats/format.h", "formats/positional_file.h", "formats/positional_writer.h", "formats/safetensors",
      "formats/layouts", "models", "ir", "base"}},
    {"formats/gguf",
     {"formats/format.h", "formats/positional_file.h", "formats/positional_writer.h", "formats/layouts", "models", "ir",
      "base"}},
    {"formats/container",
     {"formats/format.h", "formats/positional_file.h", "formats/positional_writer.h", "formats/gguf", "formats/layouts",
      "models", "ir", "base"}},
    {"convert", {"formats/format.h", "formats/layouts", "models", "ir", "base"}},
    {"inspect", {"formats/format.h", "models", "ir", "base"}},
    {"verify", {"convert", "inspect", "formats/format.h", "formats/layouts", "models", "ir", "base"}},
    {"cli",
     {"verify", "inspect", "convert", "formats", "formats/layouts", "formats/safetensors", "formats/gptq",
      "formats/mlx", "formats/gguf", "formats/container", "models", "ir", "base"}},
};

// Headers that only one room may see, because of what they let it do.
const std::map<std::string, std::string> kReserved = {
    {"CLI/", "cli"},      // the command line
    {"iostream", "cli"},  // the library prints nothing
};

/// The folder in which a path lives as far as the rule goes: its first directory, or two for formats/X.
std::string folder_of(const std::string& path) {
  const auto first = path.find('/');
  if (first == std::string::npos) return "";
  const auto room = path.substr(0, first);
  const auto second = path.find('/', first + 1);
  if (room == "formats" && second != std::string::npos) return path.substr(0, second);
  return room;
}

/// Every broken rule in the text of one file, as "file:line: what is wrong".
std::vector<std::string> broken_rules(const fs::path& root, const std::string& file, const std::string& text) {
  std::vector<std::string> broken;
  const std::string from = folder_of(file);
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    const auto hash = line.find_first_not_of(" \t");
    if (hash == std::string::npos || line[hash] != '#') continue;
    const auto word = line.find_first_not_of(" \t", hash + 1);
    if (word == std::string::npos || line.compare(word, 7, "include") != 0) continue;
    const auto open = line.find_first_of("<\"", word);
    const auto complain = [&](const std::string& why) {
      broken.push_back(file + ":" + std::to_string(number) + ": " + why);
    };
    if (open == std::string::npos) {
      complain("an include that is no plain name");
      continue;
    }
    const bool quoted = line[open] == '"';
    const auto close = line.find(quoted ? '"' : '>', open + 1);
    const auto target = line.substr(open + 1, close - open - 1);
    for (const auto& [prefix, room] : kReserved) {
      if (target.rfind(prefix, 0) == 0 && from != room) complain("<" + target + "> is for " + room + "/ alone");
    }
    const bool ours = kAllowed.contains(folder_of(target)) ? fs::exists(root / target) : target.rfind("tests/", 0) == 0;
    if (!quoted) {
      if (ours) complain("our header " + target + " in angle brackets");
      continue;
    }
    if (!ours) {
      complain("\"" + target + "\" is no path from the root of the tree");
      continue;
    }
    const auto to = folder_of(target);
    if (from == to) continue;
    const auto allowed = kAllowed.find(from);
    if (allowed == kAllowed.end()) {
      complain("folder " + from + " has no place in the dependency rule");
    } else if (!allowed->second.contains(to) && !allowed->second.contains(target)) {
      complain(from + " must not include " + target);
    }
  }
  return broken;
}

std::string read_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(Includes, OfEveryRoomObeyTheDependencyRule) {
  const fs::path root = REGAUGE_SOURCE_DIR;
  const std::set<std::string> rooms = {"base", "ir", "models", "formats", "convert", "inspect", "verify", "cli"};
  int files = 0;
  for (const auto& room : rooms) {
    for (const auto& entry : fs::recursive_directory_iterator(root / room)) {
      const auto extension = entry.path().extension();
      if (extension != ".h" && extension != ".cpp" && extension != ".inc") continue;
      ++files;
      const auto file = fs::relative(entry.path(), root).generic_string();
      for (const auto& broken : broken_rules(root, file, read_text(entry.path()))) ADD_FAILURE() << broken;
    }
  }
  EXPECT_GT(files, 20) << "the sources were not found below " << root;
}

TEST(Includes, EveryHeaderGuardsItselfWithPragmaOnce) {
  const fs::path root = REGAUGE_SOURCE_DIR;
  for (const auto* room : {"base", "ir", "models", "formats", "convert", "inspect", "verify", "cli", "tests"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root / room)) {
      if (entry.path().extension() != ".h") continue;
      EXPECT_NE(read_text(entry.path()).find("#pragma once\n"), std::string::npos) << entry.path();
    }
  }
}

// A header that its own source includes before anything else has to compile alone; the build generates a source for each
// of the others (cmake/RegaugeHeaders.cmake).
TEST(Includes, OfASourceBeginWithItsOwnHeader) {
  const fs::path root = REGAUGE_SOURCE_DIR;
  for (const auto* room : {"base", "ir", "models", "formats", "convert", "inspect", "verify", "cli"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root / room)) {
      auto header = entry.path();
      header.replace_extension(".h");
      if (entry.path().extension() != ".cpp" || !fs::exists(header)) continue;
      const auto own = "#include \"" + fs::relative(header, root).generic_string() + "\"\n";
      const auto text = read_text(entry.path());
      EXPECT_EQ(text.find("#include"), text.find(own)) << entry.path();
    }
  }
}

TEST(Includes, RuleHasNoCycle) {
  // Takes away folders that depend on nothing that is left, until none is left. The registry is the one place that
  // knows the formats; the two headers beside it that they know count as folders of their own.
  Edges left = kAllowed;
  left["formats/format.h"] = {"ir", "base"};
  left["formats/positional_file.h"] = {"formats/format.h", "base"};
  left["formats/positional_writer.h"] = {"formats/format.h", "formats/positional_file.h", "base"};
  while (!left.empty()) {
    const auto free = std::find_if(left.begin(), left.end(), [&](const auto& entry) {
      return std::none_of(entry.second.begin(), entry.second.end(), [&](const auto& to) { return left.contains(to); });
    });
    ASSERT_NE(free, left.end()) << "a cycle through " << left.begin()->first;
    left.erase(free);
  }
}

class BrokenRules : public ::testing::Test {
 protected:
  static std::vector<std::string> of(const std::string& file, const std::string& text) {
    return broken_rules(REGAUGE_SOURCE_DIR, file, text);
  }
};

TEST_F(BrokenRules, NameFileAndLineOfAForbiddenEdge) {
  EXPECT_EQ(of("base/x.cpp", "// first\n#include \"ir/dtype.h\"\n"),
            std::vector<std::string>{"base/x.cpp:2: base must not include ir/dtype.h"});
  EXPECT_EQ(of("formats/layouts/x.h", "  #  include \"formats/format.h\"").size(), 1U);
  EXPECT_EQ(of("formats/gguf/x.h", "#include \"convert/fidelity.h\"").size(), 1U);
  EXPECT_EQ(of("ir/decode/x.h", "#include \"tests/support/golden.h\"").size(), 1U);
  EXPECT_EQ(of("newroom/x.h", "#include \"base/half.h\"").size(), 1U);
}

TEST_F(BrokenRules, CountPathsThatDoNotStartAtTheRoot) {
  EXPECT_EQ(of("base/x.cpp", "#include \"half.h\"").size(), 1U);
  EXPECT_EQ(of("base/x.cpp", "#include \"../base/half.h\"").size(), 1U);
  EXPECT_EQ(of("ir/x.cpp", "#include <base/half.h>").size(), 1U);
  EXPECT_EQ(of("ir/x.cpp", "#include REGAUGE_TABLE").size(), 1U);
}

TEST_F(BrokenRules, CountHeadersThatBelongToTheCommandLine) {
  EXPECT_EQ(of("base/x.cpp", "#include <iostream>").size(), 1U);
  EXPECT_EQ(of("convert/x.cpp", "#include <CLI/CLI.hpp>").size(), 1U);
  EXPECT_TRUE(of("cli/x.cpp", "#include <CLI/CLI.hpp>\n#include <iostream>\n").empty());
}

TEST_F(BrokenRules, AreNoneForAllowedEdges) {
  EXPECT_TRUE(of("ir/decode/x.cpp", "#include \"ir/dtype.h\"\n#include \"base/half.h\"\n#include <vector>\n").empty());
  EXPECT_TRUE(of("formats/gptq/x.cpp", "#include \"formats/format.h\"\n#include \"ir/dtype.h\"\n").empty());
  EXPECT_TRUE(of("convert/x.cpp", "#include \"formats/format.h\"").empty());
  EXPECT_TRUE(of("base/x.cpp", "const char* text = \"#include\";").empty());
}

}  // namespace
