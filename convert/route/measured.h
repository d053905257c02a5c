#pragma once

#include <span>

#include "convert/route/row_maker.h"

namespace regauge {

/// Scales of a row's runs of columns, where codes have steps: neighbouring codes are |scale| apart.
struct StepScales {
  std::span<const float> scales;  ///< of the runs of all rows; 0: no step
  std::size_t width = 0;          ///< columns of a run, the last of a row perhaps shorter; 0: there are no steps
};

/// Adds to `loss` how `stored` differs from `wanted` in rows of `columns`, element by element, -0 equal to +0 and any NaN to
/// any NaN. The sums run over what is finite in both; they are taken in f32 over up to 256 columns of a row and in f64 from
/// there, whatever rows come together. The largest difference and the largest in steps are as f32 rounds them.
void measure_values(std::span<const float> wanted, std::span<const float> stored, std::size_t columns,
                    const StepScales& steps, Loss& loss);

/// The same rows, held against the source's values while they are hot: what `maker` makes is decoded again and every
/// value that differs is counted in the band's Loss. For routes that round. `target` must outlive the result.
RowMakerPtr measured(const Target& target, RowMakerPtr maker);

}  // namespace regauge
