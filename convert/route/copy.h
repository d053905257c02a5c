#pragma once

#include "convert/route/row_maker.h"

namespace regauge {

/// Whether the target's bytes are the source's, moved at most: every piece stores its rows in one encoding, no value
/// changes, and column maps keep whole elements or blocks. Says why not otherwise.
std::optional<std::string> cannot_copy(const Target& target);

/// Rows copied as stored. Precondition: cannot_copy() says nothing. `target` must outlive the result.
RowMakerPtr make_copy(const Target& target);

}  // namespace regauge
