#pragma once

#include <vector>

#include "convert/journal.h"
#include "convert/memory.h"
#include "convert/output_run.h"

namespace regauge {

/// A band to make, or one that an earlier run has recorded and that is made again only if it is not there as recorded.
struct Job {
  Band band;
  const BandRecord* record = nullptr;
};

/// Everything there is to do, in the order of the files: recorded bands as they were cut then, what is between them in
/// bands that fit the share. Records that make no sense for the plan, that `verify` finds unverified, or whose writer
/// cannot go on in the middle, count as not there.
std::vector<Job> cut_into_jobs(const Plan& plan, const OutputRuns& outputs, const std::vector<BandRecord>& records,
                               const MemoryShare& share, bool verify);

/// `rows` of a step in bands of `height`, in order.
std::vector<Band> cut_into_bands(std::size_t output, std::size_t step, RowRange rows, std::int64_t height);

}  // namespace regauge
