#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/finding.h"
#include "inspect/catalog.h"
#include "inspect/completeness.h"
#include "inspect/marlin.h"
#include "inspect/scan.h"
#include "ir/checkpoint.h"
#include "models/architecture.h"

namespace regauge::inspect {

/// Everything that findings are made of. `architecture` and `completeness` are null when the architecture is not known,
/// `scan` is null when no data was read.
struct Evidence {
  const Checkpoint& checkpoint;
  const Catalog& catalog;
  const MarlinVerdict& marlin;
  const Architecture* architecture = nullptr;
  const Completeness* completeness = nullptr;
  const ScanReport* scan = nullptr;
};

/// What the reader remarked, then what the architecture, the quantization and (with a scan) the data say; docs/json.md lists
/// the codes. Statements that the data could overturn say "by config" or "by data".
Findings collect_findings(const Evidence& evidence);

/// What the means of norms say against the dialect that the checkpoint speaks; nothing when they agree.
std::optional<Finding> contradicted_norms(const Checkpoint& checkpoint, const std::vector<NormMean>& norms);

/// Names of tensors for a sentence: the first `most`, then "and N more".
std::string name_tensors(const Checkpoint& checkpoint, const std::vector<std::size_t>& tensors, std::size_t most);

}  // namespace regauge::inspect
