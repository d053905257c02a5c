#include "base/shell.h"

#include <array>
#include <string>

#include <gtest/gtest.h>

namespace regauge {
namespace {

TEST(ShellWord, StaysAsItIsWhereNoShellMinds) {
  EXPECT_EQ(shell_word("/models/Qwen3.5-27B_v1,@x:y=z+1%"), "/models/Qwen3.5-27B_v1,@x:y=z+1%");
}

TEST(ShellWord, IsQuotedWhereOneDoes) {
  EXPECT_EQ(shell_word(""), "''");
  EXPECT_EQ(shell_word("two words"), "'two words'");
  EXPECT_EQ(shell_word("it's $HOME"), R"('it'\''s $HOME')");
}

TEST(ShellWord, CannotPlayWithTheTerminal) { EXPECT_EQ(shell_word("a\x1b[2J"), R"($'a\x1b\x5b2J')"); }

TEST(ShellLine, QuotesEveryWordByItself) {
  const std::array<std::string, 3> words{"regauge", "doctor", "my model"};
  EXPECT_EQ(shell_line(words), "regauge doctor 'my model'");
}

}  // namespace
}  // namespace regauge
