#include "convert/jobs.h"

#include <algorithm>

namespace regauge {
namespace {

bool makes_sense(const BandRecord& record, const Step& step, std::int64_t target_rows) {
  const RowRange rows = record.band.rows;
  return rows.begin >= 0 && rows.begin < rows.end && rows.end <= target_rows && rows.begin % step.quantum == 0 &&
         (rows.end % step.quantum == 0 || rows.end == target_rows) && record.digests.size() == step.arrays.size();
}

}  // namespace

std::vector<Band> cut_into_bands(std::size_t output, std::size_t step, RowRange rows, std::int64_t height) {
  std::vector<Band> bands;
  for (std::int64_t row = rows.begin; row < rows.end; row += height) {
    bands.push_back({output, step, {row, std::min(rows.end, row + height)}});
  }
  return bands;
}

std::vector<Job> cut_into_jobs(const Plan& plan, const OutputRuns& outputs, const std::vector<BandRecord>& records,
                               const MemoryShare& share, bool verify) {
  std::vector<Job> jobs;
  auto record = records.begin();
  for (std::size_t o = 0; o < plan.outputs.size(); ++o) {
    const PlannedOutput& output = plan.outputs[o];
    for (std::size_t s = 0; s < output.steps.size(); ++s) {
      const Step& step = output.steps[s];
      const Target& target = output.targets[s];
      const std::int64_t height = band_height(step, target, share.worker_bytes, verify);
      std::int64_t row = 0;
      const auto fill_up_to = [&](std::int64_t end) {
        for (const Band& band : cut_into_bands(o, s, {row, end}, height)) jobs.push_back({band, nullptr});
      };
      for (; record != records.end() && record->band.output == o && record->band.step == s; ++record) {
        if (outputs[o].in_order() || !makes_sense(*record, step, target.rows) || (verify && !record->verified))
          continue;
        fill_up_to(record->band.rows.begin);
        jobs.push_back({record->band, &*record});
        row = record->band.rows.end;
      }
      fill_up_to(target.rows);
    }
  }
  return jobs;
}

}  // namespace regauge
