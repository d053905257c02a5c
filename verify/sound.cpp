#include "verify/sound.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "convert/workers.h"
#include "inspect/bands.h"
#include "inspect/report.h"
#include "ir/decode/dense.h"
#include "ir/decode/tensor.h"

namespace regauge {
namespace {

/// A step of this size between two weights is none that a trained model has.
constexpr float kAbsurdScale = 100;

/// Counts of numbers that are suspicious.
struct Tally {
  std::uint64_t count = 0;
  std::uint64_t nan = 0;
  std::uint64_t infinite = 0;
  std::uint64_t zero = 0;
  std::uint64_t negative = 0;
  std::uint64_t absurd = 0;

  void add(std::span<const float> values) noexcept {
    count += values.size();
    for (const float value : values) {
      nan += std::isnan(value) ? 1 : 0;
      infinite += std::isinf(value) ? 1 : 0;
      zero += value == 0 ? 1 : 0;
      negative += value < 0 ? 1 : 0;
      absurd += std::abs(value) >= kAbsurdScale ? 1 : 0;
    }
  }
};

struct TensorResult {
  Findings findings;
  std::uint64_t values = 0;
};

class Examination {
 public:
  explicit Examination(const Tensor& tensor) : tensor_(tensor) {}

  TensorResult run() {
    if (!is_decodable(tensor_.encoding)) {
      remark(Severity::note, "data-opaque", "no values can be made of " + to_string(tensor_.encoding));
      return std::move(result_);
    }
    try {
      examine_values();
      if (const auto* grouped = std::get_if<Grouped>(&tensor_.encoding)) examine_scales(*grouped);
      for (const PartId id : {PartId::lowrank_a, PartId::lowrank_b}) {
        if (const Part* part = tensor_.find(id)) examine_factor(*part);
      }
    } catch (const Error& error) {
      remark(Severity::fault, "data-unread", error.message());
    }
    return std::move(result_);
  }

 private:
  void remark(Severity severity, std::string code, std::string message) {
    result_.findings.push_back({severity, std::move(code), std::move(message), {}, tensor_.name});
  }

  void remark_non_finite(const Tally& tally, std::string_view what) {
    if (tally.nan + tally.infinite == 0) return;
    remark(Severity::fault, "not-finite",
           fmt::format("{} NaN and {} infinite of {} {}", tally.nan, tally.infinite, tally.count, what));
  }

  void examine_values() {
    if (tensor_.shape.elements() == 0) return;
    Tally tally;
    TensorDecoder decoder(tensor_);
    const std::int64_t rows = tensor_.shape.rows();
    const std::int64_t columns = tensor_.shape.columns();
    const std::int64_t height =
        inspect::band_rows(static_cast<std::size_t>(columns) * sizeof(float), decoder.row_quantum(), 0);
    std::vector<float> values;
    for (std::int64_t row = 0; row < rows; row += height) {
      const RowRange band{row, std::min(rows, row + height)};
      values.resize(static_cast<std::size_t>(band.size() * columns));
      decoder.decode(band, values);
      tally.add(values);
    }
    result_.values = tally.count;
    remark_non_finite(tally, "values");
  }

  Tally tally_of(const Part& part) const {
    Tally tally;
    std::vector<float> values;
    const auto element_bits = static_cast<std::size_t>(bits(part.dtype));
    inspect::for_each_band(*part.rows, [&](std::span<const std::byte> bytes) {
      values.resize(bytes.size() * 8 / element_bits);
      decode_dense(part.dtype, bytes, values);
      tally.add(values);
    });
    return tally;
  }

  void examine_scales(const Grouped& grouped) {
    // Bytes that stand for powers of two or small floats are read by the decoder; there is no zero or sign to look for.
    if (grouped.scale == DType::u8) return;
    const Part* scales = tensor_.find(PartId::scales);
    if (scales == nullptr) return;
    const Tally tally = tally_of(*scales);
    remark_non_finite(tally, "scales");
    const auto warn = [&](std::uint64_t count, const char* code, std::string_view what) {
      if (count != 0) remark(Severity::warning, code, fmt::format("{} of {} scales are {}", count, tally.count, what));
    };
    warn(tally.zero, "scales-zero", "zero");
    // MLX stores negative scales where the largest weight of a group is negative.
    if (grouped.offset != Offset::bias) warn(tally.negative, "scales-negative", "below zero");
    warn(tally.absurd, "scales-absurd", "100 or more");
  }

  void examine_factor(const Part& factor) {
    remark_non_finite(tally_of(factor), fmt::format("values of {}", name(factor.id)));
  }

  const Tensor& tensor_;
  TensorResult result_;
};

/// What makes a checkpoint unfit whatever inspect, which only describes, makes of it.
void raise_faults(Findings& findings) {
  for (Finding& finding : findings) {
    if (finding.code == "tensor-missing" || finding.code == "tensor-wrong-shape" || finding.code == "tensor-repeated" ||
        finding.code == "config-malformed")
      finding.severity = Severity::fault;
  }
}

}  // namespace

bool Soundness::sound() const {
  return std::ranges::find(findings, Severity::fault, &Finding::severity) == findings.end();
}

Soundness examine_soundness(const Checkpoint& checkpoint, int threads, const inspect::ScanProgress& progress,
                            const std::atomic<bool>* cancel) {
  Soundness result;
  result.findings = inspect::examine(checkpoint).findings;
  raise_faults(result.findings);
  result.tensors = checkpoint.tensors.size();
  std::uint64_t total = 0;
  for (const Tensor& tensor : checkpoint.tensors) total += static_cast<std::uint64_t>(tensor.shape.elements());

  std::vector<TensorResult> tensors(checkpoint.tensors.size());
  std::mutex mutex;
  std::uint64_t done = 0;
  Workers workers(threads);
  workers.for_each(tensors.size(), [&](std::size_t i, std::size_t) {
    if (cancel != nullptr && cancel->load()) throw Error(ErrorCode::io, "interrupted");
    tensors[i] = Examination(checkpoint.tensors[i]).run();
    const std::scoped_lock lock(mutex);
    done += static_cast<std::uint64_t>(checkpoint.tensors[i].shape.elements());
    if (progress) progress(done, total);
  });
  for (TensorResult& tensor : tensors) {
    result.values += tensor.values;
    result.findings.insert(result.findings.end(), tensor.findings.begin(), tensor.findings.end());
  }
  return result;
}

}  // namespace regauge
