#include "convert/execute.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>

#include <oneapi/tbb/enumerable_thread_specific.h>
#include <oneapi/tbb/parallel_for.h>

#include "base/error.h"
#include "convert/workers.h"

namespace regauge {
namespace {

/// A range of rows of one array: what a worker does at a time.
struct Band {
  std::size_t output = 0;
  std::size_t step = 0;
  RowRange rows;
};

std::vector<Band> cut_into_bands(const Plan& plan) {
  std::vector<Band> bands;
  for (std::size_t o = 0; o < plan.outputs.size(); ++o) {
    const PlannedOutput& output = plan.outputs[o];
    for (std::size_t s = 0; s < output.steps.size(); ++s) {
      const Step& step = output.steps[s];
      const std::int64_t rows = output.targets[s].rows;
      const std::int64_t height = std::max(step.maker->band_rows() / step.quantum, std::int64_t{1}) * step.quantum;
      for (std::int64_t row = 0; row < rows; row += height)
        bands.push_back({o, s, {row, std::min(rows, row + height)}});
    }
  }
  return bands;
}

/// Buffers of one worker: what its makers need, and one for each array of a step.
struct Worker {
  Scratch scratch;
  std::vector<std::vector<std::byte>> out;
  std::vector<std::span<std::byte>> views;
};

/// The extents of an array that a band fills: `count` runs of `bytes`, `stride` bytes apart.
struct Strip {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint64_t stride = 0;
  std::uint64_t count = 1;

  std::uint64_t total() const { return bytes * count; }
};

/// `rows` of `target_rows`. A maker's bands end where the array has a byte border.
Strip strip_of(const StepArray& array, RowRange rows, std::int64_t target_rows) {
  if (array.layout == BandLayout::whole) return {0, rows.begin == 0 ? array.plan.bytes() : 0, 0, 1};
  const bool by_rows = array.layout == BandLayout::rows;
  const std::uint64_t stride = by_rows ? array.plan.bytes() : array.plan.row_bytes();
  const auto at = [&](std::int64_t row) {
    return stride == 0 ? 0 : stride * static_cast<std::uint64_t>(row) / static_cast<std::uint64_t>(target_rows);
  };
  const auto count = by_rows ? std::uint64_t{1} : static_cast<std::uint64_t>(array.plan.shape.rows());
  return {at(rows.begin), at(rows.end) - at(rows.begin), stride, count};
}

class Execution {
 public:
  Execution(const Plan& plan, const ConvertOptions& options, const ProgressFn& progress,
            const std::atomic<bool>* cancel)
      : plan_(plan), progress_(progress), cancel_(cancel) {
    const Format& format = *find_format(plan.format);
    for (const PlannedOutput& output : plan.outputs) {
      writers_.push_back(format.create(output.path, {.overwrite = options.overwrite,
                                                     .replace_partial = options.replace_partial,
                                                     .directory = output.directory,
                                                     .shard_bytes = options.shard_bytes,
                                                     .files = output.files}));
      std::vector<ArrayPlan> arrays;
      std::vector<std::size_t>& first = first_array_.emplace_back();
      for (const Step& step : output.steps) {
        first.push_back(arrays.size());
        for (const StepArray& array : step.arrays) arrays.push_back(array.plan);
      }
      writers_.back()->begin(output.metadata, arrays);
      losses_.emplace_back(output.steps.size());
    }
    seen_.bytes_total = plan.data_bytes();
  }

  void run(int threads) {
    const std::vector<Band> bands = cut_into_bands(plan_);
    tbb::enumerable_thread_specific<Worker> workers;
    Workers(threads).run([&] {
      tbb::parallel_for(
          tbb::blocked_range<std::size_t>(0, bands.size(), 1),
          [&](const tbb::blocked_range<std::size_t>& range) {
            for (std::size_t i = range.begin(); i != range.end(); ++i) make(bands[i], workers.local());
          },
          tbb::simple_partitioner());
    });
  }

  std::vector<OutputResult> finish() {
    std::vector<OutputResult> results(plan_.outputs.size());
    // The model comes last: whoever finds it may rely on the files that go with it.
    for (std::size_t i = plan_.outputs.size(); i-- > 0;) {
      writers_[i]->finish();
      results[i] = {plan_.outputs[i].path, writers_[i]->file_bytes(), results_of(i)};
    }
    return results;
  }

 private:
  void make(const Band& band, Worker& worker) {
    if (cancel_ != nullptr && cancel_->load()) throw Error(ErrorCode::io, "interrupted; nothing was written");
    const Step& step = plan_.outputs[band.output].steps[band.step];
    const Target& target = plan_.outputs[band.output].targets[band.step];
    worker.out.resize(std::max(worker.out.size(), step.arrays.size()));
    worker.views.clear();
    std::uint64_t bytes = 0;
    for (std::size_t a = 0; a < step.arrays.size(); ++a) {
      const std::uint64_t size = strip_of(step.arrays[a], band.rows, target.rows).total();
      worker.out[a].resize(static_cast<std::size_t>(size));
      worker.views.emplace_back(worker.out[a]);
      bytes += size;
    }
    Loss loss;
    try {
      step.maker->make(band.rows, worker.views, worker.scratch, loss);
      for (std::size_t a = 0; a < step.arrays.size(); ++a) put(band, a, worker.out[a]);
    } catch (Error& error) {
      throw error.tensor(step.name);
    }
    account(band, loss, bytes, step.name);
  }

  void put(const Band& band, std::size_t array, std::span<const std::byte> bytes) {
    const PlannedOutput& output = plan_.outputs[band.output];
    const Strip strip = strip_of(output.steps[band.step].arrays[array], band.rows, output.targets[band.step].rows);
    if (strip.bytes == 0) return;
    Writer& writer = *writers_[band.output];
    const std::size_t index = first_array_[band.output][band.step] + array;
    for (std::uint64_t i = 0; i < strip.count; ++i) {
      writer.put(index, strip.offset + i * strip.stride,
                 bytes.subspan(static_cast<std::size_t>(i * strip.bytes), static_cast<std::size_t>(strip.bytes)));
    }
  }

  void account(const Band& band, const Loss& loss, std::size_t bytes, std::string_view tensor) {
    const std::scoped_lock lock(mutex_);
    losses_[band.output][band.step].merge(loss);
    seen_.bytes_done += bytes;
    seen_.tensor = tensor;
    if (progress_) progress_(seen_);
  }

  std::vector<StepResult> results_of(std::size_t output) const {
    std::vector<StepResult> results;
    const auto& steps = plan_.outputs[output].steps;
    for (std::size_t s = 0; s < steps.size(); ++s) {
      const Loss& loss = losses_[output][s];
      // A rounding that turned out to change nothing is no rounding.
      const bool spared = steps[s].fidelity == Fidelity::rounded && loss.changed == 0;
      results.push_back({spared ? Fidelity::values : steps[s].fidelity, loss});
    }
    return results;
  }

  const Plan& plan_;
  const ProgressFn& progress_;
  const std::atomic<bool>* cancel_;
  std::vector<std::unique_ptr<Writer>> writers_;
  std::vector<std::vector<std::size_t>> first_array_;  // of each step, in its writer
  std::mutex mutex_;
  std::vector<std::vector<Loss>> losses_;
  Progress seen_;
};

}  // namespace

std::uint64_t Report::file_bytes() const {
  std::uint64_t total = 0;
  for (const OutputResult& output : outputs) total += output.file_bytes;
  return total;
}

Report execute(const Plan& plan, const Checkpoint& source, const ConvertOptions& options, const ProgressFn& progress,
               const std::atomic<bool>* cancel) {
  const auto start = std::chrono::steady_clock::now();
  Execution execution(plan, options, progress, cancel);
  execution.run(options.threads);
  Report report;
  report.outputs = execution.finish();
  report.source_bytes = source.file_bytes();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace regauge
