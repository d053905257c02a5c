#include "formats/layouts/extent.h"

#include <span>

#include "base/checked.h"
#include "base/error.h"

namespace regauge::layouts {

void require_extent(std::string_view what, std::size_t actual, std::initializer_list<std::int64_t> dims) {
  const auto expected = checked_product(std::span(dims.begin(), dims.size()));
  if (!expected || static_cast<std::uint64_t>(*expected) != actual) {
    throw Error(ErrorCode::internal, "{}: expected {} elements, got {}", what, expected.value_or(-1), actual);
  }
}

void require_multiple(std::string_view what, std::int64_t value, std::int64_t quantum) {
  if (value < 0 || value % quantum != 0) {
    throw Error(ErrorCode::invalid, "{} is {}, which is no multiple of {}", what, value, quantum);
  }
}

}  // namespace regauge::layouts
