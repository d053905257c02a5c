#include "base/bits.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace regauge {
namespace {

using Bytes = std::vector<std::byte>;
using Codes = std::vector<std::uint8_t>;

// The definition, one bit at a time.
Bytes pack_by_definition(const Codes& codes, int bits) {
  Bytes stream((codes.size() * static_cast<std::size_t>(bits) + 7) / 8);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    for (int b = 0; b < bits; ++b) {
      const std::size_t t = i * static_cast<std::size_t>(bits) + static_cast<std::size_t>(b);
      if ((codes[i] >> b & 1) != 0) stream[t / 8] |= std::byte{1} << (t % 8);
    }
  }
  return stream;
}

Bytes pack(const Codes& codes, int bits) {
  // Filled beforehand, so that a byte left unwritten shows.
  Bytes stream(packed_bytes(codes.size(), bits), std::byte{0xA5});
  pack_bits(codes, bits, stream);
  return stream;
}

Codes unpack(const Bytes& stream, int bits, std::size_t count) {
  Codes codes(count, 0xA5);
  unpack_bits(stream, bits, codes);
  return codes;
}

ErrorCode code_of(auto&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorCode::io;
}

TEST(Bits, CodesFollowOneAnotherFromTheLowestBit) {
  EXPECT_EQ(pack({1, 2, 3}, 4), (Bytes{std::byte{0x21}, std::byte{0x03}}));
  EXPECT_EQ(pack({31, 0, 31}, 5), (Bytes{std::byte{0x1F}, std::byte{0x7C}}));
  EXPECT_EQ(pack({1, 0, 1, 1, 0, 0, 0, 0, 1}, 1), (Bytes{std::byte{0x0D}, std::byte{0x01}}));
  EXPECT_EQ(pack({5, 6, 3}, 3), (Bytes{std::byte{0xF5}, std::byte{0x00}}));
  EXPECT_EQ(unpack({std::byte{0xF5}, std::byte{0x00}}, 3, 3), (Codes{5, 6, 3}));
}

TEST(Bits, PackedBytesCountsThePartlyUsedLastByte) {
  EXPECT_EQ(packed_bytes(0, 7), 0U);
  EXPECT_EQ(packed_bytes(1, 1), 1U);
  EXPECT_EQ(packed_bytes(9, 1), 2U);
  EXPECT_EQ(packed_bytes(8, 3), 3U);
  EXPECT_EQ(packed_bytes(11, 3), 5U);
  EXPECT_EQ(packed_bytes(~std::uint64_t{0}, 8), ~std::uint64_t{0});
}

TEST(Bits, EveryValueAtEveryPlaceOfARunOfAnyLengthIsAlone) {
  for (int bits = 1; bits <= 8; ++bits) {
    for (const std::size_t count : {1U, 2U, 7U, 8U, 9U, 16U, 23U}) {
      for (std::size_t place = 0; place < count; ++place) {
        for (unsigned value = 0; value < 1U << bits; ++value) {
          Codes codes(count, 0);
          codes[place] = static_cast<std::uint8_t>(value);
          const Bytes stream = pack(codes, bits);
          ASSERT_EQ(stream, pack_by_definition(codes, bits)) << bits << " bits, code " << place << " of " << count;
          ASSERT_EQ(unpack(stream, bits, count), codes) << bits << " bits, code " << place << " of " << count;
        }
      }
    }
  }
}

RC_GTEST_PROP(Bits, PackingIsTheDefinitionAndUnpackingUndoesIt, ()) {
  const int bits = *rc::gen::inRange(1, 9);
  const auto codes = *rc::gen::container<Codes>(
      rc::gen::map(rc::gen::arbitrary<std::uint8_t>(), [=](std::uint8_t c) { return c & low_bits(bits); }));
  const Bytes stream = pack(codes, bits);
  RC_ASSERT(stream == pack_by_definition(codes, bits));
  RC_ASSERT(unpack(stream, bits, codes.size()) == codes);
}

TEST(Bits, LongRandomStreamsComeBack) {
  std::mt19937 random(20260928);
  for (int bits = 1; bits <= 8; ++bits) {
    Codes codes(100'003);
    for (auto& code : codes) code = static_cast<std::uint8_t>(random() & low_bits(bits));
    const Bytes stream = pack(codes, bits);
    EXPECT_EQ(stream, pack_by_definition(codes, bits)) << bits;
    EXPECT_EQ(unpack(stream, bits, codes.size()), codes) << bits;
  }
}

TEST(Bits, BitsBehindTheLastCodeAreIgnoredAndWrittenAsZero) {
  EXPECT_EQ(unpack({std::byte{0xFF}, std::byte{0xFF}}, 3, 3), (Codes{7, 7, 7}));
  EXPECT_EQ(pack({7, 7, 7}, 3), (Bytes{std::byte{0xFF}, std::byte{0x01}}));
}

TEST(Bits, ACodeThatDoesNotFitIsAnErrorWhereverItStands) {
  for (int bits = 1; bits < 8; ++bits) {
    for (std::size_t place = 0; place < 11; ++place) {
      Codes codes(11, 0);
      codes[place] = static_cast<std::uint8_t>(1U << bits);
      EXPECT_EQ(code_of([&] { pack(codes, bits); }), ErrorCode::invalid) << bits << " bits at " << place;
    }
  }
}

TEST(Bits, WidthsAndSizesThatMakeNoSenseAreErrors) {
  Codes codes(8);
  Bytes stream(8);
  EXPECT_EQ(code_of([&] { unpack_bits(stream, 0, codes); }), ErrorCode::invalid);
  EXPECT_EQ(code_of([&] { unpack_bits(stream, 9, codes); }), ErrorCode::invalid);
  EXPECT_EQ(code_of([&] { pack_bits(codes, 9, stream); }), ErrorCode::invalid);
  EXPECT_EQ(code_of([&] { unpack_bits(stream, 7, codes); }), ErrorCode::internal);
  EXPECT_EQ(code_of([&] { pack_bits(codes, 7, stream); }), ErrorCode::internal);
}

TEST(Bits, Spreading8CodesIgnoresHigherBitsAndGatheringUndoesIt) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t any = random();
    EXPECT_EQ(spread_8<3>(any), spread_8<3>(any & low_bits(24)));
    EXPECT_EQ(gather_8<5>(spread_8<5>(any)), any & low_bits(40));
    EXPECT_EQ(gather_8<7>(any), gather_8<7>(any & 0x7F7F7F7F7F7F7F7F));
    EXPECT_EQ(spread_8<8>(any), any);
    EXPECT_EQ(gather_8<8>(any), any);
  }
}

}  // namespace
}  // namespace regauge
