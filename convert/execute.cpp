#include "convert/execute.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <optional>

#include "base/buffer.h"
#include "base/error.h"
#include "convert/jobs.h"
#include "convert/turnstile.h"
#include "convert/workers.h"

namespace regauge {
namespace {

/// Buffers of one worker: what its makers need, one for each array of a step, and what checking needs.
struct Worker {
  Scratch scratch;
  std::vector<Buffer<std::byte>> out;
  Buffer<std::byte> piece;
  CheckBuffers check;

  /// Upper bound of all that, as the sum over the kinds of steps that have used it: each kind fills buffers of its own.
  std::uint64_t claimed = 0;
  struct Kind {
    Route route = Route::copy;
    std::string_view from;
    std::string_view to;
    std::uint64_t bytes = 0;
  };
  std::vector<Kind> kinds;

  /// Lets everything go when what is held and what the step takes may be more than `limit`, or the kind needs more now.
  void make_room(const Step& step, std::uint64_t bytes, std::uint64_t limit) {
    const auto same = [&](const Kind& k) {
      return k.route == step.route && k.from == step.source_encoding && k.to == step.encoding;
    };
    const auto found = std::ranges::find_if(kinds, same);
    if (found != kinds.end() && bytes <= found->bytes) return;
    if (found != kinds.end()) {
      // Buffers that grow are there twice for a moment, so those of the makers go first.
      scratch = Scratch();
      check = CheckBuffers();
      claimed -= found->bytes;
      kinds.erase(found);
    }
    if (claimed + bytes > limit) *this = Worker();
    claimed += bytes;
    kinds.push_back({step.route, step.source_encoding, step.encoding, bytes});
  }
};

class Execution {
 public:
  Execution(const Plan& plan, const ConvertOptions& options, const OutputRuns& outputs, Journal* journal,
            const ProgressFn& progress, const std::atomic<bool>* cancel)
      : plan_(plan),
        options_(options),
        outputs_(outputs),
        journal_(journal),
        progress_(progress),
        cancel_(cancel),
        verifier_(options.verify ? std::optional<BandVerifier>(plan) : std::nullopt),
        digests_(options.digests ? std::optional<DigestingOutputs>(plan) : std::nullopt) {
    for (const PlannedOutput& output : plan.outputs) losses_.emplace_back(output.steps.size());
    seen_.bytes_total = plan.data_bytes();
  }

  void run() {
    share_ = share_memory(plan_, options_, anonymous_bytes());
    const auto& records = journal_ != nullptr ? journal_->bands() : no_records_;
    const std::vector<Job> jobs = cut_into_jobs(plan_, outputs_, records, share_, options_.verify);
    std::vector<Worker> workers(static_cast<std::size_t>(share_.workers));
    const bool in_order = outputs_.any_in_order() || digests_;
    Workers(share_.workers).for_each(jobs.size(), [&](std::size_t i, std::size_t worker) {
      try {
        carry_out(jobs[i], workers[worker], in_order ? std::optional(i) : std::nullopt);
      } catch (...) {
        turnstile_.give_up();
        throw;
      }
    });
    stop_if_cancelled();
  }

  void report(Report& report) const {
    for (std::size_t o = 0; o < plan_.outputs.size(); ++o) {
      report.outputs.push_back(
          {plan_.outputs[o].path, outputs_.file_bytes(o), results_of(o), digests_ ? digests_->of(o) : std::nullopt});
    }
    report.skipped_bytes = seen_.bytes_skipped;
    report.checked_bands = checked_bands_;
  }

 private:
  const Step& step_of(const Band& band) const { return plan_.outputs[band.output].steps[band.step]; }
  const Target& target_of(const Band& band) const { return plan_.outputs[band.output].targets[band.step]; }
  Strip strip(const Band& band, std::size_t array) const {
    return strip_of(step_of(band).arrays[array], band.rows, target_of(band).rows);
  }
  std::uint64_t bytes_of(const Band& band) const {
    std::uint64_t bytes = 0;
    for (std::size_t a = 0; a < step_of(band).arrays.size(); ++a) bytes += strip(band, a).total();
    return bytes;
  }

  void stop_if_cancelled() const {
    if (cancel_ != nullptr && cancel_->load()) throw Error(ErrorCode::io, "interrupted; the target is as it was");
  }

  /// `turn` is the job's number when outputs are written in order.
  void carry_out(const Job& job, Worker& worker, std::optional<std::size_t> turn) {
    stop_if_cancelled();
    const Step& step = step_of(job.band);
    try {
      if (job.record != nullptr && is_there(job, worker)) {
        if (turn && !turnstile_.wait(*turn)) return;
        if (digests_) digests_->pass_over(job.band);
        account(job.band, job.record->loss, job.record->verified, true);
      } else if (job.record == nullptr) {
        make(job.band, worker, turn);
      } else {
        // As low as this run wants them, whatever the one that recorded it did.
        const std::int64_t height = band_height(step, target_of(job.band), share_.worker_bytes, options_.verify);
        if (turn && !turnstile_.wait(*turn)) return;
        for (const Band& band : cut_into_bands(job.band.output, job.band.step, job.band.rows, height)) {
          std::optional<std::size_t> none;
          make(band, worker, none);
        }
      }
      if (turn) turnstile_.pass();
    } catch (Error& error) {
      error.tensor(step.name);
      throw;
    }
  }

  /// Whether the bytes of a recorded band are what they were.
  bool is_there(const Job& job, Worker& worker) const {
    const OutputRun& output = outputs_[job.band.output];
    if (output.writer == nullptr) return true;  // complete and in place
    constexpr std::uint64_t kPieceBytes = 1 << 20;
    for (std::size_t a = 0; a < job.record->digests.size(); ++a) {
      const Strip strip = this->strip(job.band, a);
      Xxh3_128 digest;
      for (std::uint64_t at = 0; at < strip.total(); at += kPieceBytes) {
        refit(worker.piece, static_cast<std::size_t>(std::min(kPieceBytes, strip.total() - at)));
        read_strips(*output.writer, output.first_array[job.band.step] + a, strip, at, worker.piece);
        digest.update(worker.piece);
      }
      if (digest.value() != job.record->digests[a]) return false;
    }
    return true;
  }

  /// Waits for `turn` where there is one, and gives it back when nothing needs the order any more.
  void make(const Band& band, Worker& worker, std::optional<std::size_t>& turn) {
    const Step& step = step_of(band);
    worker.make_room(step, band_bytes(step, target_of(band), band.rows.size(), options_.verify), share_.worker_bytes);
    worker.out.resize(std::max(worker.out.size(), step.arrays.size()));
    std::vector<std::span<std::byte>> views;
    for (std::size_t a = 0; a < step.arrays.size(); ++a) {
      refit(worker.out[a], static_cast<std::size_t>(strip(band, a).total()));
      views.emplace_back(worker.out[a]);
    }
    BandRecord record{.band = band, .loss = {}, .verified = false, .digests = {}};
    step.maker->make(band.rows, views, worker.scratch, record.loss);
    if (turn && !turnstile_.wait(*turn)) return;
    const OutputRun& output = outputs_[band.output];
    if (digests_) digests_->add(band, views);
    if (turn && !output.in_order()) {
      turnstile_.pass();
      turn.reset();
    }
    const std::size_t first = output.first_array[band.step];
    {
      // A file lets one thread in at a time. Strip by strip they would take turns, and then all make their next bands at once;
      // so one puts a whole band while the others make theirs.
      const std::scoped_lock lock(writing_);
      for (std::size_t a = 0; a < views.size(); ++a) put_strips(*output.writer, first + a, strip(band, a), views[a]);
    }
    if (verifier_) {
      const std::vector<std::span<const std::byte>> made(views.begin(), views.end());
      verifier_->check(band, *output.writer, first, made, record.loss, worker.scratch, worker.check);
      record.verified = true;
    }
    if (journal_ != nullptr && !output.in_order()) {
      for (const auto& view : views) record.digests.push_back(Xxh3_128::of(view));
      journal_->add(record);
    }
    account(band, record.loss, record.verified, false);
  }

  void account(const Band& band, const Loss& loss, bool verified, bool skipped) {
    const std::uint64_t bytes = bytes_of(band);
    const std::scoped_lock lock(mutex_);
    losses_[band.output][band.step].merge(loss);
    checked_bands_ += verified && options_.verify ? 1 : 0;
    seen_.bytes_done += bytes;
    seen_.bytes_skipped += skipped ? bytes : 0;
    seen_.tensor = step_of(band).name;
    if (progress_) progress_(seen_);
  }

  std::vector<StepResult> results_of(std::size_t output) const {
    std::vector<StepResult> results;
    const auto& steps = plan_.outputs[output].steps;
    for (std::size_t s = 0; s < steps.size(); ++s) {
      const Loss& loss = losses_[output][s];
      // A rounding that turned out to change nothing is no rounding.
      const bool spared = steps[s].fidelity == Fidelity::rounded && loss.changed == 0;
      results.push_back(
          {spared ? Fidelity::values : steps[s].fidelity, loss, verifier_ ? verifier_->reach(output, s) : Checked::no});
    }
    return results;
  }

  const Plan& plan_;
  const ConvertOptions& options_;
  const OutputRuns& outputs_;
  Journal* journal_;
  const ProgressFn& progress_;
  const std::atomic<bool>* cancel_;
  std::optional<BandVerifier> verifier_;
  std::optional<DigestingOutputs> digests_;  // whoever has the turn
  MemoryShare share_;
  Turnstile turnstile_;
  const std::vector<BandRecord> no_records_;
  std::mutex writing_;
  std::mutex mutex_;  // of what follows
  std::vector<std::vector<Loss>> losses_;
  std::uint64_t checked_bands_ = 0;
  Progress seen_;
};

std::optional<Journal> open_journal(const Plan& plan, const ConvertOptions& options) {
  if ((!options.journal && !options.resume) || plan.outputs.empty()) return std::nullopt;
  Stale stale = options.replace_partial ? Stale::replace : Stale::refuse;
  if (options.resume) stale = options.replace_partial ? Stale::resume_or_replace : Stale::resume;
  return std::optional<Journal>(std::in_place, plan.outputs.front().path, fingerprint_of(plan, options), stale);
}

}  // namespace

std::uint64_t Report::file_bytes() const {
  std::uint64_t total = 0;
  for (const OutputResult& output : outputs) total += output.file_bytes;
  return total;
}

Report execute(const Plan& plan, const Checkpoint& source, const ConvertOptions& options, const ProgressFn& progress,
               const std::atomic<bool>* cancel) {
  const auto start = std::chrono::steady_clock::now();
  auto opened = open_journal(plan, options);
  Journal* journal = opened ? &*opened : nullptr;
  OutputRuns outputs(plan, options);
  Report report;
  try {
    if (journal != nullptr) outputs.check_targets(journal);
    outputs.begin(journal);
    Execution execution(plan, options, outputs, journal, progress, cancel);
    execution.run();
    outputs.finish(journal);
    execution.report(report);
  } catch (...) {
    // Without a finished band there is nothing that a later run could save.
    if (journal != nullptr && !journal->has_bands()) {
      outputs.discard();
      journal->remove();
    }
    throw;
  }
  if (journal != nullptr) journal->remove();
  report.source_bytes = source.file_bytes();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace regauge
