#include "formats/replay.h"

#include <atomic>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "formats/format.h"
#include "tests/support/array_file.h"
#include "tests/support/builders.h"
#include "tests/support/golden.h"
#include "tests/support/rewrite.h"

// A checkpoint that nothing changes comes out as the very files that went in, whoever wrote them.

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::Bytes;
using testing::read_whole_file;
using testing::ScratchDir;

/// Copies all units, the last first, by three threads.
void copy_all(ReplayWriter& writer) {
  const std::vector<ReplayUnit> units = writer.units();
  std::atomic<std::size_t> left = units.size();
  std::vector<std::jthread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (std::size_t i = left.fetch_sub(1); i > 0 && i <= units.size(); i = left.fetch_sub(1)) {
        const ReplayUnit& unit = units[i - 1];
        Bytes bytes(unit.bytes);
        writer.read(unit, bytes);
        writer.put(unit.file, unit.offset, bytes);
      }
    });
  }
}

std::map<std::string, Bytes> files_below(const fs::path& folder) {
  std::map<std::string, Bytes> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_directory()) {
      files.emplace(entry.path().lexically_relative(folder).native(), read_whole_file(entry.path()));
    }
  }
  return files;
}

fs::path find_checkpoint(const std::string& name) {
  if (name.starts_with("samples/")) return testing::sample_path(name.substr(8));
  return testing::find_golden(name).value_or(fs::path());
}

class ReplayedDirectory : public ::testing::TestWithParam<const char*> {};

TEST_P(ReplayedDirectory, IsTheSameFiles) {
  const fs::path path = find_checkpoint(GetParam());
  if (path.empty()) GTEST_SKIP() << "golden data " << GetParam() << " not here: set REGAUGE_GOLDEN";
  const ScratchDir scratch;
  const Checkpoint source = open_checkpoint(path);
  ASSERT_TRUE(source.is_directory());
  ReplayWriter writer(source, scratch / "copy", {.directory = true});
  writer.begin({}, {});
  copy_all(writer);
  writer.seal();
  EXPECT_EQ(open_checkpoint(writer.sealed_path()).format, source.format);
  writer.commit();
  EXPECT_TRUE(files_below(scratch / "copy") == files_below(path));
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, ReplayedDirectory,
                         ::testing::Values("qwen35_family/hf-bf16", "qwen35_family/gptq-mixed-eora",
                                           "qwen35_family/gptq-int4-g64", "qwen35_family/gptq-int4-g128-noact",
                                           "qwen35_family/mlx-8865", "qwen35_family/mlx-4bit", "qwen35_tiny/hf",
                                           "qwen35_tiny_moe/hf", "gptq/ckpt/mini003", "gptq/ckpt/mini004",
                                           "samples/qwen35-gptq-int4", "samples/qwen35-bf16-tiny"));

class ReplayedFile : public ::testing::TestWithParam<const char*> {};

TEST_P(ReplayedFile, IsTheSameFile) {
  const fs::path path = find_checkpoint(GetParam());
  if (path.empty()) GTEST_SKIP() << "golden data " << GetParam() << " not here: set REGAUGE_GOLDEN";
  const ScratchDir scratch;
  const Checkpoint source = open_checkpoint(path);
  ReplayWriter writer(source, scratch / "copy", {});
  copy_all(writer);
  writer.finish();
  EXPECT_EQ(writer.file_bytes(), fs::file_size(path));
  EXPECT_TRUE(read_whole_file(scratch / "copy") == read_whole_file(path));
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, ReplayedFile,
                         ::testing::Values("qwen35_family/hf-bf16.gguf", "qwen35_family/hf-bf16.mmproj.gguf",
                                           "qwen35_family/hf-bf16-q4_0.gguf", "qwen35_family/gptq-int4-g128-noact.gguf",
                                           "qwen35_family/gptq-mixed-eora.adapter.gguf", "gguf/tiny-qwen35-q4_0.gguf",
                                           "gguf/tiny-qwen35-q4_k_m.gguf", "gguf/tiny-qwen35-q8_0.gguf",
                                           "qwen35_tiny/tiny.gguf", "qwen35_tiny_moe/tiny-mtp.gguf",
                                           "real/gguf/ggml-vocab-gpt-2.gguf", "real/odd/no-tensors.gguf",
                                           "mlx/gguf_import.gguf", "mlx/affine_f32.safetensors",
                                           "mlx/no_metadata.safetensors", "real/safetensors/jfk-codes.safetensors",
                                           "samples/qwen35-tiny-mtp.gguf"));

TEST(ReplayedSplitGguf, IsTheSamePartsUnderTheNewName) {
  const ScratchDir scratch;
  const Checkpoint whole = open_checkpoint(testing::sample_path("qwen35-tiny-mtp.gguf"));
  const auto split = find_format("gguf")->create(scratch / "m.gguf", {.shard_bytes = 400'000});
  testing::fill(*split, whole, whole.metadata);
  split->finish();
  const auto before = files_below(scratch.path());
  ASSERT_GE(before.size(), 2U);

  const Checkpoint source = open_checkpoint(scratch / before.begin()->first);
  fs::create_directory(scratch / "new");
  ReplayWriter writer(source, scratch / "new/n.gguf", {});
  copy_all(writer);
  writer.finish();
  const auto after = files_below(scratch / "new");
  ASSERT_EQ(after.size(), before.size());
  for (const auto& [name, bytes] : before) EXPECT_TRUE(after.at("n" + name.substr(1)) == bytes) << name;
}

class ReplayWriterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(scratch_ / "source/sub");
    testing::write_whole_file(scratch_ / "source/model.safetensors", testing::small_safetensors());
    testing::write_text(scratch_ / "source/sub/notes.txt", "notes");
    testing::write_text(scratch_ / "source/empty", "");
  }

  fs::path target() const { return scratch_ / "copy"; }

  ScratchDir scratch_;
};

TEST_F(ReplayWriterTest, LargeFilesAreCutUpAndEmptyOnesAreThere) {
  testing::write_text(scratch_ / "source/large", std::string((9 << 20) + 1, 'x'));
  const Checkpoint source = open_checkpoint(scratch_ / "source");
  ReplayWriter writer(source, target(), {.directory = true});
  std::map<std::string, std::uint64_t> bytes;
  for (const ReplayUnit& unit : writer.units()) {
    EXPECT_LE(unit.bytes, ReplayWriter::kMaxUnitBytes);
    EXPECT_EQ(unit.offset, bytes[writer.name(unit.file)]) << "in order and without gaps";
    bytes[writer.name(unit.file)] += unit.bytes;
  }
  EXPECT_EQ(bytes["large"], (9U << 20) + 1);
  copy_all(writer);
  writer.finish();
  EXPECT_TRUE(files_below(target()) == files_below(scratch_ / "source"));
}

TEST_F(ReplayWriterTest, ADirectoryIsNotWrittenAsAFile) {
  const Checkpoint source = open_checkpoint(scratch_ / "source");
  EXPECT_THROW(ReplayWriter(source, target(), {}), Error);
  EXPECT_FALSE(fs::exists(scratch_ / "copy.partial"));
}

TEST_F(ReplayWriterTest, BytesThatWereNotCopiedAreNoticed) {
  const Checkpoint source = open_checkpoint(scratch_ / "source");
  {
    ReplayWriter writer(source, target(), {.directory = true});
    EXPECT_THROW(writer.seal(), Error);
    EXPECT_THROW(writer.put(0, 1 << 20, Bytes(1)), Error) << "beyond the file";
  }
  EXPECT_FALSE(fs::exists(target()));
  EXPECT_FALSE(fs::exists(scratch_ / "copy.partial"));
}

TEST_F(ReplayWriterTest, ASidecarThatChangesMeanwhileIsAnError) {
  const Checkpoint source = open_checkpoint(scratch_ / "source");
  ReplayWriter writer(source, target(), {.directory = true});
  testing::write_text(scratch_ / "source/sub/notes.txt", "longer notes");
  EXPECT_THROW(
      {
        for (const ReplayUnit& unit : writer.units()) {
          Bytes bytes(unit.bytes);
          writer.read(unit, bytes);
        }
      },
      Error);
}

TEST_F(ReplayWriterTest, AResumedRunReadsBackWhatTheLastOneWrote) {
  const Checkpoint source = open_checkpoint(scratch_ / "source");
  const auto copy = [](ReplayWriter& writer, const ReplayUnit& unit) {
    Bytes bytes(unit.bytes);
    writer.read(unit, bytes);
    writer.put(unit.file, unit.offset, bytes);
  };
  {
    ReplayWriter writer(source, target(), {.keep_partial = true, .directory = true});
    copy(writer, writer.units().front());
  }
  ReplayWriter writer(source, target(), {.resume = true, .directory = true});
  const std::vector<ReplayUnit> units = writer.units();
  Bytes expected(units[0].bytes);
  writer.read(units[0], expected);
  Bytes found(units[0].bytes);
  writer.read_back(units[0].file, units[0].offset, found);
  EXPECT_EQ(found, expected);
  for (std::size_t i = 1; i < units.size(); ++i) copy(writer, units[i]);
  writer.finish();
  EXPECT_TRUE(files_below(target()) == files_below(scratch_ / "source"));
}

TEST_F(ReplayWriterTest, AnAdapterThatLiesElsewhereIsNotLostInSilence) {
  const fs::path path = find_checkpoint("qwen35_family/gptq-mixed-eora");
  if (path.empty()) GTEST_SKIP() << "golden data not here: set REGAUGE_GOLDEN";
  const Checkpoint source = open_checkpoint(path, {.adapter = path / "eora"});
  try {
    const ReplayWriter writer(source, target(), {.directory = true});
    FAIL() << "copied";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
  }
}

}  // namespace
}  // namespace regauge
