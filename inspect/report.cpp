#include "inspect/report.h"

#include <utility>

#include "base/error.h"
#include "inspect/findings.h"

namespace regauge::inspect {

Report examine(const Checkpoint& checkpoint, Depth depth, const ScanProgress& progress) {
  Report report;
  std::optional<Finding> senseless;
  try {
    report.architecture = recognise(checkpoint);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::malformed && error.code() != ErrorCode::unsupported) throw;
    senseless = Finding{Severity::fault, "config-malformed", error.message(), error.file(), error.tensor_name()};
  }
  const Architecture* architecture = report.architecture.get();
  report.catalog = make_catalog(checkpoint, architecture);
  report.summary = summarise(checkpoint, architecture, report.catalog);
  if (architecture != nullptr) report.completeness = check_completeness(checkpoint, *architecture, report.catalog);
  report.marlin = judge_marlin(checkpoint, report.catalog);
  if (depth == Depth::data) report.scan = scan(checkpoint, architecture, report.catalog, progress);
  report.findings = collect_findings({.checkpoint = checkpoint,
                                      .catalog = report.catalog,
                                      .marlin = report.marlin,
                                      .architecture = architecture,
                                      .completeness = report.completeness ? &*report.completeness : nullptr,
                                      .scan = report.scan ? &*report.scan : nullptr});
  if (senseless) {
    report.summary.architecture_refused = true;
    std::erase_if(report.findings, [](const Finding& finding) { return finding.code == "architecture-unknown"; });
    report.findings.insert(report.findings.begin(), std::move(*senseless));
  }
  return report;
}

}  // namespace regauge::inspect
