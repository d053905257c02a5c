#include "base/zstd.h"

#include <cstddef>
#include <vector>

#include <gtest/gtest.h>
#include <zstd.h>

#include "base/error.h"

namespace regauge {
namespace {

using Bytes = std::vector<std::byte>;

Bytes pattern(std::size_t count) {
  Bytes bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i * i / 7 % 31);
  return bytes;
}

ErrorCode code_of_decompress(const Bytes& frame, std::size_t bytes) {
  Bytes out(bytes);
  try {
    zstd_decompress(frame, out);
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::internal;
}

TEST(Zstd, GivesBackWhatItTookAtEveryLevel) {
  for (const std::size_t count : {0U, 1U, 1000U, 300'000U}) {
    for (int level = 1; level <= max_zstd_level(); level += 6) {
      const Bytes bytes = pattern(count);
      const Bytes frame = zstd_compress(bytes, level);
      Bytes out(count);
      zstd_decompress(frame, out);
      EXPECT_EQ(out, bytes);
      // Any other program can read it too.
      Bytes theirs(count + 1);
      EXPECT_EQ(ZSTD_decompress(theirs.data(), theirs.size(), frame.data(), frame.size()), count);
    }
  }
}

TEST(Zstd, RefusesFramesOfAnotherSizeAndWhatIsMoreOrLessThanOne) {
  const Bytes frame = zstd_compress(pattern(1000), 3);
  EXPECT_EQ(code_of_decompress(frame, 999), ErrorCode::malformed);
  EXPECT_EQ(code_of_decompress(frame, 1001), ErrorCode::malformed);
  Bytes cut = frame;
  while (!cut.empty()) {
    cut.pop_back();
    EXPECT_EQ(code_of_decompress(cut, 1000), ErrorCode::malformed) << cut.size();
  }
  Bytes two = frame;
  two.insert(two.end(), frame.begin(), frame.end());
  EXPECT_EQ(code_of_decompress(two, 1000), ErrorCode::malformed);
  EXPECT_EQ(code_of_decompress(two, 2000), ErrorCode::malformed);
}

TEST(Zstd, RefusesLevelsThatItHasNot) {
  EXPECT_THROW(zstd_compress(pattern(10), 0), Error);
  EXPECT_THROW(zstd_compress(pattern(10), max_zstd_level() + 1), Error);
}

}  // namespace
}  // namespace regauge
