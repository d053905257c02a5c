#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "convert/options.h"
#include "convert/plan.h"
#include "convert/stored_digests.h"
#include "convert/verify_band.h"

namespace regauge {

/// What became of one array.
struct StepResult {
  Fidelity fidelity = Fidelity::bytes;  ///< as measured: at least as good as promised
  Loss loss;
  Checked checked = Checked::no;  ///< by options.verify
};

struct OutputResult {
  std::filesystem::path path;
  std::uint64_t file_bytes = 0;
  std::vector<StepResult> steps;        ///< one for each of PlannedOutput::steps
  std::optional<StoredDigests> stored;  ///< with options.digests, where its bytes need not be read again for that
};

struct Report {
  std::vector<OutputResult> outputs;
  std::uint64_t source_bytes = 0;   ///< size of the source's files
  std::uint64_t skipped_bytes = 0;  ///< of the outputs' data: an earlier run had made them
  std::uint64_t checked_bands = 0;  ///< by options.verify, earlier runs included
  double seconds = 0;               ///< of the execution; never part of an output

  std::uint64_t file_bytes() const;
};

/// Carries the plan out: bands of rows through their makers into the writers, on at most options.threads workers that hold
/// options.max_memory together with everything else. Outputs appear under their names only when all of them are complete,
/// the model last. On any error, or when `cancel` becomes true (Error{io}), existing files are as they were, and nothing
/// is left, or with options.journal, once a band is finished, the partial outputs and the journal beside the first
/// output, which a run with options.resume goes on with. The bytes depend on neither threads nor memory nor how often it
/// took. Throws Error{invalid} when options.max_memory does not hold a single band, or options.resume meets the journal of
/// another conversion; Error{internal} when options.verify finds a promise broken.
Report execute(const Plan& plan, const Checkpoint& source, const ConvertOptions& options,
               const ProgressFn& progress = {}, const std::atomic<bool>* cancel = nullptr);

}  // namespace regauge
