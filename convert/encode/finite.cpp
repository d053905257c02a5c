#include "convert/encode/finite.h"

#include <algorithm>
#include <bit>
#include <cstdint>

#include "base/error.h"

namespace regauge {

void require_finite(std::span<const float> values) {
  // Without a way out of the loop it runs as fast as memory does.
  std::uint32_t largest = 0;
  for (const float value : values) largest = std::max(largest, std::bit_cast<std::uint32_t>(value) & 0x7FFFFFFFU);
  if (largest >= 0x7F800000U) {
    throw Error(ErrorCode::unsupported, "a NaN or an infinity among the weights cannot be quantized");
  }
}

}  // namespace regauge
