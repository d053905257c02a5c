#include "base/output_directory.h"

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
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

class OutputDirectoryTest : public ::testing::Test {
 protected:
  fs::path target() const { return scratch_ / "model"; }
  fs::path partial() const { return scratch_ / "model.partial"; }

  OutputDirectory create(const OutputOptions& options = {}) const {
    return OutputDirectory::create(target(), options, ".safetensors");
  }

  static void put(const fs::path& path, std::string_view text) {
    fs::create_directories(path.parent_path());
    write_whole_file(path, bytes_of(text));
  }

  static void write(OutputDirectory& output, const std::string& name, std::string_view text) {
    output.make(name).write_at(0, bytes_of(text));
  }

  static std::string content(const fs::path& path) { return std::string(text_of(read_whole_file(path))); }

  /// Names of everything below the scratch folder, sorted.
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : fs::recursive_directory_iterator(scratch_.path())) {
      found.push_back(entry.path().lexically_relative(scratch_.path()).native());
    }
    std::ranges::sort(found);
    return found;
  }

  ScratchDir scratch_;
};

using Names = std::vector<std::string>;

TEST_F(OutputDirectoryTest, CommitPutsAllFilesAtTheTargetAndLeavesNothingElse) {
  auto output = create();
  write(output, "config.json", "{}");
  write(output, "eora/adapter/a.safetensors", "factors");
  EXPECT_FALSE(fs::exists(target())) << "not touched before commit";
  EXPECT_TRUE(fs::is_directory(partial()));
  output.commit();
  EXPECT_EQ(names(), (Names{"model", "model/config.json", "model/eora", "model/eora/adapter",
                            "model/eora/adapter/a.safetensors"}));
  EXPECT_EQ(content(target() / "config.json"), "{}");
  EXPECT_EQ(content(target() / "eora/adapter/a.safetensors"), "factors");
}

TEST_F(OutputDirectoryTest, AFileThatWasMadeCanBeOpenedAgainByAnyThread) {
  auto output = create();
  output.make("sub/a").preallocate(8);
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 8; ++t) {
      threads.emplace_back([&output, t] {
        output.open("sub/a").write_at(static_cast<std::uint64_t>(t),
                                      bytes_of(std::string(1, static_cast<char>('0' + t))));
      });
    }
  }
  EXPECT_EQ(code_of([&] { output.open("sub/b"); }), ErrorCode::internal);
  output.commit();
  EXPECT_EQ(content(target() / "sub/a"), "01234567");
}

TEST_F(OutputDirectoryTest, ATrailingSlashMeansTheSameDirectory) {
  auto output = OutputDirectory::create(target() / "", {}, ".safetensors");
  write(output, "a", "a");
  output.commit();
  EXPECT_EQ(content(target() / "a"), "a");
}

TEST_F(OutputDirectoryTest, AnOutputThatIsGivenUpLeavesTheOldTargetAndNoPartial) {
  put(target() / "model.safetensors", "old");
  const Names before = names();
  {
    auto output = create({.overwrite = true});
    write(output, "deep/er/model.safetensors", "half of the new");
    EXPECT_EQ(content(target() / "model.safetensors"), "old");
  }
  EXPECT_EQ(names(), before);
}

TEST_F(OutputDirectoryTest, GivingUpRemovesOnlyWhatWasMade) {
  {
    auto output = create();
    write(output, "sub/a", "a");
    put(partial() / "sub/somebody else's", "precious");
  }
  EXPECT_EQ(names(), (Names{"model.partial", "model.partial/sub", "model.partial/sub/somebody else's"}));
}

TEST_F(OutputDirectoryTest, AnOutputThatIsGivenUpKeepsItsPartialWhenAsked) {
  {
    auto output = create({.on_failure = OnFailure::keep});
    write(output, "a", "half");
  }
  EXPECT_EQ(names(), (Names{"model.partial", "model.partial/a"}));
}

TEST_F(OutputDirectoryTest, AnExistingTargetNeedsOverwriteAndIsReplacedAsAWhole) {
  put(target() / "model-00001-of-00002.safetensors", "old");
  put(target() / "eora/old.txt", "old");
  EXPECT_EQ(code_of([&] { create(); }), ErrorCode::invalid);
  EXPECT_EQ(content(target() / "eora/old.txt"), "old");
  auto output = create({.overwrite = true});
  write(output, "model.safetensors", "new");
  output.commit();
  EXPECT_EQ(names(), (Names{"model", "model/model.safetensors"}));
}

TEST_F(OutputDirectoryTest, AnEmptyDirectoryMayBeReplaced) {
  fs::create_directory(target());
  EXPECT_EQ(code_of([&] { create(); }), ErrorCode::invalid);
  auto output = create({.overwrite = true});
  write(output, "a", "new");
  output.commit();
  EXPECT_EQ(names(), (Names{"model", "model/a"}));
}

TEST_F(OutputDirectoryTest, ADirectoryThatIsNoCheckpointIsNeverReplaced) {
  put(target() / "thesis.txt", "years of work");
  put(target() / "models/model.safetensors", "deeper down does not count");
  const Names before = names();
  EXPECT_EQ(code_of([&] { create({.overwrite = true, .replace_partial = true}); }), ErrorCode::invalid);
  EXPECT_EQ(names(), before);
}

TEST_F(OutputDirectoryTest, ADirectoryThatBecomesSomethingElseMeanwhileIsNotReplaced) {
  put(target() / "model.safetensors", "old");
  {
    auto output = create({.overwrite = true});
    write(output, "a", "new");
    fs::remove(target() / "model.safetensors");
    put(target() / "thesis.txt", "years of work");
    EXPECT_EQ(code_of([&] { output.commit(); }), ErrorCode::invalid);
  }
  EXPECT_EQ(names(), (Names{"model", "model/thesis.txt"}));
}

TEST_F(OutputDirectoryTest, ATargetThatAppearsMeanwhileIsNotOverwritten) {
  {
    auto output = create();
    write(output, "a", "ours");
    put(target() / "a", "somebody else's");
    EXPECT_EQ(code_of([&] { output.commit(); }), ErrorCode::invalid);
  }
  EXPECT_EQ(content(target() / "a"), "somebody else's");
  EXPECT_FALSE(fs::exists(partial()));
}

TEST_F(OutputDirectoryTest, AStalePartialNeedsReplacePartialAndIsEmptiedThen) {
  put(partial() / "model.safetensors", "left over");
  put(partial() / "sub/old", "left over");
  EXPECT_EQ(code_of([&] { create(); }), ErrorCode::invalid);
  EXPECT_EQ(content(partial() / "sub/old"), "left over");
  auto output = create({.replace_partial = true});
  write(output, "model.safetensors", "new");
  output.commit();
  EXPECT_EQ(names(), (Names{"model", "model/model.safetensors"}));
  EXPECT_EQ(content(target() / "model.safetensors"), "new");
}

TEST_F(OutputDirectoryTest, APartialThatIsNoCheckpointIsNotEmptied) {
  put(partial() / "thesis.txt", "years of work");
  EXPECT_EQ(code_of([&] { create({.replace_partial = true}); }), ErrorCode::invalid);
  EXPECT_EQ(content(partial() / "thesis.txt"), "years of work");
}

TEST_F(OutputDirectoryTest, AnEmptyStalePartialIsNobodysLoss) {
  fs::create_directory(partial());
  EXPECT_EQ(code_of([&] { create().commit(); }), std::nullopt);
  EXPECT_EQ(names(), Names{"model"});
}

TEST_F(OutputDirectoryTest, AResumedRunFindsTheBytesOfTheLastOne) {
  put(partial() / "sub/a", "left over");
  auto output = create({.resume = true});
  WritableFile file = output.make("sub/a");
  file.write_at(0, bytes_of(std::string_view("Left")));
  output.commit();
  EXPECT_EQ(content(target() / "sub/a"), "Left over");
}

TEST_F(OutputDirectoryTest, WhatAnEarlierRunLeftAndThisOneDidNotMakeIsNotPublished) {
  put(partial() / "model-00001-of-00003.safetensors", "of another plan");
  {
    auto output = create({.resume = true});
    write(output, "model.safetensors", "new");
    EXPECT_EQ(code_of([&] { output.commit(); }), ErrorCode::invalid);
  }
  EXPECT_FALSE(fs::exists(target()));
  EXPECT_EQ(names(), (Names{"model.partial", "model.partial/model-00001-of-00003.safetensors"}));
}

TEST_F(OutputDirectoryTest, ASecondRunOnTheSameTargetIsRefusedAndHarmsNothing) {
  auto first = create();
  write(first, "a.safetensors", "first");
  EXPECT_EQ(code_of([&] { create(); }), ErrorCode::io);
  EXPECT_EQ(code_of([&] { create({.overwrite = true, .replace_partial = true}); }), ErrorCode::io);
  EXPECT_EQ(code_of([&] { create({.resume = true}); }), ErrorCode::io);
  first.commit();
  EXPECT_EQ(content(target() / "a.safetensors"), "first");
  EXPECT_EQ(code_of([&] { create(); }), ErrorCode::invalid) << "now it is the target that is there";
}

TEST_F(OutputDirectoryTest, RacingRunsEndInExactlyOneResultOfOnePiece) {
  for (int round = 0; round < 30; ++round) {
    std::vector<int> committed(4);
    {
      std::vector<std::jthread> threads;
      for (std::size_t t = 0; t < committed.size(); ++t) {
        threads.emplace_back([&, t] {
          try {
            auto output = create();
            for (const char* name : {"a", "b/c"}) write(output, name, std::string(1000, static_cast<char>('a' + t)));
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
    ASSERT_EQ(names(), (Names{"model", "model/a", "model/b", "model/b/c"}));
    for (const char* name : {"a", "b/c"}) {
      ASSERT_EQ(content(target() / name), std::string(1000, static_cast<char>('a' + winner)));
    }
    fs::remove_all(target());
  }
}

TEST_F(OutputDirectoryTest, AKilledRunLeavesTheTargetAsItWasAndAPartialThatCanBeReplaced) {
  put(target() / "model.safetensors", "old");
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto output = create({.overwrite = true});
    WritableFile file = output.make("model.safetensors");
    file.preallocate(1000);
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(content(target() / "model.safetensors"), "old");
  EXPECT_EQ(fs::file_size(partial() / "model.safetensors"), 1000U);
  EXPECT_EQ(code_of([&] { create({.overwrite = true}); }), ErrorCode::invalid);
  auto output = create({.overwrite = true, .replace_partial = true});
  write(output, "model.safetensors", "new");
  output.commit();
  EXPECT_EQ(content(target() / "model.safetensors"), "new");
}

TEST_F(OutputDirectoryTest, PlacesThatCannotHoldADirectoryAreRefused) {
  put(target(), "a file");
  EXPECT_EQ(code_of([&] { create({.overwrite = true}); }), ErrorCode::invalid);
  EXPECT_EQ(content(target()), "a file");
  for (const char* name : {"", ".", "..", "/"}) {
    EXPECT_EQ(code_of([&] { OutputDirectory::create(scratch_.path() / name / ".", {}, ".x"); }), ErrorCode::invalid);
  }
  EXPECT_EQ(code_of([&] { OutputDirectory::create("/", {.overwrite = true}, ".x"); }), ErrorCode::invalid);
  EXPECT_EQ(code_of([&] { OutputDirectory::create(scratch_ / "absent/model", {}, ".x"); }), ErrorCode::not_found);
  put(partial(), "a file");
  fs::remove(target());
  EXPECT_EQ(code_of([&] { create({.replace_partial = true}); }), ErrorCode::invalid);
  EXPECT_EQ(content(partial()), "a file");
}

TEST_F(OutputDirectoryTest, ATargetOrPartialThatIsALinkIsNotFollowed) {
  put(scratch_ / "precious/model.safetensors", "precious");
  fs::create_directory_symlink("precious", target());
  EXPECT_EQ(code_of([&] { create({.overwrite = true, .replace_partial = true}); }), ErrorCode::invalid);
  fs::rename(target(), partial());
  EXPECT_EQ(code_of([&] { create({.overwrite = true, .replace_partial = true, .resume = true}); }), ErrorCode::invalid);
  EXPECT_EQ(content(scratch_ / "precious/model.safetensors"), "precious");
}

TEST_F(OutputDirectoryTest, LinksInsideThePartialLeadNowhere) {
  put(scratch_ / "precious/a", "precious");
  fs::create_directory(partial());
  fs::create_directory_symlink("../precious", partial() / "sub");
  fs::create_symlink("../precious/a", partial() / "a");
  {
    auto output = create({.resume = true});
    EXPECT_EQ(code_of([&] { output.make("sub/a"); }), ErrorCode::invalid);
    EXPECT_EQ(code_of([&] { output.make("a"); }), ErrorCode::invalid);
  }
  EXPECT_EQ(content(scratch_ / "precious/a"), "precious");
}

TEST_F(OutputDirectoryTest, RemovingAStalePartialStopsAtItsLinks) {
  put(scratch_ / "precious/a", "precious");
  put(partial() / "model.safetensors", "left over");
  fs::create_directory_symlink("../precious", partial() / "sub");
  create({.replace_partial = true}).commit();
  EXPECT_EQ(names(), (Names{"model", "precious", "precious/a"}));
}

TEST_F(OutputDirectoryTest, NamesThatAreNoPlainRelativePathAreRefused) {
  auto output = create();
  for (const char* name :
       {"", "/etc/passwd", "..", "../a", "a/../../b", "a/..", ".", "./a", "a//b", "a/", "a\nb", "a\x7f"}) {
    EXPECT_EQ(code_of([&] { output.make(name); }), ErrorCode::invalid) << name;
  }
  EXPECT_EQ(code_of([&] { output.make(std::string("a\0b", 3)); }), ErrorCode::invalid);
  for (const char* name : {"..a", "a..", "...", ".hidden", "a b/c", "ä"}) {
    EXPECT_EQ(code_of([&] { output.make(name); }), std::nullopt) << name;
  }
}

TEST_F(OutputDirectoryTest, OneNameCannotBeTwoFilesOrAFileAndAFolder) {
  auto output = create();
  write(output, "a", "a");
  write(output, "b/c", "c");
  EXPECT_EQ(code_of([&] { output.make("a"); }), ErrorCode::invalid);
  EXPECT_EQ(code_of([&] { output.make("a/b"); }), ErrorCode::invalid);
  EXPECT_EQ(code_of([&] { output.make("b"); }), ErrorCode::invalid);
}

TEST_F(OutputDirectoryTest, MovingKeepsTheOutputAndAssigningGivesUpTheOldOne) {
  auto first = create();
  auto second = OutputDirectory::create(scratch_ / "other", {}, ".safetensors");
  write(first, "a", "one");
  write(second, "a", "two");
  second = std::move(first);
  EXPECT_FALSE(fs::exists(scratch_ / "other.partial"));
  second.commit();
  EXPECT_EQ(names(), (Names{"model", "model/a"}));
}

}  // namespace
}  // namespace regauge
