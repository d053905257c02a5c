#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "base/finding.h"
#include "inspect/catalog.h"
#include "inspect/completeness.h"
#include "inspect/marlin.h"
#include "inspect/scan.h"
#include "inspect/summary.h"
#include "ir/checkpoint.h"
#include "models/architecture.h"

namespace regauge::inspect {

/// All answers about one checkpoint, as data; renderers turn them into text and JSON.
struct Report {
  std::unique_ptr<const Architecture> architecture;  ///< null when it is none that we know
  Catalog catalog;
  Summary summary;
  std::optional<Completeness> completeness;  ///< set with the architecture
  MarlinVerdict marlin;
  std::optional<ScanReport> scan;  ///< set when asked for
  Findings findings;
};

enum class Depth : std::uint8_t {
  headers,  ///< reads no tensor data
  data,     ///< reads all of it once
};

/// Answers every question. A configuration that names a known architecture and cannot be used becomes a finding, and the
/// tensors are shown under their own names. `progress`, when given, is called with stored bytes read and to be read, from this
/// thread. Throws Error{io} for sidecars that cannot be read.
Report examine(const Checkpoint& checkpoint, Depth depth = Depth::headers, const ScanProgress& progress = {});

}  // namespace regauge::inspect
