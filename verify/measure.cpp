#include "verify/measure.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <mutex>
#include <numeric>
#include <optional>
#include <utility>
#include <variant>

#include "base/buffer.h"
#include "base/error.h"
#include "convert/route/affine_facts.h"
#include "convert/route/affine_rows.h"
#include "convert/route/reencode_dense.h"
#include "convert/workers.h"
#include "ir/decode/tensor.h"
#include "verify/wide.h"

namespace regauge {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// f32 values in order of size as integers, so that neighbours differ by one. Both zeros are 0.
std::int64_t ordered(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto magnitude = static_cast<std::int64_t>(bits & 0x7FFFFFFFU);
  return (bits >> 31) != 0 ? -magnitude : magnitude;
}

/// Adds elements of a band up, one by one.
class Tally {
 public:
  explicit Tally(Measured& measured) : measured_(measured) {}

  /// `error` is a - b, zero for equal ones; `step` the quantization step there, or 0.
  void add(std::size_t at, double a, double b, double error, float step) {
    if (!std::isfinite(a) || !std::isfinite(b)) {
      add_non_finite(at, a, b);
      return;
    }
    if (error != 0) {
      ++measured_.different;
      measured_.errors.add(std::abs(error));
      note_worst(at, a, b, std::abs(error));
    }
    measured_.sum_error += error * error;
    measured_.sum_first += a * a;
    measured_.sum_second += b * b;
    measured_.sum_product += a * b;
    if (step > 0) add_steps(std::abs(error) / static_cast<double>(step));
  }

 private:
  void add_non_finite(std::size_t at, double a, double b) {
    if (a == b || (std::isnan(a) && std::isnan(b))) return;
    ++measured_.different;
    ++measured_.unmatched;
    note_worst(at, a, b, kInfinity);
  }

  void note_worst(std::size_t at, double a, double b, double error) {
    if (error <= measured_.worst) return;
    measured_.worst = error;
    measured_.worst_at = at;
    measured_.worst_first = a;
    measured_.worst_second = b;
  }

  void add_steps(double steps) {
    ++measured_.stepped;
    measured_.sum_steps += steps * steps;
    measured_.worst_steps = std::max(measured_.worst_steps, steps);
  }

  Measured& measured_;
};

Measured measure_values(std::span<const float> a, std::span<const float> b, std::span<const float> steps) {
  Measured measured;
  measured.elements = a.size();
  Tally tally(measured);
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i])) {
      if (a[i] == b[i]) ++measured.signed_zeros;
      if (std::isfinite(a[i]) && std::isfinite(b[i]))
        measured.worst_ulps =
            std::max(measured.worst_ulps, static_cast<std::uint64_t>(std::abs(ordered(a[i]) - ordered(b[i]))));
    }
    const auto x = static_cast<double>(a[i]);
    const auto y = static_cast<double>(b[i]);
    tally.add(i, x, y, x - y, steps.empty() ? 0.0F : steps[i]);
  }
  return measured;
}

Measured measure_wide(std::span<const Wide> a, std::span<const Wide> b) {
  Measured measured;
  measured.elements = a.size();
  Tally tally(measured);
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i].high == 0 && b[i].high == 0 && std::signbit(a[i].high) != std::signbit(b[i].high)) ++measured.signed_zeros;
    tally.add(i, a[i].high, b[i].high, difference(a[i], b[i]), 0.0F);
  }
  return measured;
}

struct Side {
  Scratch scratch;
  Buffer<float> values;
  std::vector<Wide> wide;
  std::vector<std::byte> raw;

  /// The target as codes with scales, where it is that; kept from the last call when that was for the same one. For every
  /// target at once, the group of every column would grow with the model.
  const AffineSource* steps_of(const Target& target) {
    if (affine_of_ != &target) {
      affine_of_ = &target;
      auto source = AffineSource::of(target);
      auto* affine = std::get_if<AffineSource>(&source);
      affine_ = affine == nullptr ? std::nullopt : std::optional(std::move(*affine));
    }
    return affine_ ? &*affine_ : nullptr;
  }

 private:
  const Target* affine_of_ = nullptr;
  std::optional<AffineSource> affine_;
};

struct Buffers {
  Side first;
  Side second;
  std::vector<float> steps;
};

/// How the rows of one target are had.
class Reader {
 public:
  explicit Reader(const Target& target)
      : target_(target), maker_(make_dense(target, DType::f32)), wide_(WideRows::of(target)) {}

  bool is_wide() const { return wide_.has_value(); }
  std::int64_t band_rows() const {
    return wide_ ? std::min(wide_->band_rows(), maker_->band_rows()) : maker_->band_rows();
  }

  std::span<const float> read(RowRange rows, Side& side) const {
    side.values.resize(count(rows));
    const std::span<std::byte> bytes = std::as_writable_bytes(std::span(side.values));
    Loss ignored;
    maker_->make(rows, std::span(&bytes, 1), side.scratch, ignored);
    return side.values;
  }

  std::span<const Wide> read_wide(RowRange rows, Side& side) const {
    side.wide.resize(count(rows));
    if (wide_) {
      wide_->read(rows, side.scratch, side.raw, side.wide);
    } else {
      std::ranges::transform(read(rows, side), side.wide.begin(),
                             [](float value) { return Wide{static_cast<double>(value), 0}; });
    }
    return side.wide;
  }

  /// The quantization step at every value; false when it has none.
  bool read_steps(RowRange rows, Side& side, std::vector<float>& out) const {
    const AffineSource* source = side.steps_of(target_);
    if (source == nullptr) return false;
    out.resize(count(rows));
    affine_steps(*source, rows, side.scratch, out);
    return true;
  }

 private:
  std::size_t count(RowRange rows) const { return static_cast<std::size_t>(rows.size() * target_.columns); }

  const Target& target_;
  RowMakerPtr maker_;
  std::optional<WideRows> wide_;
};

struct Readers {
  Reader first;
  Reader second;

  Measured measure(RowRange rows, Buffers& own) const {
    if (first.is_wide() || second.is_wide())
      return measure_wide(first.read_wide(rows, own.first), second.read_wide(rows, own.second));
    if (!first.read_steps(rows, own.first, own.steps) && !second.read_steps(rows, own.second, own.steps))
      own.steps.clear();
    return measure_values(first.read(rows, own.first), second.read(rows, own.second), own.steps);
  }
};

struct Job {
  std::size_t pair = 0;
  RowRange rows;
};

/// Rows that both sides like to make at once: what is stored in words of several rows would be read again and again otherwise.
std::int64_t band_height(const TargetPair& pair, const Readers& readers) {
  const std::int64_t quantum =
      std::lcm(pair.first->pieces.front().tensor->row_quantum(), pair.second->pieces.front().tensor->row_quantum());
  const std::int64_t height = std::min(readers.first.band_rows(), readers.second.band_rows());
  return (height + quantum - 1) / quantum * quantum;
}

}  // namespace

void ErrorHistogram::add(double error) {
  const int bin = std::clamp(std::ilogb(error) - kLowest, 0, static_cast<int>(kBins) - 1);
  ++counts[static_cast<std::size_t>(bin)];
}

void ErrorHistogram::merge(const ErrorHistogram& other) {
  for (std::size_t bin = 0; bin < kBins; ++bin) counts[bin] += other.counts[bin];
}

double Measured::rmse() const { return elements == 0 ? 0 : std::sqrt(sum_error / static_cast<double>(elements)); }

double Measured::rms_steps() const { return stepped == 0 ? 0 : std::sqrt(sum_steps / static_cast<double>(stepped)); }

double Measured::relative_error() const {
  if (unmatched != 0) return kInfinity;
  if (sum_error == 0) return 0;
  return sum_second == 0 ? kInfinity : std::sqrt(sum_error / sum_second);
}

double Measured::signal_to_noise() const {
  if (unmatched != 0) return -kInfinity;
  return sum_error == 0 ? kInfinity : 10 * std::log10(sum_second / sum_error);
}

double Measured::cosine() const {
  if (sum_first == 0 && sum_second == 0) return 1;
  return sum_first == 0 || sum_second == 0 ? 0 : sum_product / (std::sqrt(sum_first) * std::sqrt(sum_second));
}

void Measured::merge(const Measured& later, std::uint64_t offset) {
  elements += later.elements;
  different += later.different;
  signed_zeros += later.signed_zeros;
  unmatched += later.unmatched;
  if (later.worst > worst) {
    worst = later.worst;
    worst_at = offset + later.worst_at;
    worst_first = later.worst_first;
    worst_second = later.worst_second;
  }
  worst_ulps = std::max(worst_ulps, later.worst_ulps);
  worst_steps = std::max(worst_steps, later.worst_steps);
  sum_steps += later.sum_steps;
  stepped += later.stepped;
  errors.merge(later.errors);
  sum_error += later.sum_error;
  sum_first += later.sum_first;
  sum_second += later.sum_second;
  sum_product += later.sum_product;
}

std::vector<Measured> measure(std::span<const TargetPair> pairs, int threads, const MeasureProgress& progress,
                              const std::atomic<bool>* cancel) {
  std::vector<Readers> readers;
  std::vector<Job> jobs;
  std::uint64_t total = 0;
  for (const TargetPair& pair : pairs) {
    const std::int64_t rows = pair.first->columns == 0 ? 0 : pair.first->rows;
    readers.push_back({Reader(*pair.first), Reader(*pair.second)});
    const std::int64_t height = rows == 0 ? 1 : band_height(pair, readers.back());
    for (std::int64_t row = 0; row < rows; row += height)
      jobs.push_back({readers.size() - 1, {row, std::min(rows, row + height)}});
    total += static_cast<std::uint64_t>(rows * pair.first->columns);
  }

  Workers workers(threads);
  std::vector<Buffers> buffers(static_cast<std::size_t>(workers.count()));
  std::vector<Measured> bands(jobs.size());
  std::mutex mutex;
  std::uint64_t done = 0;
  workers.for_each(jobs.size(), [&](std::size_t j, std::size_t worker) {
    if (cancel != nullptr && cancel->load()) throw Error(ErrorCode::io, "interrupted");
    const Job& job = jobs[j];
    bands[j] = readers[job.pair].measure(job.rows, buffers[worker]);
    if (!progress) return;
    const std::scoped_lock lock(mutex);
    done += bands[j].elements;
    progress(done, total);
  });

  std::vector<Measured> results(pairs.size());
  for (std::size_t j = 0; j < jobs.size(); ++j) {
    Measured& result = results[jobs[j].pair];
    result.merge(bands[j], result.elements);
  }
  return results;
}

}  // namespace regauge
