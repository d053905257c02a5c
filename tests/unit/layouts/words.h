#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"

namespace regauge::layouts {

using Bytes = std::vector<std::byte>;
using Codes = std::vector<std::uint8_t>;
using Rng = std::mt19937_64;

inline Bytes random_bytes(Rng& random, std::size_t count) {
  Bytes bytes(count);
  for (auto& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

inline Codes random_codes(Rng& random, std::size_t count, int bits) {
  Codes codes(count);
  for (auto& code : codes) code = static_cast<std::uint8_t>(random() & ((1U << bits) - 1U));
  return codes;
}

/// Bytes filled with a pattern, so that what a function leaves unwritten shows.
inline Bytes unwritten(std::size_t count) { return Bytes(count, std::byte{0xA5}); }
inline Codes unwritten_codes(std::size_t count) { return Codes(count, 0xA5); }

inline Bytes bytes_of_words(const std::vector<std::uint32_t>& words) {
  Bytes bytes(words.size() * 4);
  std::memcpy(bytes.data(), words.data(), bytes.size());
  return bytes;
}

/// `bits` bits of `bytes` from stream bit `first` on, one bit at a time: the slow and plain reading of every layout here.
inline std::uint8_t stream_bits(std::span<const std::byte> bytes, std::size_t first, int bits) {
  unsigned code = 0;
  for (int b = 0; b < bits; ++b) {
    const std::size_t t = first + static_cast<std::size_t>(b);
    code |= (std::to_integer<unsigned>(bytes[t / 8]) >> (t % 8) & 1U) << b;
  }
  return static_cast<std::uint8_t>(code);
}

/// [rows, columns] to [columns, rows].
template <typename T>
std::vector<T> transposed(std::span<const T> from, std::size_t rows, std::size_t columns) {
  std::vector<T> to(from.size());
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < columns; ++c) to[c * rows + r] = from[r * columns + c];
  }
  return to;
}

/// Columns [first, first + count) of `from` [rows, columns], elements of `element_bytes` bytes: what a reader gets with
/// one positional read per row.
inline Bytes column_band(std::span<const std::byte> from, std::size_t rows, std::size_t columns, std::size_t first,
                         std::size_t count, std::size_t element_bytes) {
  Bytes band;
  for (std::size_t r = 0; r < rows; ++r) {
    const auto part = from.subspan((r * columns + first) * element_bytes, count * element_bytes);
    band.insert(band.end(), part.begin(), part.end());
  }
  return band;
}

/// The code of the Error that `call` throws.
ErrorCode error_code_of(auto&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorCode::io;
}

}  // namespace regauge::layouts
