#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "ir/axis_map.h"

namespace regauge {

/// A change of every value. The second of each pair undoes the first, in general not to the last bit.
enum class Elementwise : std::uint8_t {
  none,
  add_one,  ///< f32(w + 1)
  sub_one,  ///< f32(w - 1)
  neg_exp,  ///< (float)-exp((double)w)
  log_neg,  ///< (float)log(-(double)w)
};

std::string_view name(Elementwise op);

/// A pending change of convention, as a value: the rows and columns to take, then a change of every value. Views compose
/// and cancel without touching data: what goes there and back is nothing.
struct View {
  std::optional<AxisMap> rows;     ///< absent: all, in order
  std::optional<AxisMap> columns;  ///< absent: all, in order
  Elementwise elementwise = Elementwise::none;

  bool is_identity() const noexcept { return !rows && !columns && elementwise == Elementwise::none; }
  bool moves_columns() const noexcept { return columns.has_value(); }
  bool operator==(const View&) const = default;
};

/// The view that applies `first`, then `second`. An elementwise pair that undoes itself disappears; identity maps too.
/// `rows` and `columns` are the source's size. Throws Error{unsupported} when two different value changes would stack up.
View compose(const View& first, const View& second, std::int64_t rows, std::int64_t columns);

/// The view that undoes `view`; nothing when it drops rows or columns.
std::optional<View> inverse(const View& view);

/// One value through `op`. The result does not depend on libm's rounding of float functions: see docs/decoding.md.
float apply(Elementwise op, float value) noexcept;

}  // namespace regauge
