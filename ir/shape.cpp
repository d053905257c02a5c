#include "ir/shape.h"

#include <span>

#include <fmt/ranges.h>

#include "base/checked.h"
#include "base/error.h"

namespace regauge {

std::optional<std::int64_t> Shape::checked_elements() const { return checked_product(dims); }

std::int64_t Shape::elements() const {
  const auto count = checked_elements();
  if (!count) throw Error(ErrorCode::internal, "shape {} was not checked by its reader", to_string(*this));
  return *count;
}

std::int64_t Shape::rows() const {
  if (dims.empty()) return 1;
  const auto count = checked_product(std::span(dims).first(dims.size() - 1));
  if (!count) throw Error(ErrorCode::internal, "shape {} was not checked by its reader", to_string(*this));
  return *count;
}

std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape.dims, ", ")); }

}  // namespace regauge
