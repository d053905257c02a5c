#include "verify/measure.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <mutex>
#include <numeric>

#include "base/error.h"
#include "convert/route/reencode_dense.h"
#include "convert/workers.h"

namespace regauge {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// f32 values in order of size as integers, so that neighbours differ by one. Both zeros are 0.
std::int64_t ordered(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto magnitude = static_cast<std::int64_t>(bits & 0x7FFFFFFFU);
  return (bits >> 31) != 0 ? -magnitude : magnitude;
}

void note_worst(Measured& measured, double error, std::size_t at, float a, float b) {
  if (error <= measured.worst) return;
  measured.worst = error;
  measured.worst_at = at;
  measured.worst_first = a;
  measured.worst_second = b;
}

void note_difference(Measured& measured, std::size_t at, float a, float b) {
  if (a == b) {
    ++measured.signed_zeros;
    return;
  }
  if (std::isnan(a) && std::isnan(b)) return;
  ++measured.different;
  if (!std::isfinite(a) || !std::isfinite(b)) {
    ++measured.unmatched;
    note_worst(measured, kInfinity, at, a, b);
    return;
  }
  note_worst(measured, std::abs(static_cast<double>(a) - static_cast<double>(b)), at, a, b);
  measured.worst_ulps = std::max(measured.worst_ulps, static_cast<std::uint64_t>(std::abs(ordered(a) - ordered(b))));
}

Measured measure_values(std::span<const float> a, std::span<const float> b) {
  Measured measured;
  measured.elements = a.size();
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i]))
      note_difference(measured, i, a[i], b[i]);
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) continue;
    const auto x = static_cast<double>(a[i]);
    const auto y = static_cast<double>(b[i]);
    measured.sum_error += (x - y) * (x - y);
    measured.sum_first += x * x;
    measured.sum_second += y * y;
    measured.sum_product += x * y;
  }
  return measured;
}

struct Side {
  Scratch scratch;
  std::vector<float> values;

  std::span<const float> read(const RowMaker& maker, RowRange rows, std::int64_t columns) {
    values.resize(static_cast<std::size_t>(rows.size() * columns));
    const std::span<std::byte> bytes = std::as_writable_bytes(std::span(values));
    Loss ignored;
    maker.make(rows, std::span(&bytes, 1), scratch, ignored);
    return values;
  }
};

struct Buffers {
  Side first;
  Side second;
};

struct Makers {
  RowMakerPtr first;
  RowMakerPtr second;
};

struct Job {
  std::size_t pair = 0;
  RowRange rows;
};

/// Rows that both sides like to make at once: what is stored in words of several rows would be read again and again otherwise.
std::int64_t band_height(const TargetPair& pair, const Makers& makers) {
  const std::int64_t quantum =
      std::lcm(pair.first->pieces.front().tensor->row_quantum(), pair.second->pieces.front().tensor->row_quantum());
  const std::int64_t height = std::min(makers.first->band_rows(), makers.second->band_rows());
  return (height + quantum - 1) / quantum * quantum;
}

}  // namespace

double Measured::rmse() const { return elements == 0 ? 0 : std::sqrt(sum_error / static_cast<double>(elements)); }

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
  sum_error += later.sum_error;
  sum_first += later.sum_first;
  sum_second += later.sum_second;
  sum_product += later.sum_product;
}

std::vector<Measured> measure(std::span<const TargetPair> pairs, int threads, const MeasureProgress& progress,
                              const std::atomic<bool>* cancel) {
  std::vector<Makers> makers;
  std::vector<Job> jobs;
  std::uint64_t total = 0;
  for (const TargetPair& pair : pairs) {
    const std::int64_t rows = pair.first->columns == 0 ? 0 : pair.first->rows;
    makers.push_back({make_dense(*pair.first, DType::f32), make_dense(*pair.second, DType::f32)});
    const std::int64_t height = rows == 0 ? 1 : band_height(pair, makers.back());
    for (std::int64_t row = 0; row < rows; row += height)
      jobs.push_back({makers.size() - 1, {row, std::min(rows, row + height)}});
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
    const TargetPair& pair = pairs[job.pair];
    Buffers& own = buffers[worker];
    bands[j] = measure_values(own.first.read(*makers[job.pair].first, job.rows, pair.first->columns),
                              own.second.read(*makers[job.pair].second, job.rows, pair.second->columns));
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
