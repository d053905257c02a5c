#pragma once

#include <span>

namespace regauge {

struct Range {
  float low;
  float high;
};

/// Smallest and largest of one or more values without NaN. Which zero it gives where -0 meets +0 is not said.
Range range_of(std::span<const float> values);

/// Throws Error{unsupported} when one of the values is a NaN or an infinity: no quantizer of an integer format defines
/// what becomes of them.
void require_finite(std::span<const float> values);

}  // namespace regauge
