#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "base/finding.h"
#include "inspect/scan.h"
#include "ir/checkpoint.h"

namespace regauge {

/// What one checkpoint is like by itself.
struct Soundness {
  Findings findings;  ///< of the headers, then of the data, in the order of the tensors
  std::uint64_t tensors = 0;
  std::uint64_t values = 0;  ///< decoded

  /// No fault: warnings are for people to weigh.
  bool sound() const;
};

/// Looks at headers as `inspect` does, then decodes every tensor, on `threads` workers (0: one for each core). Faults are
/// weights that are missing, of a wrong shape or cannot be read (a group index out of range, a file too short), values that are
/// no numbers, and parts of a container that do not have their digests; warnings are scales of zero, below zero or of 100 and more. Throws what examine() throws, and
/// Error{io} when `cancel` becomes true.
Soundness examine_soundness(const Checkpoint& checkpoint, int threads = 0, const inspect::ScanProgress& progress = {},
                            const std::atomic<bool>* cancel = nullptr);

}  // namespace regauge
