#pragma once

#include <cstddef>
#include <span>

#include "ir/dtype.h"

namespace regauge {

/// Whether decode_dense takes this type: every one but c64, which no f32 can stand for.
bool can_decode(DType dtype) noexcept;

/// Decodes dense values to f32. Exact for every float of 32 bits or fewer (f32 is copied, so NaN payloads stay) and
/// for integers of 16 bits or fewer; f64 and wider integers round to nearest even, f64 overflows to infinity. A bool
/// is 1 unless its byte is 0. The 8-bit and smaller floats are read as OCP defines them, the fnuz ones as their own;
/// f4 and f6 are packed without gaps from the lowest bit on: element i is bits [i * b, i * b + b) of the
/// little-endian whole. `values` holds exactly storage_bytes(dtype, out.size()) bytes at any alignment, so f4 comes
/// in twos and f6 in fours, else Error{invalid}; Error{unsupported} unless can_decode(dtype). Safe from any number of
/// threads.
void decode_dense(DType dtype, std::span<const std::byte> values, std::span<float> out);

}  // namespace regauge
