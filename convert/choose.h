#pragma once

#include <string>
#include <variant>

#include "convert/adapt.h"
#include "convert/plan.h"

namespace regauge {

/// A target that nothing permitted can hold, and why.
struct Offender {
  std::string reason;
};

/// The least lossy permitted route for one target: copy, else an exact repack, else dense values. Reads what the
/// predicates need; safe from any thread. `format` is the target's.
std::variant<Step, Offender> choose_route(const Target& target, const Format& format, const ConvertOptions& options);

}  // namespace regauge
