#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "ir/decode/tensor.h"
#include "ir/rows.h"

namespace regauge::inspect {

/// Bytes that a walk over rows aims to hold at a time; a single longer row is read whole.
inline constexpr std::size_t kBandBytes = std::size_t{4} << 20;

/// Rows of a band: about kBandBytes, at least one quantum, a multiple of it, and what the source prefers where it does.
inline std::int64_t band_rows(std::size_t row_bytes, std::int64_t quantum, std::int64_t preferred) {
  const auto affordable = static_cast<std::int64_t>(kBandBytes / std::max<std::size_t>(row_bytes, 1));
  const std::int64_t wanted = std::max({affordable, preferred, quantum});
  return wanted / quantum * quantum;
}

/// Reads all rows of `source` in ascending bands into a buffer that is used again and calls `visit(bytes)` for each.
template <typename Visitor>
void for_each_band(const RowSource& source, Visitor&& visit) {
  if (source.row_bytes() == 0) return;  // 2^62 rows of nothing are legal and would take long to walk
  const std::int64_t step = band_rows(source.row_bytes(), source.row_quantum(), source.preferred_rows());
  std::vector<std::byte> buffer;
  for (std::int64_t begin = 0; begin < source.rows(); begin += step) {
    const RowRange range{begin, std::min(begin + step, source.rows())};
    buffer.resize(static_cast<std::size_t>(range.size()) * source.row_bytes());
    source.read(range, buffer);
    visit(std::span<const std::byte>(buffer));
  }
}

/// Calls `visit` with all values of `tensor`, some rows at a time, in order. Throws what decoding throws.
template <typename Visitor>
void for_each_value_band(const Tensor& tensor, Visitor&& visit) {
  TensorDecoder decoder(tensor);
  if (tensor.shape.elements() == 0) return;
  const std::int64_t rows = tensor.shape.rows();
  const std::int64_t columns = tensor.shape.columns();
  const std::int64_t step = band_rows(static_cast<std::size_t>(columns) * sizeof(float), decoder.row_quantum(), 0);
  Buffer<float> values;
  for (std::int64_t begin = 0; begin < rows; begin += step) {
    const RowRange range{begin, std::min(begin + step, rows)};
    values.resize(static_cast<std::size_t>(range.size() * columns));
    decoder.decode(range, values);
    visit(std::span<const float>(values));
  }
}

}  // namespace regauge::inspect
