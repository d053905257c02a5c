#include "convert/route/measured.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "convert/route/reencode_dense.h"

namespace regauge {
namespace {

/// Columns of a row whose squares are summed in f32.
constexpr std::size_t kChunk = 256;
/// Below this, sums of squares have come near the numbers that f32 rounds more coarsely.
constexpr float kLeastSum = 1e-30F;

using Floats = float __attribute__((vector_size(16)));
using Ints = std::int32_t __attribute__((vector_size(16)));
constexpr std::size_t kLanes = 4;

struct Chunk {
  float error = 0;   ///< sum of squared differences
  float source = 0;  ///< of the squares of what was wanted
  float worst = 0;   ///< rounded
  std::uint64_t changed = 0;
};

Floats load(const float* from) noexcept {
  Floats out;
  std::memcpy(&out, from, sizeof out);
  return out;
}

/// One running sum for each lane and each of two vectors, so that compilers need not reorder anything to use them.
Chunk measure_chunk(std::span<const float> wanted, std::span<const float> stored) noexcept {
  constexpr std::int32_t kMagnitude = 0x7FFFFFFF;
  std::array<Floats, 2> error{};
  std::array<Floats, 2> source{};
  std::array<Floats, 2> worst{};
  std::array<Ints, 2> changed{};
  std::size_t i = 0;
  for (; i + 2 * kLanes <= wanted.size(); i += 2 * kLanes) {
    for (std::size_t half = 0; half < 2; ++half) {
      const Floats from = load(wanted.data() + i + half * kLanes);
      const Floats to = load(stored.data() + i + half * kLanes);
      const Floats difference = to - from;
      error[half] += difference * difference;
      source[half] += from * from;
      const auto magnitude = reinterpret_cast<Floats>(reinterpret_cast<Ints>(difference) & kMagnitude);
      worst[half] = magnitude > worst[half] ? magnitude : worst[half];
      changed[half] -= static_cast<Ints>(to != from);
    }
  }
  Chunk chunk;
  for (std::size_t half = 0; half < 2; ++half) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      chunk.error += error[half][lane];
      chunk.source += source[half][lane];
      chunk.worst = std::max(chunk.worst, worst[half][lane]);
      chunk.changed += static_cast<std::uint64_t>(changed[half][lane]);
    }
  }
  for (; i < wanted.size(); ++i) {
    const float difference = stored[i] - wanted[i];
    chunk.error += difference * difference;
    chunk.source += wanted[i] * wanted[i];
    chunk.worst = std::max(chunk.worst, std::abs(difference));
    chunk.changed += stored[i] != wanted[i] ? 1 : 0;
  }
  return chunk;
}

/// The same for whatever f32 cannot sum.
void measure_any(std::span<const float> wanted, std::span<const float> stored, Loss& loss) {
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const auto from = static_cast<double>(wanted[i]);
    const double difference = static_cast<double>(stored[i]) - from;
    const bool is_same = stored[i] == wanted[i] || (std::isnan(stored[i]) && std::isnan(wanted[i]));
    if (!is_same) {
      ++loss.changed;
      loss.worst = std::isfinite(difference) ? std::max(loss.worst, std::abs(difference))
                                             : std::numeric_limits<double>::infinity();
    }
    if (!std::isfinite(difference)) continue;
    ++loss.measured;
    loss.sum_error += difference * difference;
    loss.sum_source += from * from;
  }
}

double exact_worst(std::span<const float> wanted, std::span<const float> stored) {
  double worst = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i)
    worst = std::max(worst, std::abs(static_cast<double>(stored[i]) - static_cast<double>(wanted[i])));
  return worst;
}

/// Up to kChunk columns; their largest difference, rounded.
float measure_run(std::span<const float> wanted, std::span<const float> stored, Loss& loss) {
  const Chunk chunk = measure_chunk(wanted, stored);
  const bool is_tiny = chunk.source < kLeastSum || (chunk.error < kLeastSum && chunk.changed != 0);
  if (!std::isfinite(chunk.error) || !std::isfinite(chunk.source) || is_tiny) {
    measure_any(wanted, stored, loss);
    return chunk.worst;
  }
  loss.measured += wanted.size();
  loss.changed += chunk.changed;
  loss.sum_error += static_cast<double>(chunk.error);
  loss.sum_source += static_cast<double>(chunk.source);
  // Only what may be the largest of all has to be known to the bit.
  constexpr double kRoundedUp = 1.000001;
  if (static_cast<double>(chunk.worst) * kRoundedUp > loss.worst)
    loss.worst = std::max(loss.worst, exact_worst(wanted, stored));
  return chunk.worst;
}

class MeasuredRows final : public RowMaker {
 public:
  MeasuredRows(const Target& target, RowMakerPtr maker)
      : columns_(target.columns), maker_(std::move(maker)), source_(make_dense(target, DType::f32)) {}

  std::int64_t band_rows() const override { return std::min(maker_->band_rows(), source_->band_rows()); }

  void make(RowRange rows, BandBuffers out, Scratch& scratch, Loss& loss) const override {
    maker_->make(rows, out, scratch, loss);
    const auto count = static_cast<std::size_t>(rows.size() * columns_);
    scratch.measured.resize(count);
    scratch.wanted.resize(count);
    const std::vector<std::span<const std::byte>> bytes(out.begin(), out.end());
    maker_->decode(rows, bytes, scratch, scratch.measured);
    Loss ignored;
    const std::span<std::byte> buffer = std::as_writable_bytes(std::span(scratch.wanted));
    source_->make(rows, std::span(&buffer, 1), scratch, ignored);
    scratch.steps.resize(count);
    maker_->steps(rows, scratch, scratch.steps);
    measure_values(scratch.wanted, scratch.measured, static_cast<std::size_t>(columns_), {scratch.steps, 1}, loss);
  }

  void decode(RowRange rows, StoredBuffers stored, Scratch& scratch, std::span<float> out) const override {
    maker_->decode(rows, stored, scratch, out);
  }

  void steps(RowRange rows, Scratch& scratch, std::span<float> out) const override {
    maker_->steps(rows, scratch, out);
  }

 private:
  std::int64_t columns_;
  RowMakerPtr maker_;
  RowMakerPtr source_;
};

}  // namespace

void measure_values(std::span<const float> wanted, std::span<const float> stored, std::size_t columns,
                    const StepScales& steps, Loss& loss) {
  const std::size_t width = steps.width == 0 ? columns : steps.width;
  std::size_t run = 0;
  for (std::size_t row = 0; row < wanted.size(); row += columns) {
    for (std::size_t begin = row; begin < row + columns; begin += width, ++run) {
      const std::size_t end = std::min(begin + width, row + columns);
      float worst = 0;
      for (std::size_t at = begin; at < end; at += kChunk) {
        const std::size_t length = std::min(kChunk, end - at);
        worst = std::max(worst, measure_run(wanted.subspan(at, length), stored.subspan(at, length), loss));
      }
      const float step = steps.width == 0 ? 0.0F : std::abs(steps.scales[run]);
      if (step > 0.0F && worst > 0.0F)
        loss.worst_steps = std::max(loss.worst_steps, static_cast<double>(worst) / static_cast<double>(step));
    }
  }
}

RowMakerPtr measured(const Target& target, RowMakerPtr maker) {
  return std::make_unique<MeasuredRows>(target, std::move(maker));
}

}  // namespace regauge
