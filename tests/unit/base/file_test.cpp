#include "base/file.h"

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/error.h"
#include "tests/support/golden.h"

namespace regauge {
namespace {

using testing::ScratchDir;
using testing::write_whole_file;

constexpr std::uint64_t kMax64 = std::numeric_limits<std::uint64_t>::max();

template <typename Act>
void expect_error(ErrorCode code, const std::filesystem::path& path, Act act) {
  try {
    act();
    ADD_FAILURE() << "nothing was thrown for " << path;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_EQ(error.file(), path.native()) << error.what();
  }
}

class FileTest : public ::testing::Test {
 protected:
  std::filesystem::path write(std::string_view text) {
    auto path = scratch_ / "file.bin";
    write_whole_file(path, bytes_of(text));
    return path;
  }

  ScratchDir scratch_;
};

TEST_F(FileTest, ReadsAnyRangeByPosition) {
  const File file = File::open(write("0123456789"));
  EXPECT_EQ(file.size(), 10U);
  EXPECT_EQ(text_of(file.read_range(3, 4)), "3456");
  EXPECT_EQ(text_of(file.read_range(0, 10)), "0123456789");
  EXPECT_TRUE(file.read_range(10, 0).empty());
}

TEST_F(FileTest, KnowsItsPathAndTime) {
  const auto path = write("x");
  const timespec times[2] = {{.tv_sec = 1'700'000'000, .tv_nsec = 5},
                             {.tv_sec = 1'700'000'001, .tv_nsec = 123'456'789}};
  ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
  const File file = File::open(path);
  EXPECT_EQ(file.path(), path.native());
  EXPECT_EQ(file.modified_ns(), 1'700'000'001'123'456'789);
}

TEST_F(FileTest, KeepsAPathThatIsNotUtf8AsItIs) {
  const auto path = scratch_ / "na\xFFme";
  write_whole_file(path, bytes_of(std::string_view("x")));
  EXPECT_EQ(File::open(path).path(), path.native());
}

TEST_F(FileTest, StaysUsableWhenMoved) {
  File first = File::open(write("0123456789"));
  const File second = std::move(first);
  EXPECT_EQ(text_of(second.read_range(9, 1)), "9");
}

TEST_F(FileTest, ManyThreadsReadAtOnce) {
  std::string text;
  for (int i = 0; i < 100'000; ++i) text += static_cast<char>('a' + i % 23);
  const File file = File::open(write(text));
  std::vector<int> faults(8);
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < faults.size(); ++t) {
      threads.emplace_back([&, t] {
        for (std::size_t at = t; at + 100 <= text.size(); at += 97) {
          if (text_of(file.read_range(at, 100)) != text.substr(at, 100)) ++faults[t];
        }
      });
    }
  }
  EXPECT_EQ(faults, std::vector<int>(8, 0));
}

TEST_F(FileTest, NothingThereIsNotFound) {
  for (const auto& path : {scratch_ / "absent", scratch_ / "absent/deeper", write("x") / "below-a-file"}) {
    expect_error(ErrorCode::not_found, path, [&] { File::open(path); });
  }
  const auto dangling = scratch_ / "dangling";
  std::filesystem::create_symlink("nowhere", dangling);
  expect_error(ErrorCode::not_found, dangling, [&] { File::open(dangling); });
}

TEST_F(FileTest, WhatIsNotARegularFileIsRefusedWithoutHanging) {
  expect_error(ErrorCode::invalid, scratch_.path(), [&] { File::open(scratch_.path()); });
  const auto fifo = scratch_ / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  expect_error(ErrorCode::invalid, fifo, [&] { File::open(fifo); });
  expect_error(ErrorCode::invalid, "/dev/zero", [] { File::open("/dev/zero"); });
  const auto link = scratch_ / "link";
  std::filesystem::create_symlink("/dev/zero", link);
  expect_error(ErrorCode::invalid, link, [&] { File::open(link); });
}

TEST_F(FileTest, OtherRefusalsOfTheSystemAreIo) {
  const auto loop = scratch_ / "loop";
  std::filesystem::create_symlink("loop", loop);
  expect_error(ErrorCode::io, loop, [&] { File::open(loop); });
  const auto long_name = scratch_ / std::string(300, 'n');
  expect_error(ErrorCode::io, long_name, [&] { File::open(long_name); });
}

TEST_F(FileTest, ReadingPastTheEndIsIoWithTheOffset) {
  const auto path = write("0123456789");
  const File file = File::open(path);
  std::vector<std::byte> out(4);
  for (const std::uint64_t offset : {std::uint64_t{7}, std::uint64_t{10}, std::uint64_t{1} << 63, kMax64 - 1, kMax64}) {
    expect_error(ErrorCode::io, path, [&] { file.read_at(offset, out); });
  }
  try {
    file.read_at(7, out);
  } catch (const Error& error) {
    EXPECT_EQ(error.byte_offset(), 10U) << "where the file ends";
  }
}

TEST_F(FileTest, ARangeThatLiesIsRefusedBeforeAnythingIsAllocated) {
  const auto path = write("0123456789");
  const File file = File::open(path);
  // Any of these counts would be a bad_alloc if it reached the allocator.
  for (const auto& [offset, count] : std::vector<std::pair<std::uint64_t, std::uint64_t>>{
           {0, kMax64}, {0, std::uint64_t{1} << 62}, {10, kMax64 - 9}, {kMax64, 1}, {11, 0}, {5, 6}}) {
    expect_error(ErrorCode::io, path, [&, o = offset, c = count] { file.read_range(o, c); });
  }
}

TEST_F(FileTest, AFileThatShrinksAfterOpeningFailsTheReadThatMissesBytes) {
  const auto path = write("0123456789");
  const File file = File::open(path);
  std::filesystem::resize_file(path, 6);
  EXPECT_EQ(text_of(file.read_range(0, 6)), "012345");
  try {
    file.read_range(4, 4);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::io);
    EXPECT_EQ(error.byte_offset(), 6U);
  }
}

TEST_F(FileTest, LeavesNoDescriptorToChildPrograms) {
  const auto path = write("x");
  const int probe = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::close(probe);
  const File file = File::open(path);
  EXPECT_EQ(fcntl(probe, F_GETFD), FD_CLOEXEC) << "the lowest free descriptor is the file's";
}

TEST_F(FileTest, ReadsATextFileWhole) {
  EXPECT_EQ(read_text_file(write("line\nline"), 100), "line\nline");
  EXPECT_EQ(read_text_file(write(std::string_view("a\0b", 3)), 3), std::string("a\0b", 3));
  EXPECT_EQ(read_text_file(write(""), 0), "");
}

TEST_F(FileTest, ATextFileBeyondItsLimitIsRefusedUnread) {
  const auto path = write("");
  std::filesystem::resize_file(path,
                               std::uint64_t{1} << 40);  // sparse: reading or allocating it would not go unnoticed
  expect_error(ErrorCode::malformed, path, [&] { read_text_file(path, 64 << 20); });
}

TEST(FileDescriptor, ClosesItsFileOnceWhateverTheMoves) {
  int raw = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(raw, 0);
  {
    FileDescriptor first(raw);
    FileDescriptor second(std::move(first));
    first = std::move(second);
    EXPECT_EQ(first.get(), raw);
    EXPECT_FALSE(second);  // NOLINT(bugprone-use-after-move): a moved-from descriptor is none, by contract
  }
  EXPECT_EQ(fcntl(raw, F_GETFD), -1);
  EXPECT_EQ(errno, EBADF);
}

}  // namespace
}  // namespace regauge
