#include "convert/route/measured.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "convert/route/reencode_dense.h"

namespace regauge {
namespace {

/// One running sum or maximum for each lane of a vector, so that compilers need not reorder anything to use one.
constexpr std::size_t kLanes = 8;

/// Sums over whole rows of lanes; whether everything was finite.
bool measure_finite(std::span<const float> wanted, std::span<const float> stored, Loss& loss) {
  std::array<double, kLanes> error{};
  std::array<double, kLanes> source{};
  std::array<double, kLanes> worst{};
  std::array<std::uint64_t, kLanes> changed{};
  const std::size_t whole = wanted.size() / kLanes * kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const auto from = static_cast<double>(wanted[i + lane]);
      const double difference = static_cast<double>(stored[i + lane]) - from;
      error[lane] += difference * difference;
      source[lane] += from * from;
      const double magnitude = std::abs(difference);
      worst[lane] = magnitude > worst[lane] ? magnitude : worst[lane];
      changed[lane] += difference != 0 ? 1U : 0U;
    }
  }
  Loss band;
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    band.sum_error += error[lane];
    band.sum_source += source[lane];
    band.worst = std::max(band.worst, worst[lane]);
    band.changed += changed[lane];
  }
  // A NaN or an infinity anywhere shows in these: then nothing of it counts.
  if (!std::isfinite(band.sum_error) || !std::isfinite(band.sum_source)) return false;
  for (std::size_t i = whole; i < wanted.size(); ++i) {
    const auto from = static_cast<double>(wanted[i]);
    const double difference = static_cast<double>(stored[i]) - from;
    band.sum_error += difference * difference;
    band.sum_source += from * from;
    band.worst = std::max(band.worst, std::abs(difference));
    band.changed += difference != 0 ? 1 : 0;
  }
  if (!std::isfinite(band.sum_error) || !std::isfinite(band.sum_source)) return false;
  band.measured = wanted.size();
  loss.merge(band);
  return true;
}

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
    measure_values(scratch.wanted, scratch.measured, loss);
    measure_steps(scratch.wanted, scratch.measured, scratch.steps, 1, count, loss);
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

void measure_values(std::span<const float> wanted, std::span<const float> stored, Loss& loss) {
  if (!measure_finite(wanted, stored, loss)) measure_any(wanted, stored, loss);
}

void measure_steps(std::span<const float> wanted, std::span<const float> stored, std::span<const float> scales,
                   std::size_t width, std::size_t columns, Loss& loss) {
  std::size_t run = 0;
  for (std::size_t row = 0; row < wanted.size(); row += columns) {
    for (std::size_t begin = 0; begin < columns; begin += width, ++run) {
      const std::size_t end = row + std::min(begin + width, columns);
      std::array<float, kLanes> worst{};
      std::size_t i = row + begin;
      for (; i + kLanes <= end; i += kLanes) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
          const float error = std::abs(stored[i + lane] - wanted[i + lane]);
          worst[lane] = error > worst[lane] ? error : worst[lane];
        }
      }
      for (; i < end; ++i) worst[0] = std::max(worst[0], std::abs(stored[i] - wanted[i]));
      const float most = *std::ranges::max_element(worst);
      const float step = std::abs(scales[run]);
      if (step > 0.0F && most > 0.0F)
        loss.worst_steps = std::max(loss.worst_steps, static_cast<double>(most) / static_cast<double>(step));
    }
  }
}

RowMakerPtr measured(const Target& target, RowMakerPtr maker) {
  return std::make_unique<MeasuredRows>(target, std::move(maker));
}

}  // namespace regauge
