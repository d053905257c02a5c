#include "base/bytes.h"

#include <array>
#include <cstdint>
#include <limits>
#include <string_view>

#include <gtest/gtest.h>

namespace regauge {
namespace {

constexpr std::string_view kNineBytes = "\x01\x02\x03\x04\x05\x06\x07\x08\x09";

TEST(LoadLe, ReadsLittleEndianAtAnyAlignment) {
  const auto bytes = bytes_of(kNineBytes);
  EXPECT_EQ(load_le<std::uint16_t>(bytes.data()), 0x0201);
  EXPECT_EQ(load_le<std::uint32_t>(bytes.data() + 1), 0x05040302U);
  EXPECT_EQ(load_le<std::uint64_t>(bytes.data() + 1), 0x0908070605040302ULL);
}

TEST(StoreLe, WritesLowByteFirst) {
  std::array<std::byte, 4> out{};
  store_le<std::uint32_t>(out.data(), 0x11223344U);
  EXPECT_EQ(text_of(out), "\x44\x33\x22\x11");
}

TEST(ByteReader, ReadsInOrderAndSpeaksOfFileOffsets) {
  ByteReader reader(bytes_of(kNineBytes), 100);
  EXPECT_EQ(reader.read<std::uint8_t>("first"), 1);
  EXPECT_EQ(reader.offset(), 101U);
  EXPECT_EQ(reader.read<std::uint32_t>("second"), 0x05040302U);
  EXPECT_EQ(text_of(reader.take(2, "third")), "\x06\x07");
  EXPECT_EQ(reader.offset(), 107U);
  EXPECT_EQ(reader.remaining(), 2U);
}

TEST(ByteReader, ReadsTheOtherByteOrderWhenTold) {
  ByteReader reader(bytes_of(kNineBytes));
  reader.swap_bytes(true);
  EXPECT_EQ(reader.read<std::uint16_t>("a"), 0x0102);
  EXPECT_EQ(reader.read<std::uint32_t>("b"), 0x03040506U);
  EXPECT_EQ(reader.read<std::uint8_t>("c"), 7);
  reader.swap_bytes(false);
  EXPECT_EQ(reader.read<std::uint16_t>("d"), 0x0908);
}

TEST(ByteReader, ReadsSwappedFloatsByBits) {
  ByteReader reader(bytes_of(std::string_view("\x3F\x80\x00\x01", 4)));
  reader.swap_bytes(true);
  EXPECT_EQ(reader.read<float>("one and an ulp"), 1.00000011920928955078125F);
}

TEST(ByteReader, RefusesAStepPastTheEndWithItsOffsetAndStaysThere) {
  ByteReader reader(bytes_of(kNineBytes), 1000);
  reader.take(6, "head");
  for (const std::uint64_t count : {std::uint64_t{4}, std::numeric_limits<std::uint64_t>::max()}) {
    try {
      reader.take(count, "string");
      FAIL() << "took " << count;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::malformed);
      EXPECT_EQ(error.byte_offset(), 1006U);
    }
  }
  EXPECT_THROW(reader.read<std::uint32_t>("number"), Error);
  EXPECT_EQ(reader.remaining(), 3U);
  EXPECT_EQ(reader.take(3, "rest").size(), 3U);
  EXPECT_EQ(reader.take(0, "nothing").size(), 0U);
}

TEST(ByteReader, RefusesEveryTruncationOfANumber) {
  for (std::size_t size = 0; size < 8; ++size) {
    ByteReader reader(bytes_of(kNineBytes).first(size));
    EXPECT_THROW(reader.read<std::uint64_t>("number"), Error) << size;
    EXPECT_EQ(reader.remaining(), size);
  }
}

}  // namespace
}  // namespace regauge
