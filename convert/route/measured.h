#pragma once

#include <span>

#include "convert/route/row_maker.h"

namespace regauge {

/// Adds to `loss` how `stored` differs from `wanted`, element by element, -0 equal to +0 and any NaN to any NaN. `steps` has
/// the quantization step of each element (0: it has none), or nothing. The sums run over what is finite in both.
void measure_values(std::span<const float> wanted, std::span<const float> stored, std::span<const float> steps,
                    Loss& loss);

/// The same rows, held against the source's values while they are hot: what `maker` makes is decoded again and every
/// value that differs is counted in the band's Loss. For routes that round. `target` must outlive the result.
RowMakerPtr measured(const Target& target, RowMakerPtr maker);

}  // namespace regauge
