#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/half.h"

namespace regauge::ggml_encode {

/// The codes of a super-block, one a byte.
using Codes = std::array<std::uint8_t, 256>;

/// What a reader of the block will take its scale for.
inline float stored_f16(const std::uint8_t* bytes) noexcept {
  std::uint16_t bits = 0;
  std::memcpy(&bits, bytes, sizeof bits);
  return f16_to_f32(bits);
}

/// Four runs of 32 codes in the bits of 32 bytes, for each half of the super-block (Q2_K and Q3_K).
inline void put_two_bit_codes(const Codes& codes, std::uint8_t* out) noexcept {
  for (std::size_t half = 0; half < 2; ++half) {
    const std::uint8_t* run = codes.data() + 128 * half;
    for (std::size_t l = 0; l < 32; ++l) {
      out[32 * half + l] =
          static_cast<std::uint8_t>(run[l] | run[l + 32] << 2U | run[l + 64] << 4U | run[l + 96] << 6U);
    }
  }
}

}  // namespace regauge::ggml_encode
