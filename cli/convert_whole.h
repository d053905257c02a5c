#pragma once

#include <atomic>

#include "cli/convert_arguments.h"

namespace regauge::cli {

/// `regauge convert` where nothing is to change: into a container, out of one, or the same format again. Returns the exit
/// status; throws what reading and writing throw.
int copy_whole_checkpoint(const ConvertArguments& arguments, const ConvertOptions& options, const Checkpoint& source,
                          const std::atomic<bool>& interrupted);

}  // namespace regauge::cli
