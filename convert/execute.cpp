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

/// Buffers of one worker, and what its bands have cost so far.
struct Worker {
  Scratch scratch;
  std::vector<std::byte> out;
};

class Execution {
 public:
  Execution(const Plan& plan, const ConvertOptions& options, const ProgressFn& progress,
            const std::atomic<bool>* cancel)
      : plan_(plan), progress_(progress), cancel_(cancel) {
    const Format& format = *find_format(plan.format);
    for (const PlannedOutput& output : plan.outputs) {
      writers_.push_back(
          format.create(output.path, {.overwrite = options.overwrite, .replace_partial = options.replace_partial}));
      std::vector<ArrayPlan> arrays;
      for (const Step& step : output.steps) arrays.push_back(step.array);
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
    const std::size_t row_bytes =
        step.array.bytes() == 0
            ? 0
            : static_cast<std::size_t>(step.array.bytes() / static_cast<std::uint64_t>(target.rows));
    worker.out.resize(static_cast<std::size_t>(band.rows.size()) * row_bytes);
    Loss loss;
    try {
      step.maker->make(band.rows, worker.out, worker.scratch, loss);
      writers_[band.output]->put(band.step, static_cast<std::uint64_t>(band.rows.begin) * row_bytes, worker.out);
    } catch (Error& error) {
      throw error.tensor(step.array.name);
    }
    account(band, loss, worker.out.size(), step.array.name);
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
