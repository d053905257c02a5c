#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "convert/route/row_maker.h"
#include "ir/dtype.h"

namespace regauge {

/// A number that need not be an f32, whatever type it is stored as: the f64 nearest to it, and exactly what remains. Only
/// integers beyond 2^53 leave something.
struct Wide {
  double high = 0;
  double low = 0;
};

/// Equal as numbers: -0 is +0, any NaN is any NaN.
bool same_number(const Wide& a, const Wide& b);

/// a - b, rounded, and 0 for equal numbers only.
double difference(const Wide& a, const Wide& b);

/// Numbers of F64, I64, U64, I32 or U32, little endian, at any alignment.
void widen(DType dtype, std::span<const std::byte> bytes, std::span<Wide> out);

/// Rows of a target in their own domain, where the dequant reference, which gives f32, would have to round.
class WideRows {
 public:
  /// Nothing when f32 holds every value that the type has, and where the effective form is f32 by definition (1 + w). `target` must
  /// outlive the result.
  static std::optional<WideRows> of(const Target& target);

  /// Rows to read at once so that a band stays at a few MiB.
  std::int64_t band_rows() const { return maker_->band_rows(); }
  /// Any thread, each with its own buffers. `out` holds rows.size() * columns numbers. Throws what reading throws.
  void read(RowRange rows, Scratch& scratch, std::vector<std::byte>& raw, std::span<Wide> out) const;

 private:
  WideRows(RowMakerPtr maker, DType dtype) : maker_(std::move(maker)), dtype_(dtype) {}

  RowMakerPtr maker_;
  DType dtype_;
};

}  // namespace regauge
