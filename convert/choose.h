#pragma once

#include <string>
#include <variant>

#include "convert/adapt.h"
#include "convert/plan.h"
#include "convert/recipe/assign.h"

namespace regauge {

/// A target that nothing permitted can hold, and why.
struct Offender {
  std::string reason;
};

/// The least lossy permitted route for one target to what `decision` wishes: copy, else an exact repack, else dense values
/// or new codes as far as they are permitted. Reads what the predicates need; safe from any thread. `format` is the target's.
std::variant<Step, Offender> choose_route(const Target& target, const Format& format, const ConvertOptions& options,
                                          const Decision& decision = {});

}  // namespace regauge
