#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>

namespace regauge::layouts {

/// Throws Error{internal} unless `actual` is the product of `dims`: readers check what files say, so a span of the wrong
/// size here is a mistake of ours, and cheaper to catch than to chase.
void require_extent(std::string_view what, std::size_t actual, std::initializer_list<std::int64_t> dims);

/// Throws Error{invalid} unless `value` is not negative and a multiple of `quantum`.
void require_multiple(std::string_view what, std::int64_t value, std::int64_t quantum);

}  // namespace regauge::layouts
