#include "convert/route/measured.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "convert/encode/kernels.h"
#include "convert/encode/running_sums.h"
#include "convert/route/reencode_dense.h"

namespace regauge {
namespace {

/// Columns of a row whose squares are summed in f32.
constexpr std::size_t kChunk = 1024;
/// Below this, sums of squares have come near the numbers that f32 rounds more coarsely.
constexpr float kLeastSum = 1e-30F;

/// Part of a row, its runs of `width` columns, and the step of each, if there are any.
struct Part {
  std::span<const float> wanted;
  std::span<const float> stored;
  const float* steps;
  std::size_t width;
};

/// The same for whatever f32 cannot sum.
void measure_any(const Part& part, Loss& loss) {
  for (std::size_t i = 0; i < part.wanted.size(); ++i) {
    const float wanted = part.wanted[i];
    const float stored = part.stored[i];
    const double difference = static_cast<double>(stored) - static_cast<double>(wanted);
    const bool is_same = stored == wanted || (std::isnan(stored) && std::isnan(wanted));
    if (!is_same) {
      ++loss.changed;
      loss.worst = std::isfinite(difference) ? std::max(loss.worst, std::abs(difference))
                                             : std::numeric_limits<double>::infinity();
    }
    if (!std::isfinite(difference)) continue;
    ++loss.measured;
    loss.sum_error += difference * difference;
    loss.sum_source += static_cast<double>(wanted) * static_cast<double>(wanted);
    const double step = part.steps == nullptr ? 0.0 : std::abs(static_cast<double>(part.steps[i / part.width]));
    if (step > 0) loss.worst_steps = std::max(loss.worst_steps, std::abs(difference) / step);
  }
}

/// Up to kChunk columns.
void measure_part(const Part& part, Loss& loss) {
  const auto kernels = ggml_encode::kernels_here();
  const bool is_even = part.width % ggml_encode::RunningSums::kCount == 0;
  const ggml_encode::Differences found =
      (is_even ? kernels.front() : kernels.back())->measure(part.wanted, part.stored, part.steps, part.width);
  const bool is_tiny = found.source < kLeastSum || (found.error < kLeastSum && found.changed != 0);
  if (!std::isfinite(found.error) || !std::isfinite(found.source) || is_tiny) return measure_any(part, loss);
  loss.measured += part.wanted.size();
  loss.changed += found.changed;
  loss.sum_error += static_cast<double>(found.error);
  loss.sum_source += static_cast<double>(found.source);
  loss.worst = std::max(loss.worst, static_cast<double>(found.worst));
  loss.worst_steps = std::max(loss.worst_steps, static_cast<double>(found.worst_steps));
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
  const std::size_t width = steps.width == 0 ? kChunk : steps.width;
  const std::size_t runs = (columns + width - 1) / width;
  // Whole runs, or a part of one.
  const std::size_t length = width < kChunk ? kChunk / width * width : kChunk;
  const float* row_steps = steps.width == 0 ? nullptr : steps.scales.data();
  for (std::size_t row = 0; row < wanted.size(); row += columns) {
    for (std::size_t at = 0, end = 0; at < columns; at = end) {
      end = std::min(at + length, columns);
      if (width > kChunk) end = std::min(end, (at / width + 1) * width);
      measure_part({wanted.subspan(row + at, end - at), stored.subspan(row + at, end - at),
                    row_steps == nullptr ? nullptr : row_steps + at / width, width},
                   loss);
    }
    if (row_steps != nullptr) row_steps += runs;
  }
}

RowMakerPtr measured(const Target& target, RowMakerPtr maker) {
  return std::make_unique<MeasuredRows>(target, std::move(maker));
}

}  // namespace regauge
