#include "base/bits.h"

namespace regauge {
namespace {

void require_stream_size(std::size_t bytes, std::size_t codes, int bits) {
  const std::uint64_t expected = packed_bytes(codes, bits);
  if (bytes != expected) {
    throw Error(ErrorCode::internal, "{} codes of {} bits take {} bytes, not {}", codes, bits, expected, bytes);
  }
}

template <int kBits>
void unpack_stream(std::span<const std::byte> stream, std::span<std::uint8_t> codes) noexcept {
  const std::size_t whole = codes.size() / 8;
  const std::byte* in = stream.data();
  std::uint8_t* out = codes.data();
  std::size_t i = 0;
  if constexpr (kBits == 8) {
    if (!codes.empty()) std::memcpy(out, in, codes.size());
    return;
  }
  if constexpr (kBits == 4) {
    for (; i + 8 <= whole; i += 8, in += 32, out += 64) spread_nibbles<64>(in, out);
  }
  // Eight bytes at once wherever they are there, though fewer are needed: putting odd numbers of bytes together is slower.
  for (const std::byte* end = stream.data() + stream.size(); i < whole && end - in >= 8; ++i, in += kBits, out += 8) {
    const std::uint64_t eight = spread_8<kBits>(load_bytes<8>(in));
    std::memcpy(out, &eight, 8);
  }
  for (; i < whole; ++i, in += kBits, out += 8) {
    const std::uint64_t eight = spread_8<kBits>(load_bytes<kBits>(in));
    std::memcpy(out, &eight, 8);
  }
  if (const std::size_t rest = codes.size() % 8; rest != 0) {
    std::uint64_t packed = 0;
    std::memcpy(&packed, in, packed_bytes(rest, kBits));
    const std::uint64_t eight = spread_8<kBits>(packed);
    std::memcpy(out, &eight, rest);
  }
}

template <int kBits>
void pack_stream(std::span<const std::uint8_t> codes, std::span<std::byte> stream) {
  const std::size_t whole = codes.size() / 8;
  const std::uint8_t* in = codes.data();
  std::byte* out = stream.data();
  std::uint64_t seen = 0;
  std::size_t i = 0;
  if constexpr (kBits == 4) {
    for (; i + 8 <= whole; i += 8, in += 64, out += 32) {
      for (std::size_t eight = 0; eight < 8; ++eight)
        seen |= load_bytes<8>(reinterpret_cast<const std::byte*>(in) + 8 * eight);
      gather_nibbles<64>(in, out);
    }
  }
  // Likewise: what is written too far is written again by the next.
  for (const std::byte* end = stream.data() + stream.size(); i < whole && end - out >= 8; ++i, in += 8, out += kBits) {
    std::uint64_t eight = 0;
    std::memcpy(&eight, in, 8);
    seen |= eight;
    store_bytes<8>(out, gather_8<kBits>(eight));
  }
  for (; i < whole; ++i, in += 8, out += kBits) {
    std::uint64_t eight = 0;
    std::memcpy(&eight, in, 8);
    seen |= eight;
    store_bytes<kBits>(out, gather_8<kBits>(eight));
  }
  if (const std::size_t rest = codes.size() % 8; rest != 0) {
    std::uint64_t eight = 0;
    std::memcpy(&eight, in, rest);
    seen |= eight;
    const std::uint64_t packed = gather_8<kBits>(eight);
    std::memcpy(out, &packed, packed_bytes(rest, kBits));
  }
  if ((seen & excess_bits_of_8(kBits)) != 0) throw_code_too_wide(kBits);
}

}  // namespace

void throw_code_too_wide(int bits) { throw Error(ErrorCode::invalid, "a code does not fit in {} bits", bits); }

void unpack_bits(std::span<const std::byte> stream, int bits, std::span<std::uint8_t> codes) {
  with_bits(bits, [&](auto width) {
    require_stream_size(stream.size(), codes.size(), width);
    unpack_stream<width>(stream, codes);
  });
}

void pack_bits(std::span<const std::uint8_t> codes, int bits, std::span<std::byte> stream) {
  with_bits(bits, [&](auto width) {
    require_stream_size(stream.size(), codes.size(), width);
    pack_stream<width>(codes, stream);
  });
}

}  // namespace regauge
