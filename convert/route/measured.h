#pragma once

#include "convert/route/row_maker.h"

namespace regauge {

/// The same rows, held against the source's values while they are hot: what `maker` makes is decoded again and every
/// value that differs is counted in the band's Loss. For routes that round. `target` must outlive the result.
RowMakerPtr measured(const Target& target, RowMakerPtr maker);

}  // namespace regauge
