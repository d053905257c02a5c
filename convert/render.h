#pragma once

#include <string>

#include "base/json.h"
#include "convert/execute.h"
#include "convert/plan.h"
#include "ir/checkpoint.h"

namespace regauge {

/// The plan as a table for people: every array with its route, fidelity and reason, then totals. Ends with a line feed.
std::string render_plan(const Checkpoint& source, const Plan& plan);

/// What a run did: outputs, verdicts by fidelity, the worst roundings, what was left out, bytes, seconds, MB/s.
std::string render_report(const Checkpoint& source, const Plan& plan, const Report& report);

/// How far a run is, in one line of at most `width` columns: bytes, rate, time left, tensor; the tensor is cut first.
/// Bytes that an earlier run had made count as done and not for the rate.
std::string render_progress(const Progress& progress, double seconds, std::size_t width);

/// Findings, one a line: "warning: ...". Empty when there are none.
std::string render_findings(const Findings& findings);

/// The schema "regauge.convert/1" of docs/json.md; without a report it describes a dry run.
Json convert_to_json(const Checkpoint& source, const Plan& plan, const Report* report);

}  // namespace regauge
