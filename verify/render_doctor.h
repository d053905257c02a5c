#pragma once

#include <string>

#include "base/json.h"
#include "verify/doctor.h"

namespace regauge {

/// Every ailment with its code, evidence, whom it breaks and the commands that mend it; then remarks and a verdict.
std::string render_diagnosis(const Diagnosis& diagnosis);

/// The schema "regauge.doctor/1" of docs/json.md.
Json diagnosis_to_json(const Diagnosis& diagnosis);

}  // namespace regauge
