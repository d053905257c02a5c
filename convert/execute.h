#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "convert/options.h"
#include "convert/plan.h"

namespace regauge {

/// What became of one array.
struct StepResult {
  Fidelity fidelity = Fidelity::bytes;  ///< as measured: at least as good as promised
  Loss loss;
};

struct OutputResult {
  std::filesystem::path path;
  std::uint64_t file_bytes = 0;
  std::vector<StepResult> steps;  ///< one for each of PlannedOutput::steps
};

struct Report {
  std::vector<OutputResult> outputs;
  std::uint64_t source_bytes = 0;  ///< size of the source's files
  double seconds = 0;              ///< of the execution; never part of an output

  std::uint64_t file_bytes() const;
};

/// Carries the plan out: bands of rows through their makers into the writers, on options.threads workers. Outputs appear
/// under their names only when all of them are complete, the model last; on any error, or when `cancel` becomes true
/// (Error{io}), nothing of them is left and existing files are as they were. The bytes do not depend on the threads.
Report execute(const Plan& plan, const Checkpoint& source, const ConvertOptions& options,
               const ProgressFn& progress = {}, const std::atomic<bool>* cancel = nullptr);

}  // namespace regauge
