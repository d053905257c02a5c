#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/half.h"
#include "ir/dtype.h"
#include "tests/support/golden.h"

namespace regauge::testing {

/// A golden tensor of F32, F16 or BF16, widened.
inline std::vector<float> floats_of(const GoldenFile::Entry& entry) {
  if (entry.dtype == "F32") return entry.as<float>();
  std::vector<float> values;
  for (const auto bits : entry.as<std::uint16_t>()) {
    values.push_back(entry.dtype == "F16" ? f16_to_f32(bits) : bf16_to_f32(bits));
  }
  return values;
}

/// The bytes of values that F32, F16 or BF16 hold exactly.
inline std::vector<std::byte> stored_as(DType dtype, std::span<const float> values) {
  const std::size_t size = dtype == DType::f32 ? 4 : 2;
  std::vector<std::byte> bytes(values.size() * size);
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::byte* at = bytes.data() + i * size;
    if (dtype == DType::f32) {
      std::memcpy(at, &values[i], size);
    } else {
      store_le(at, dtype == DType::f16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]));
    }
  }
  return bytes;
}

}  // namespace regauge::testing
