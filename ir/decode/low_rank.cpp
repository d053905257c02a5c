#include "ir/decode/low_rank.h"

#include <algorithm>

#include "base/error.h"

namespace regauge {

void add_low_rank(std::int64_t rows, std::int64_t rank, std::int64_t columns, std::span<const float> b,
                  std::span<const float> a, std::span<double> sums, std::span<float> values) {
  const auto n = static_cast<std::size_t>(rows);
  const auto r = static_cast<std::size_t>(rank);
  const auto k = static_cast<std::size_t>(columns);
  if (rows < 0 || rank < 0 || columns < 0 || b.size() != n * r || a.size() != r * k || sums.size() != k ||
      values.size() != n * k) {
    throw Error(ErrorCode::internal, "low-rank factors of {} and {} values given for a band of {} x {}, rank {}",
                b.size(), a.size(), rows, columns, rank);
  }
  for (std::size_t row = 0; row < n; ++row) {
    std::ranges::fill(sums, 0.0);
    for (std::size_t j = 0; j < r; ++j) {
      // A product of two f32 has 48 significant bits, so it is exact in f64 and only the sum rounds.
      const double factor = b[row * r + j];
      const std::span<const float> line = a.subspan(j * k, k);
      for (std::size_t i = 0; i < k; ++i) sums[i] += factor * static_cast<double>(line[i]);
    }
    const std::span<float> out = values.subspan(row * k, k);
    for (std::size_t i = 0; i < k; ++i) out[i] = static_cast<float>(sums[i] + static_cast<double>(out[i]));
  }
}

}  // namespace regauge
