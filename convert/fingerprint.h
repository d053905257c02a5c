#pragma once

#include <string>

#include "base/digest.h"
#include "convert/plan.h"

namespace regauge {

/// What must be the same for one run to go on with what another left.
struct Fingerprint {
  std::string program;  ///< version of regauge
  Digest128 source;     ///< sizes and times of the source's files, headers in full
  Digest128 plan;       ///< every output, array, route and key of metadata

  bool operator==(const Fingerprint&) const = default;
};

/// Reads the headers of the files of the plan's sources. Throws Error{io} when they cannot be read any more.
Fingerprint fingerprint_of(const Plan& plan, const ConvertOptions& options);

/// How `now` differs from `then`, as a clause: "the source has changed"; several joined by " and ". Empty when it does not.
std::string difference(const Fingerprint& then, const Fingerprint& now);

}  // namespace regauge
