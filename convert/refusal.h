#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace regauge {

/// Error{refused} that names the first offenders, counts them all and says what would let them pass.
Error refusal(std::string_view reason, std::span<const std::string> offenders, std::string_view way_out);

/// "a, b, c and 17 more"
std::string list_names(std::span<const std::string> names, std::size_t most = 8);

}  // namespace regauge
