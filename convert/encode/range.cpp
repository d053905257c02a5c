#include "convert/encode/range.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/error.h"

namespace regauge {

Range range_of(std::span<const float> values) {
  // Several minima and maxima at once, because a single one would wait for itself at every value.
  constexpr std::size_t kLanes = 16;
  std::array<float, kLanes> low;
  std::array<float, kLanes> high;
  low.fill(values.front());
  high.fill(values.front());
  std::size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const float value = values[i + lane];
      low[lane] = value < low[lane] ? value : low[lane];
      high[lane] = value > high[lane] ? value : high[lane];
    }
  }
  Range range{*std::ranges::min_element(low), *std::ranges::max_element(high)};
  for (; i < values.size(); ++i) range = {std::min(range.low, values[i]), std::max(range.high, values[i])};
  return range;
}

void require_finite(std::span<const float> values) {
  // Without a way out of the loop it runs as fast as memory does.
  std::uint32_t largest = 0;
  for (const float value : values) largest = std::max(largest, std::bit_cast<std::uint32_t>(value) & 0x7FFFFFFFU);
  if (largest >= 0x7F800000U) {
    throw Error(ErrorCode::unsupported, "a NaN or an infinity among the weights cannot be quantized");
  }
}

}  // namespace regauge
