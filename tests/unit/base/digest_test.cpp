#include "base/digest.h"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace regauge {
namespace {

// The generator behind xxHash's own vectors: Cyan4973/xxHash cli/xsum_sanity_check.c, XSUM_fillTestBuffer.
std::vector<std::byte> sanity_buffer(std::size_t size) {
  std::vector<std::byte> bytes(size);
  std::uint64_t state = 2654435761U;
  for (auto& byte : bytes) {
    byte = static_cast<std::byte>(state >> 56);
    state *= 11400714785074694797U;
  }
  return bytes;
}

template <typename Digest>
auto in_pieces(std::span<const std::byte> bytes, std::size_t piece) {
  Digest digest;
  while (!bytes.empty()) {
    const auto next = bytes.first(std::min(piece, bytes.size()));
    digest.update(next);
    bytes = bytes.subspan(next.size());
  }
  return digest.value();
}

// "tensor a" and "tensor b" of a file that ggml-org/llama.cpp examples/gguf-hash hashed.
std::vector<std::byte> tensor_a() {
  std::vector<std::byte> bytes(32);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i);
  return bytes;
}
constexpr std::string_view kTensorB = "\x01\x02\x03\x04\x05";

// Source: Cyan4973/xxHash cli/xsum_sanity_check.c, XSUM_XXH128_testdata with seed 0: one length for each code path.
TEST(Xxh3, GivesThePublishedVectorsAtOnceAndInPieces) {
  struct Vector {
    std::size_t size;
    std::uint64_t low, high;
  };
  constexpr std::array kVectors = {
      Vector{0, 0x6001C324468D497F, 0x99AA06D3014798D8},    Vector{1, 0xC44BDFF4074EECDB, 0xA6CD5E9392000F6A},
      Vector{6, 0x3E7039BDDA43CFC6, 0x082AFE0B8162D12A},    Vector{12, 0x061A192713F69AD9, 0x6E3EFD8FC7802B18},
      Vector{24, 0x1E7044D28B1B901D, 0x0CE966E4678D3761},   Vector{48, 0xF942219AED80F67B, 0xA002AC4E5478227E},
      Vector{81, 0x5E8BAFB9F95FB803, 0x4952F58181AB0042},   Vector{222, 0xF1AEBD597CEC6B3A, 0x337E09641B948717},
      Vector{403, 0xCDEB804D65C6DEA4, 0x1B6DE21E332DD73D},  Vector{512, 0x617E49599013CB6B, 0x18D2D110DCC9BCA1},
      Vector{2048, 0xDD59E2C3A5F038E0, 0xF736557FD47073A5}, Vector{2240, 0x6E73A90539CF2948, 0xCCB134FBFA7CE49D},
      Vector{2367, 0xCB37AEB9E5D361ED, 0xE89C0F6FF369B427}};
  for (const auto& [size, low, high] : kVectors) {
    const auto bytes = sanity_buffer(size);
    const Digest128 expected{.high = high, .low = low};
    EXPECT_EQ(Xxh3_128::of(bytes), expected) << size;
    for (const std::size_t piece : {1, 7, 64, 1000}) EXPECT_EQ(in_pieces<Xxh3_128>(bytes, piece), expected) << size;
  }
}

TEST(Xxh3, PrintsHighHalfFirstLikeXxhsum) {
  EXPECT_EQ(hex(Xxh3_128::of({})), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(hex(Digest128{.high = 1, .low = 2}), "00000000000000010000000000000002");
}

// Source: Cyan4973/xxHash cli/xsum_sanity_check.c, XSUM_XXH64_testdata with seed 0.
TEST(Xxh64, GivesThePublishedVectorsAtOnceAndInPieces) {
  for (const auto& [size, expected] : std::vector<std::pair<std::size_t, std::uint64_t>>{{0, 0xEF46DB3751D8E999},
                                                                                         {1, 0xE934A84ADB052768},
                                                                                         {4, 0x9136A0DCA57457EE},
                                                                                         {14, 0x8282DCC4994E35C8},
                                                                                         {222, 0xB641AE8CB691C174}}) {
    const auto bytes = sanity_buffer(size);
    EXPECT_EQ(Xxh64::of(bytes), expected) << size;
    for (const std::size_t piece : {1, 7, 64}) EXPECT_EQ(in_pieces<Xxh64>(bytes, piece), expected) << size;
  }
  EXPECT_EQ(hex(Xxh64::of(bytes_of(std::string_view("abc")))), "44bc2cf5ad770999");
}

TEST(Xxh64, AgreesWithLlamaGgufHash) {
  EXPECT_EQ(hex(Xxh64::of(tensor_a())), "cbf59c5116ff32b4");
  EXPECT_EQ(hex(Xxh64::of(bytes_of(kTensorB))), "8d85ab4884c0d62f");
  Xxh64 file;
  file.update(tensor_a());
  file.update(bytes_of(kTensorB));
  EXPECT_EQ(hex(file.value()), "57babf1e39d8ee48");
}

// Source: FIPS 180-4 examples, and the empty string.
TEST(Sha1, GivesThePublishedVectors) {
  EXPECT_EQ(hex(Sha1::of({})), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
  EXPECT_EQ(hex(Sha1::of(bytes_of(std::string_view("abc")))), "a9993e364706816aba3e25717850c26c9cd0d89d");
  EXPECT_EQ(
      hex(in_pieces<Sha1>(bytes_of(std::string_view("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")), 5)),
      "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
}

TEST(Sha1, AgreesWithLlamaGgufHash) {
  EXPECT_EQ(hex(Sha1::of(tensor_a())), "ae5bd8efea5322c4d9986d06680a781392f9a642");
  Sha1 file;
  file.update(tensor_a());
  file.update(bytes_of(kTensorB));
  EXPECT_EQ(hex(file.value()), "43441306a3869347aa2be3abf6cb2ba9b57bea4b");
}

TEST(Sha256, GivesThePublishedVectors) {
  EXPECT_EQ(hex(Sha256::of({})), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hex(Sha256::of(bytes_of(std::string_view("abc")))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::string million(1'000'000, 'a');
  EXPECT_EQ(hex(in_pieces<Sha256>(bytes_of(million), 4097)),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, AgreesWithLlamaGgufHash) {
  EXPECT_EQ(hex(Sha256::of(tensor_a())), "630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd");
  Sha256 file;
  file.update(tensor_a());
  file.update(bytes_of(kTensorB));
  EXPECT_EQ(hex(file.value()), "5ad40006b611158b0884d33cc738dbe90d6bc66bac8fa1a75d1c630be910af52");
}

template <typename Digest>
class StreamingDigest : public testing::Test {};
using Digests = testing::Types<Xxh3_128, Xxh64, Sha1, Sha256>;
TYPED_TEST_SUITE(StreamingDigest, Digests);

TYPED_TEST(StreamingDigest, ReadingTheValueLeavesTheStateOpen) {
  const auto bytes = sanity_buffer(1000);
  TypeParam digest;
  digest.update(std::span(bytes).first(300));
  EXPECT_EQ(digest.value(), TypeParam::of(std::span(bytes).first(300)));
  TypeParam moved = std::move(digest);
  moved.update(std::span(bytes).subspan(300));
  EXPECT_EQ(moved.value(), TypeParam::of(bytes));
}

TEST(Digest128, IsReadFromItsDigitsAndNothingElse) {
  EXPECT_EQ(digest128_from_hex("0123456789abcdef00000000000000ff"),
            (Digest128{.high = 0x0123456789ABCDEF, .low = 0xFF}));
  for (const char* text :
       {"", "0123456789abcdef", "0123456789ABCDEF00000000000000ff", "0123456789abcdef0000000000000 ff",
        "-123456789abcdef00000000000000ff", "0123456789abcdef00000000000000ff0"}) {
    EXPECT_FALSE(digest128_from_hex(text)) << text;
  }
}

}  // namespace
}  // namespace regauge
