#pragma once

#include <cstdint>

#include "convert/options.h"
#include "convert/plan.h"

namespace regauge {

/// What the workers of a run may hold: so many of them, each with buffers of so many bytes.
struct MemoryShare {
  int workers = 1;
  std::uint64_t worker_bytes = 0;
};

/// Upper bound of what a worker holds while it makes (and, with `verify`, checks) `rows` rows of a step: the arrays of the
/// band, the parts of its source rows as they are stored and unpacked, and values in f32 where the route goes through them.
std::uint64_t band_bytes(const Step& step, const Target& target, std::int64_t rows, bool verify);

/// Rows of a band that fits `worker_bytes`: at most what the maker asks for, at least one quantum.
std::int64_t band_height(const Step& step, const Target& target, std::uint64_t worker_bytes, bool verify);

/// Splits options.max_memory, less the `held` bytes that the process has already, among as many of options.threads workers
/// as can make every step of the plan. Throws Error{invalid} with the bytes needed when one worker cannot.
MemoryShare share_memory(const Plan& plan, const ConvertOptions& options, std::uint64_t held);

/// Threads to plan with: reading scales and codes costs each of them bands of its own.
int planning_threads(const ConvertOptions& options);

/// Anonymous memory of this process in bytes, or 0 where the system does not tell.
std::uint64_t anonymous_bytes();

}  // namespace regauge
