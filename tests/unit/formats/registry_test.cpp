#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "formats/format.h"
#include "tests/support/builders.h"
#include "tests/support/golden.h"

namespace regauge {
namespace {

namespace fs = std::filesystem;

using testing::ScratchDir;

void write_text(const fs::path& path, std::string_view text) {
  testing::write_whole_file(path, std::as_bytes(std::span(text.data(), text.size())));
}

/// The error of opening, which names the path and what it looks like.
void expect_unsupported(const fs::path& path, std::string_view word) {
  try {
    open_checkpoint(path);
    FAIL() << "opened " << path;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported) << error.what();
    EXPECT_EQ(error.file(), path.native());
    EXPECT_NE(error.message().find(word), std::string::npos) << error.what();
  }
}

TEST(Registry, FormatsAreFoundByName) {
  EXPECT_EQ(find_format("gguf")->name, "gguf");
  EXPECT_EQ(find_format("safetensors")->name, "safetensors");
  EXPECT_EQ(find_format("GGUF"), nullptr);
  EXPECT_EQ(find_format(""), nullptr);
  for (const Format* format : all_formats()) EXPECT_EQ(find_format(format->name), format);
}

TEST(Registry, ContentDecidesAndNotTheName) {
  const ScratchDir scratch;
  testing::write_whole_file(scratch / "a.safetensors", testing::small_gguf().bytes());
  testing::write_whole_file(scratch / "b.gguf", testing::small_safetensors());
  EXPECT_EQ(open_checkpoint(scratch / "a.safetensors").format, "gguf");
  EXPECT_EQ(open_checkpoint(scratch / "b.gguf").format, "safetensors");
}

struct Foreign {
  const char* name;
  std::string bytes;
  const char* word;
};

class RegistryForeign : public ::testing::TestWithParam<Foreign> {};

TEST_P(RegistryForeign, FileThatIsSomethingElseIsNamedAsSuch) {
  const ScratchDir scratch;
  for (const char* name : {"model.bin", "model.safetensors", "model.gguf"}) {
    write_text(scratch / name, GetParam().bytes);
    expect_unsupported(scratch / name, GetParam().word);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, RegistryForeign,
    ::testing::Values(Foreign{"lfs", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", "Git LFS"},
                      Foreign{"html", "<!DOCTYPE html><html><body>Not found</body></html>", "HTML"},
                      Foreign{"html_with_space", "\n  <HTML>\n", "HTML"},
                      Foreign{"xml", "<?xml version=\"1.0\"?><Error/>", "XML"},
                      Foreign{"zip", std::string("PK\x03\x04\x14\x00\x00\x00", 8), "PyTorch"},
                      Foreign{"pickle", std::string("\x80\x02}q\x00.", 6), "pickle"},
                      Foreign{"gzip", "\x1f\x8b\x08 and more", "gzip"},
                      Foreign{"ggjt", std::string("tjgg\x03\x00\x00\x00", 8), "GGJT"},
                      Foreign{"reversed", "FUGG\x03", "reversed"}, Foreign{"empty", "", "empty"}),
    [](const auto& param) { return std::string(param.param.name); });

TEST(Registry, UnknownBytesAreShown) {
  const ScratchDir scratch;
  write_text(scratch / "a.dat", "what is this?");
  expect_unsupported(scratch / "a.dat", "77 68 61 74");
}

TEST(Registry, DirectoriesWithoutShardsAreExplained) {
  const ScratchDir scratch;
  expect_unsupported(scratch.path(), "empty");
  write_text(scratch / "pytorch_model.bin", "PK\x03\x04");
  expect_unsupported(scratch.path(), "pytorch_model.bin");
  fs::create_directories(scratch.path() / "unet");
  testing::write_whole_file(scratch.path() / "unet" / "model.safetensors", testing::small_safetensors());
  expect_unsupported(scratch.path(), "unet/model.safetensors");
  testing::write_whole_file(scratch / "a.gguf", testing::small_gguf().bytes());
  expect_unsupported(scratch.path(), "a.gguf");
}

TEST(Registry, AbsentPathIsNotFound) {
  const ScratchDir scratch;
  try {
    open_checkpoint(scratch / "nothing");
    FAIL() << "opened";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::not_found);
  }
}

TEST(Probe, ListsRegularFilesBelowTheDirectoryBytewise) {
  const ScratchDir scratch;
  fs::create_directories(scratch.path() / "b" / "c");
  fs::create_directories(scratch.path() / ".git");
  write_text(scratch.path() / "b" / "c" / "z", "");
  write_text(scratch.path() / ".git" / "config", "");
  write_text(scratch / "a", "");
  write_text(scratch / "B", "");
  write_text(scratch / ".gitattributes", "");
  fs::create_symlink("nowhere", scratch / "dangling");
  fs::create_directory_symlink(".", scratch / "loop");
  const Source source = probe(scratch.path());
  EXPECT_TRUE(source.is_directory);
  EXPECT_EQ(source.entries, (std::vector<fs::path>{".gitattributes", "B", "a", "b/c/z"}));
}

TEST(ArrayPlan, CountsBytesOfRowsAndOfTheWhole) {
  const ArrayPlan dense{"a", DType::bf16, {3, 5}};
  EXPECT_EQ(dense.row_bytes(), 10U);
  EXPECT_EQ(dense.bytes(), 30U);
  const ArrayPlan blocks{"b", BlockType::q6_K, {2, 4, 512}};
  EXPECT_EQ(blocks.row_bytes(), 420U);
  EXPECT_EQ(blocks.bytes(), 3360U);
  const ArrayPlan nibbles{"c", DType::f4, {2, 3}};
  EXPECT_EQ(nibbles.bytes(), 3U);
  EXPECT_THROW(nibbles.row_bytes(), Error);
  const ArrayPlan ragged{"d", BlockType::q4_0, {2, 33}};
  EXPECT_THROW(ragged.bytes(), Error);
  const ArrayPlan huge{"e", DType::f64, {std::int64_t{1} << 40, std::int64_t{1} << 40}};
  EXPECT_THROW(huge.bytes(), Error);
}

}  // namespace
}  // namespace regauge
