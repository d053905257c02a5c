#pragma once

#include "convert/route/row_maker.h"
#include "ir/dtype.h"

namespace regauge {

/// Whether values decoded from `encoding` survive storage as `dtype` (f32, bf16 or f16) by the types alone.
bool widens_exactly(const Encoding& encoding, DType dtype);

/// Rows decoded through the reference, changed as the view says and stored as `dtype`: f32, bf16 or f16. Rounds once,
/// to nearest even, and measures. `target` must outlive the result. Throws Error{unsupported} for another dtype.
RowMakerPtr make_dense(const Target& target, DType dtype);

/// What storing all of `target` as `dtype` would cost: reads everything. For vectors.
Loss measure_dense(const Target& target, DType dtype);

/// Whether two small targets hold the same values in the same order: -0 equals +0, any NaN any NaN.
bool same_values(const Target& first, const Target& second);

}  // namespace regauge
