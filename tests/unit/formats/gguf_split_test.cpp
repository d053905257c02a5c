#include <gtest/gtest.h>

#include "base/error.h"
#include "formats/gguf/gguf.h"
#include "tests/support/builders.h"
#include "tests/support/golden.h"
#include "tests/support/rewrite.h"

namespace regauge {
namespace {

using testing::GgufBytes;
using testing::ScratchDir;

/// Shard `number` (from 0) of three, each with one I8 tensor of its own; only the first has the model's keys, as
/// gguf-split writes them.
GgufBytes shard(std::uint16_t number) {
  GgufBytes file;
  file.preamble(1, number == 0 ? 4 : 3);
  if (number == 0) file.text_key("general.architecture", "llama");
  file.key("split.no", 2).u16(number).key("split.count", 2).u16(3).key("split.tensors.count", 5).i32(3);
  file.tensor("t" + std::to_string(number), {32}, 24, 0).pad();
  for (int i = 0; i < 32; ++i) file.u8(number);
  return file;
}

std::string shard_name(int number) { return "m-0000" + std::to_string(number) + "-of-00003.gguf"; }

TEST(GgufSplit, AnyShardOpensThemAll) {
  const ScratchDir scratch;
  for (std::uint16_t i = 0; i < 3; ++i) testing::write_whole_file(scratch / shard_name(i + 1), shard(i).bytes());
  for (int named = 1; named <= 3; ++named) {
    const Checkpoint checkpoint = open_checkpoint(scratch / shard_name(named));
    EXPECT_EQ(checkpoint.metadata.get_string("general.architecture"), "llama");
    EXPECT_TRUE(checkpoint.findings.empty());
    ASSERT_EQ(checkpoint.files.size(), 3U);
    ASSERT_EQ(checkpoint.tensors.size(), 3U);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(checkpoint.tensors[i].name, "t" + std::to_string(i));
      EXPECT_EQ(checkpoint.arrays[i].file, i);
      EXPECT_EQ(checkpoint.files[i].name, shard_name(static_cast<int>(i) + 1));
      EXPECT_EQ(testing::read_part(checkpoint.tensors[i].parts[0]), testing::Bytes(32, static_cast<std::byte>(i)));
    }
  }
}

TEST(GgufSplit, AllShardsBecomeOneFileThatOpensAlone) {
  const ScratchDir scratch;
  for (std::uint16_t i = 0; i < 3; ++i) testing::write_whole_file(scratch / shard_name(i + 1), shard(i).bytes());
  testing::rewrite(open_checkpoint(scratch / shard_name(1)), kGgufFormat, scratch / "whole.gguf");
  const Checkpoint whole = open_checkpoint(scratch / "whole.gguf");
  EXPECT_EQ(whole.files.size(), 1U);
  EXPECT_EQ(whole.tensors.size(), 3U);
  EXPECT_EQ(whole.metadata.entries().size(), 1U);
}

TEST(GgufSplit, SplitCountOfOneIsAWholeFile) {
  const ScratchDir scratch;
  GgufBytes file;
  file.preamble(0, 4).text_key("general.architecture", "x");
  file.key("split.no", 2).u16(0).key("split.count", 2).u16(1).key("split.tensors.count", 5).i32(0);
  testing::write_whole_file(scratch / "any-name.gguf", file.bytes());
  EXPECT_EQ(open_checkpoint(scratch / "any-name.gguf").files.size(), 1U);
}

TEST(GgufSplit, MissingShardIsNamed) {
  const ScratchDir scratch;
  testing::write_whole_file(scratch / shard_name(1), shard(0).bytes());
  testing::write_whole_file(scratch / shard_name(3), shard(2).bytes());
  try {
    open_checkpoint(scratch / shard_name(1));
    FAIL() << "opened";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::not_found);
    EXPECT_EQ(error.file(), (scratch / shard_name(2)).native());
  }
}

}  // namespace
}  // namespace regauge
