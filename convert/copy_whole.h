#pragma once

#include <atomic>

#include "convert/options.h"
#include "formats/format.h"

namespace regauge {

/// Carries a checkpoint over as it is: its units through `writer`, on `threads` workers, then seals. Nothing is committed.
/// On an error, or when `cancel` becomes true (Error{io}), the writer is left unsealed. The bytes do not depend on threads.
void copy_whole(WholeWriter& writer, int threads, const ProgressFn& progress = {},
                const std::atomic<bool>* cancel = nullptr);

/// Holds every stored array of a copy against the source's, byte by byte. Throws Error{internal} naming the first that
/// differs.
void check_copy(const Checkpoint& source, const Checkpoint& copy);

}  // namespace regauge
