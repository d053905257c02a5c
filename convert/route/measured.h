#pragma once

#include <span>

#include "convert/route/row_maker.h"

namespace regauge {

/// Adds to `loss` how `stored` differs from `wanted`, element by element, -0 equal to +0 and any NaN to any NaN. The sums
/// run over what is finite in both.
void measure_values(std::span<const float> wanted, std::span<const float> stored, Loss& loss);

/// The worst of the same differences in units of the quantization step, which is the |scale| of each run of `width` elements
/// of a row of `columns` (the last run perhaps shorter); a scale of 0 is no step.
void measure_steps(std::span<const float> wanted, std::span<const float> stored, std::span<const float> scales,
                   std::size_t width, std::size_t columns, Loss& loss);

/// The same rows, held against the source's values while they are hot: what `maker` makes is decoded again and every
/// value that differs is counted in the band's Loss. For routes that round. `target` must outlive the result.
RowMakerPtr measured(const Target& target, RowMakerPtr maker);

}  // namespace regauge
