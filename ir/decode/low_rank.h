#pragma once

#include <cstdint>
#include <span>

namespace regauge {

/// Adds the product of low-rank factors to a band of decoded rows: values[i, k] = f32(f64(values[i, k]) + sum), where sum
/// starts at 0 and takes f64(b[i, j]) * f64(a[j, k]) with j ascending, every step rounded to f64, and f32() is the only
/// rounding to f32. `b` is [rows, rank], `a` [rank, columns], `values` [rows, columns]; `sums` is scratch of `columns`
/// elements. Throws Error{internal} when the spans do not belong together. Safe from any number of threads.
void add_low_rank(std::int64_t rows, std::int64_t rank, std::int64_t columns, std::span<const float> b,
                  std::span<const float> a, std::span<double> sums, std::span<float> values);

}  // namespace regauge
