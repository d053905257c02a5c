#pragma once

#include <span>

namespace regauge {

/// Throws Error{unsupported} when one of the values is a NaN or an infinity: no quantizer of an integer format defines
/// what becomes of them.
void require_finite(std::span<const float> values);

}  // namespace regauge
