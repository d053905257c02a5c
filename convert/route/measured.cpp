#include "convert/route/measured.h"

#include <algorithm>
#include <cmath>

#include "convert/route/reencode_dense.h"

namespace regauge {
namespace {

class MeasuredRows final : public RowMaker {
 public:
  MeasuredRows(const Target& target, RowMakerPtr maker)
      : columns_(target.columns), maker_(std::move(maker)), source_(make_dense(target, DType::f32)) {}

  std::int64_t band_rows() const override { return std::min(maker_->band_rows(), source_->band_rows()); }

  void make(RowRange rows, BandBuffers out, Scratch& scratch, Loss& loss) const override {
    maker_->make(rows, out, scratch, loss);
    const auto count = static_cast<std::size_t>(rows.size() * columns_);
    scratch.measured.resize(2 * count);
    const auto stored = std::span(scratch.measured).first(count);
    const auto wanted = std::span(scratch.measured).subspan(count);
    const std::vector<std::span<const std::byte>> bytes(out.begin(), out.end());
    maker_->decode(rows, bytes, scratch, stored);
    Loss ignored;
    const std::span<std::byte> buffer = std::as_writable_bytes(wanted);
    source_->make(rows, std::span(&buffer, 1), scratch, ignored);
    scratch.steps.resize(count);
    maker_->steps(rows, scratch, scratch.steps);
    for (std::size_t i = 0; i < count; ++i) {
      if (stored[i] == wanted[i] || (std::isnan(stored[i]) && std::isnan(wanted[i]))) continue;
      ++loss.changed;
      const double error = std::abs(static_cast<double>(stored[i]) - static_cast<double>(wanted[i]));
      loss.worst = std::max(loss.worst, error);
      if (scratch.steps[i] > 0.0F)
        loss.worst_steps = std::max(loss.worst_steps, error / static_cast<double>(scratch.steps[i]));
    }
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

RowMakerPtr measured(const Target& target, RowMakerPtr maker) {
  return std::make_unique<MeasuredRows>(target, std::move(maker));
}

}  // namespace regauge
