#include "base/folder.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/array_file.h"
#include "tests/support/golden.h"

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::ScratchDir;
using testing::write_text;

TEST(DiskFolder, OpensItsFilesByRelativePath) {
  const ScratchDir scratch;
  fs::create_directories(scratch / "model/sub");
  write_text(scratch / "model/sub/a.txt", "hello");
  const FolderPtr folder = disk_folder(scratch / "model");
  EXPECT_EQ(folder->file_bytes("sub/a.txt"), 5U);
  EXPECT_EQ(folder->read_text("sub/a.txt", 10), "hello");
  EXPECT_EQ(folder->open("sub/a.txt").path(), (scratch / "model/sub/a.txt").native());
  EXPECT_FALSE(folder->has_file("sub")) << "a folder is no file";
  EXPECT_FALSE(folder->has_file("b.txt"));
  EXPECT_THROW(folder->open("b.txt"), Error);
  EXPECT_THROW(folder->read_text("sub/a.txt", 4), Error);
}

TEST(DiskFolder, KnowsLinksThatLeadOut) {
  const ScratchDir scratch;
  fs::create_directories(scratch / "model");
  write_text(scratch / "secret", "x");
  write_text(scratch / "model/a", "x");
  fs::create_symlink("a", scratch / "model/inside");
  fs::create_symlink("../secret", scratch / "model/outside");
  const FolderPtr folder = disk_folder(scratch / "model");
  EXPECT_TRUE(folder->stays_inside("a"));
  EXPECT_TRUE(folder->stays_inside("inside"));
  EXPECT_FALSE(folder->stays_inside("outside"));
  EXPECT_THROW(folder->stays_inside("nothing"), Error);
}

TEST(VirtualFile, ReadsThroughItsReaderWithinItsSize) {
  std::uint64_t asked = 0;
  const File file = File::virtual_file("x/y", 10, 7, [&asked](std::uint64_t offset, std::span<std::byte> out) {
    asked = offset;
    for (std::byte& byte : out) byte = static_cast<std::byte>(offset++);
  });
  EXPECT_EQ(file.size(), 10U);
  EXPECT_EQ(file.path(), "x/y");
  EXPECT_EQ(file.modified_ns(), 7);
  EXPECT_EQ(file.read_range(8, 2), (std::vector<std::byte>{std::byte{8}, std::byte{9}}));
  EXPECT_EQ(asked, 8U);
  EXPECT_THROW(file.read_range(8, 3), Error);
  EXPECT_THROW(file.read_range(11, 0), Error);
  EXPECT_EQ(asked, 8U);
}

}  // namespace
}  // namespace regauge
