#pragma once

#include <string>

#include "base/json.h"
#include "verify/diff.h"

namespace regauge {

/// How much of a difference to show.
enum class DiffDetail : std::uint8_t {
  worst,  ///< the ten worst or first of everything
  all,
};

/// "[3, 17]": the element at a place of a row-major tensor.
std::string position(const Shape& shape, std::uint64_t at);

/// For people: structure, dialect, encodings, values by component, the worst tensors, keys, and the verdict in one line.
std::string render_diff(const Diff& diff, DiffDetail detail);

/// The document of schema "regauge.diff/1" (docs/json.md).
Json diff_to_json(const Diff& diff, const std::string& first, const std::string& second);

}  // namespace regauge
