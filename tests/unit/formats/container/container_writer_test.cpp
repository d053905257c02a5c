#include "formats/container/writer.h"

#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "formats/container/restore.h"
#include "formats/gguf/gguf.h"
#include "tests/support/array_file.h"
#include "tests/support/builders.h"
#include "tests/support/golden.h"
#include "tests/support/pack.h"
#include "tests/unit/formats/container/packing.h"

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::Bytes;
using testing::make_directory;
using testing::open_package;
using testing::pack;
using testing::plain_array;
using testing::read_whole_file;
using testing::ScratchDir;
using testing::write_text;
using testing::write_whole_file;

TEST(ContainerWriter, RefusesAnAdapterFromElsewhere) {
  const ScratchDir scratch;
  fs::create_directories(scratch / "model");
  fs::create_directories(scratch / "elsewhere");
  write_whole_file(scratch / "model/model.safetensors", testing::small_safetensors());
  write_whole_file(scratch / "elsewhere/more.safetensors", testing::small_safetensors());
  Checkpoint checkpoint = open_checkpoint(scratch / "model");
  checkpoint.files.push_back({"adapter/more.safetensors",
                              std::make_shared<const File>(File::open(scratch / "elsewhere/more.safetensors")), 8});
  container::ContainerWriter writer(scratch / "x.rg.gguf", {});
  try {
    writer.begin(checkpoint);
    FAIL() << "taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
    EXPECT_EQ(error.file(), (scratch / "elsewhere/more.safetensors").native());
  }
}

TEST(ContainerWriter, RefusesArraysThatOverlap) {
  const ScratchDir scratch;
  write_whole_file(scratch / "m.safetensors", testing::small_safetensors());
  Checkpoint checkpoint = open_checkpoint(scratch / "m.safetensors");
  checkpoint.arrays.at(1).offset -= 1;
  container::ContainerWriter writer(scratch / "x.rg.gguf", {});
  try {
    writer.begin(checkpoint);
    FAIL() << "taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::malformed);
    EXPECT_EQ(error.tensor_name(), "b");
  }
}

TEST(ContainerWriter, LeavesNothingBehindUnlessItIsFinished) {
  const ScratchDir scratch;
  const Checkpoint original = open_checkpoint(make_directory(scratch));
  for (const bool zstd : {false, true}) {
    {
      container::ContainerWriter writer(scratch / "x.rg.gguf", {});
      writer.begin(original, {.zstd = zstd});
      if (zstd) {
        writer.append(0, writer.compress(0));
        EXPECT_THROW(writer.append(2, writer.compress(2)), Error) << "out of order";
      } else {
        writer.write(0);
      }
      EXPECT_THROW(writer.seal(), Error) << "units are missing";
    }
    EXPECT_FALSE(fs::exists(scratch / "x.rg.gguf"));
    EXPECT_FALSE(fs::exists(scratch / "x.rg.gguf.partial"));
  }
}

TEST(ContainerWriter, RefusesSidecarsThatChangeWhileItReads) {
  const ScratchDir scratch;
  const fs::path folder = make_directory(scratch);
  const Checkpoint original = open_checkpoint(folder);
  write_text(folder / "notes/readme.txt", "hello again");
  container::ContainerWriter writer(scratch / "x.rg.gguf", {});
  writer.begin(original);
  std::size_t refused = 0;
  for (std::size_t i = 0; i < writer.units(); ++i) {
    try {
      writer.write(i);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::io);
      EXPECT_EQ(error.file(), (folder / "notes/readme.txt").native());
      ++refused;
    }
  }
  EXPECT_EQ(refused, 1U);
}

TEST(ContainerRestore, NeitherOverwritesUnaskedNorLeavesHalfADirectory) {
  const ScratchDir scratch;
  const fs::path folder = make_directory(scratch);
  pack(open_checkpoint(folder), scratch / "x.rg.gguf");
  fs::create_directories(scratch / "out");
  write_text(scratch / "out/mine.txt", "mine");
  write_text(scratch / "out/old.safetensors", "old");
  EXPECT_THROW(container::restore(scratch / "x.rg.gguf", scratch / "out"), Error);
  EXPECT_TRUE(fs::exists(scratch / "out/mine.txt"));
  container::restore(scratch / "x.rg.gguf", scratch / "out", {.overwrite = true});
  EXPECT_FALSE(fs::exists(scratch / "out/mine.txt"));
  EXPECT_EQ(read_whole_file(scratch / "out" / "model.safetensors"), read_whole_file(folder / "model.safetensors"));
  EXPECT_FALSE(fs::exists(scratch / "out.partial"));

  // A damaged byte of the last array.
  Bytes bytes = read_whole_file(scratch / "x.rg.gguf");
  const Checkpoint plain = open_gguf(probe(scratch / "x.rg.gguf"));
  bytes[plain_array(plain, "f0.a0").offset] ^= std::byte{1};
  write_whole_file(scratch / "bad.rg.gguf", bytes);
  try {
    container::restore(scratch / "bad.rg.gguf", scratch / "other");
    FAIL() << "restored";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::malformed);
    EXPECT_EQ(error.tensor_name(), open_package(scratch / "x.rg.gguf")->description().arrays[0].name);
  }
  EXPECT_FALSE(fs::exists(scratch / "other"));
  EXPECT_FALSE(fs::exists(scratch / "other.partial"));
}

TEST(ContainerRestore, LeavesAFileOfThePartialsNameIntact) {
  const ScratchDir scratch;
  const fs::path folder = make_directory(scratch);
  write_text(folder / "a", "first");
  write_text(folder / "a.partial", "second");
  pack(open_checkpoint(folder), scratch / "x.rg.gguf");
  container::restore(scratch / "x.rg.gguf", scratch / "out");
  EXPECT_EQ(read_text_file(scratch / "out/a", 100), "first");
  EXPECT_EQ(read_text_file(scratch / "out/a.partial", 100), "second");
}

}  // namespace
}  // namespace regauge
