#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include "base/error.h"

namespace regauge {

// The LSB-first bit stream that GPTQ words, MLX rows and several ggml blocks share: code i occupies stream bits
// [i*b, (i+1)*b), and stream bit t is bit t % 8 of byte t / 8. Words of any size in little-endian order are the same
// stream, so nobody here speaks of words.

/// Bytes that `count` codes of `bits` bits (1 to 8) take; the last byte may be partly used. Cannot overflow.
constexpr std::uint64_t packed_bytes(std::uint64_t count, int bits) noexcept {
  const auto width = static_cast<std::uint64_t>(bits);
  return count / 8 * width + (count % 8 * width + 7) / 8;
}

/// Reads codes.size() codes, one byte each, from the packed_bytes() bytes of `stream`. Bits behind the last code are
/// ignored. Throws Error{invalid} for a width outside 1 to 8, Error{internal} when the sizes do not belong together.
void unpack_bits(std::span<const std::byte> stream, int bits, std::span<std::uint8_t> codes);

/// The inverse: fills all packed_bytes() bytes of `stream`, bits behind the last code with zeros. Throws as unpack_bits,
/// and Error{invalid} when a code does not fit its width; `stream` then holds nothing of use.
void pack_bits(std::span<const std::uint8_t> codes, int bits, std::span<std::byte> stream);

/// Throws the Error{invalid} of the pack functions for codes above 2^bits - 1.
[[noreturn]] void throw_code_too_wide(int bits);

/// The lowest `count` bits set, 0 to 64.
constexpr std::uint64_t low_bits(int count) noexcept {
  return count == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
}

/// In every byte of a u64, the bits that no code of `bits` bits may have.
constexpr std::uint64_t excess_bits_of_8(int bits) noexcept { return (0xFF & ~low_bits(bits)) * 0x0101010101010101; }

/// Spreads the 8 codes in the low 8 * kBits bits of `packed` over the 8 bytes of the result, first code lowest. Higher
/// bits of `packed` are ignored.
template <int kBits>
constexpr std::uint64_t spread_8(std::uint64_t packed) noexcept {
  static_assert(kBits >= 1 && kBits <= 8);
  // Halve three times: 8 codes into two 32-bit lanes, into four 16-bit lanes, into eight bytes.
  constexpr std::uint64_t kFours = low_bits(4 * kBits);
  constexpr std::uint64_t kPairs = low_bits(2 * kBits) * 0x0000000100000001;
  constexpr std::uint64_t kOnes = low_bits(kBits) * 0x0001000100010001;
  std::uint64_t x = (packed & kFours) | ((packed >> (4 * kBits)) & kFours) << 32;
  x = (x & kPairs) | ((x >> (2 * kBits)) & kPairs) << 16;
  return (x & kOnes) | ((x >> kBits) & kOnes) << 8;
}

/// The inverse of spread_8: packs the low kBits bits of each byte together; other bits of the bytes are ignored.
template <int kBits>
constexpr std::uint64_t gather_8(std::uint64_t codes) noexcept {
  static_assert(kBits >= 1 && kBits <= 8);
  constexpr std::uint64_t kFours = low_bits(4 * kBits);
  constexpr std::uint64_t kPairs = low_bits(2 * kBits) * 0x0000000100000001;
  constexpr std::uint64_t kOnes = low_bits(kBits) * 0x0001000100010001;
  std::uint64_t x = (codes & kOnes) | ((codes >> 8) & kOnes) << kBits;
  x = (x & kPairs) | ((x >> 16) & kPairs) << (2 * kBits);
  return (x & kFours) | ((x >> 32) & kFours) << (4 * kBits);
}

/// 4 bits, for many codes at once: as load and store of 16-bit lanes, which compilers turn into vector instructions. kCodes is
/// a multiple of 2; only the low four bits of a code are kept.
template <std::size_t kCodes>
void gather_nibbles(const std::uint8_t* codes, std::byte* packed) noexcept {
  for (std::size_t i = 0; i < kCodes / 2; ++i) {
    std::uint16_t pair = 0;
    std::memcpy(&pair, codes + 2 * i, 2);
    packed[i] = static_cast<std::byte>((pair & 0x0FU) | ((pair >> 4) & 0xF0U));
  }
}

/// The inverse.
template <std::size_t kCodes>
void spread_nibbles(const std::byte* packed, std::uint8_t* codes) noexcept {
  for (std::size_t i = 0; i < kCodes / 2; ++i) {
    const auto pair = std::to_integer<unsigned>(packed[i]);
    const auto both = static_cast<std::uint16_t>((pair | pair << 4) & 0x0F0FU);
    std::memcpy(codes + 2 * i, &both, 2);
  }
}

/// The first kBytes bytes at `bytes` as a little-endian number.
template <int kBytes>
std::uint64_t load_bytes(const std::byte* bytes) noexcept {
  static_assert(kBytes >= 1 && kBytes <= 8);
  std::uint64_t value = 0;
  std::memcpy(&value, bytes, kBytes);
  return value;
}

template <int kBytes>
void store_bytes(std::byte* bytes, std::uint64_t value) noexcept {
  static_assert(kBytes >= 1 && kBytes <= 8);
  std::memcpy(bytes, &value, kBytes);
}

/// Calls `visit` with `bits` as a std::integral_constant<int, 1 to 8>, so that shifts and masks become constants.
/// Throws Error{invalid} for any other width.
template <typename Visitor>
decltype(auto) with_bits(int bits, Visitor&& visit) {
  switch (bits) {
    case 1: return visit(std::integral_constant<int, 1>());
    case 2: return visit(std::integral_constant<int, 2>());
    case 3: return visit(std::integral_constant<int, 3>());
    case 4: return visit(std::integral_constant<int, 4>());
    case 5: return visit(std::integral_constant<int, 5>());
    case 6: return visit(std::integral_constant<int, 6>());
    case 7: return visit(std::integral_constant<int, 7>());
    case 8: return visit(std::integral_constant<int, 8>());
    default: throw Error(ErrorCode::invalid, "codes are 1 to 8 bits wide, not {}", bits);
  }
}

}  // namespace regauge
