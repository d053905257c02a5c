// Importance matrices that are cut off, damaged, or promise more than they hold: an Error, and no memory before the file
// has shown that it is there.

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "base/error.h"
#include "convert/importance.h"
#include "tests/support/corrupt_case.h"
#include "tests/support/golden.h"
#include "tests/support/imatrix_bytes.h"

namespace regauge::testing {
namespace {

constexpr std::size_t kMemory = std::size_t{1} << 20;

/// What becomes of it: nothing when it was read, else the code of the error. Nothing else may happen.
std::optional<ErrorCode> outcome(const std::filesystem::path& path) {
  const AllocationWatch watch;
  std::optional<ErrorCode> code;
  try {
    Importance::read(path);
  } catch (const Error& error) {
    code = error.code();
  }
  EXPECT_LT(watch.largest(), kMemory) << path;
  return code;
}

std::optional<ErrorCode> outcome_of(const GgufBytes& bytes) {
  const ScratchDir scratch;
  write_whole_file(scratch / "imatrix", bytes.bytes());
  return outcome(scratch / "imatrix");
}

GgufBytes legacy() {
  GgufBytes file;
  file.i32(2);
  imatrix_legacy_entry(file, "blk.0.ffn_up.weight", 3, {1, 2, 3, 4});
  imatrix_legacy_entry(file, "output.weight", 1, {5, 6});
  return std::move(file.i32(9).i32(4).raw("wiki"));
}

GgufBytes gguf() {
  return imatrix_gguf({{"blk.0.ffn_up.weight", {{1, 2, 3, 4}, {3, 1}}}, {"output.weight", {{5, 6}, {1}}}}, {"wiki"}, 9);
}

TEST(CorruptImportance, EveryLengthOfACutOffFileIsSurvived) {
  for (const GgufBytes& whole : {legacy(), gguf()}) {
    const ScratchDir scratch;
    ASSERT_EQ(outcome_of(whole), std::nullopt);
    for (std::size_t size = 0; size < whole.size(); ++size) {
      write_whole_file(scratch / "imatrix", std::span(whole.bytes()).first(size));
      const auto code = outcome(scratch / "imatrix");
      // The tail of the older form is optional, and so is the padding at the end of a GGUF file.
      if (size + 32 < whole.size()) {
        EXPECT_TRUE(code) << size;
      }
      if (code) {
        EXPECT_TRUE(*code == ErrorCode::malformed || *code == ErrorCode::unsupported) << size;
      }
    }
  }
}

TEST(CorruptImportance, EveryDamagedByteIsSurvived) {
  for (const GgufBytes& whole : {legacy(), gguf()}) {
    const ScratchDir scratch;
    write_whole_file(scratch / "imatrix", whole.bytes());
    for (std::size_t at = 0; at < whole.size(); ++at) {
      for (const int value : {0x00, 0x7F, 0x80, 0xFF}) {
        set_byte(scratch / "imatrix", at, static_cast<std::byte>(value));
        outcome(scratch / "imatrix");
      }
      set_byte(scratch / "imatrix", at, whole.bytes()[at]);
    }
  }
}

TEST(CorruptImportance, SizesAreHeldAgainstTheFile) {
  constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();
  for (const std::int32_t size : {kMost, -1, std::numeric_limits<std::int32_t>::min()}) {
    EXPECT_EQ(outcome_of(GgufBytes().i32(size).zeros(64)), ErrorCode::malformed) << "entries";
    EXPECT_EQ(outcome_of(GgufBytes().i32(1).i32(size).zeros(64)), ErrorCode::malformed) << "name";
    EXPECT_EQ(outcome_of(GgufBytes().i32(1).i32(1).raw("a").i32(1).i32(size).zeros(64)), ErrorCode::malformed);
  }
  EXPECT_EQ(outcome_of(GgufBytes().i32(1).i32(1).raw("a").i32(1).i32(0).zeros(64)), ErrorCode::malformed);
  GgufBytes tail;
  tail.i32(1);
  imatrix_legacy_entry(tail, "a", 1, {1}).i32(1);
  EXPECT_EQ(outcome_of(tail.i32(kMost)), ErrorCode::malformed);
}

TEST(CorruptImportance, OtherFilesAreNoImportanceMatrix) {
  EXPECT_EQ(outcome_of(GgufBytes()), ErrorCode::malformed);
  EXPECT_EQ(outcome_of(small_gguf()), ErrorCode::malformed);
  EXPECT_EQ(outcome_of(GgufBytes().raw("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")),
            ErrorCode::malformed);
  const ScratchDir scratch;
  EXPECT_EQ(outcome(scratch.path()), ErrorCode::invalid);
}

}  // namespace
}  // namespace regauge::testing
