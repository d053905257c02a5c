#include "verify/sound.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/buffer.h"
#include "base/error.h"
#include "convert/route/affine.h"
#include "convert/workers.h"
#include "formats/format.h"
#include "inspect/bands.h"
#include "inspect/findings.h"
#include "inspect/report.h"
#include "ir/decode/dense.h"
#include "ir/decode/tensor.h"
#include "verify/wide.h"

namespace regauge {
namespace {

/// A step of this size between two weights is none that a trained model has.
constexpr float kAbsurdScale = 100;
/// The same of scales that are powers of two, as exponents over 127: 2^7.
constexpr std::uint8_t kAbsurdExponent = 127 + 7;

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
      absurd += std::isfinite(value) && std::abs(value) >= kAbsurdScale ? 1 : 0;
    }
  }
  void add(std::span<const Wide> numbers) noexcept {
    count += numbers.size();
    for (const Wide& number : numbers) {
      nan += std::isnan(number.high) ? 1 : 0;
      infinite += std::isinf(number.high) ? 1 : 0;
    }
  }
  void merge(const Tally& other) noexcept {
    count += other.count;
    nan += other.nan;
    infinite += other.infinite;
  }
};

Tally tally_of(const Part& part) {
  Tally tally;
  Buffer<float> values;
  const auto element_bits = static_cast<std::size_t>(bits(part.dtype));
  inspect::for_each_band(*part.rows, [&](std::span<const std::byte> bytes) {
    values.resize(bytes.size() * 8 / element_bits);
    decode_dense(part.dtype, bytes, values);
    tally.add(values);
  });
  return tally;
}

/// What is found out about one tensor, in the order in which it is told.
class Remarks {
 public:
  Remarks(const Tensor& tensor, Findings& findings) : tensor_(tensor), findings_(findings) {}

  void add(Severity severity, std::string code, std::string message) {
    findings_.push_back({severity, std::move(code), std::move(message), {}, tensor_.name});
  }
  void add_non_finite(const Tally& tally, std::string_view what) {
    if (tally.nan + tally.infinite == 0) return;
    add(Severity::fault, "not-finite",
        fmt::format("{} NaN and {} infinite of {} {}", tally.nan, tally.infinite, tally.count, what));
  }
  void warn_of_scales(std::uint64_t count, std::uint64_t of, const char* code, std::string_view what) {
    if (count != 0) add(Severity::warning, code, fmt::format("{} of {} scales are {}", count, of, what));
  }

 private:
  const Tensor& tensor_;
  Findings& findings_;
};

/// The small parts beside the codes: scales, group index, factors.
class Parameters {
 public:
  Parameters(const Tensor& tensor, Findings& findings) : tensor_(tensor), remarks_(tensor, findings) {}

  void examine() {
    if (const auto* grouped = std::get_if<Grouped>(&tensor_.encoding)) {
      examine_scales(*grouped);
      examine_index(*grouped);
    } else if (std::holds_alternative<Blocked>(tensor_.encoding)) {
      examine_block_scales();
    }
    for (const PartId id : {PartId::lowrank_a, PartId::lowrank_b}) {
      if (const Part* part = tensor_.find(id))
        remarks_.add_non_finite(tally_of(*part), fmt::format("values of {}", name(id)));
    }
  }

 private:
  void examine_scales(const Grouped& grouped) {
    if (const Part* global = tensor_.find(PartId::global_scale)) {
      const Tally tally = tally_of(*global);
      remarks_.add_non_finite(tally, "global scales");
      remarks_.warn_of_scales(tally.zero, tally.count, "scales-zero", "zero, which every other is multiplied with");
    }
    const Part* scales = tensor_.find(PartId::scales);
    if (scales == nullptr) return;
    if (grouped.scale == DType::u8) {
      examine_exponents(grouped, *scales);
      return;
    }
    const Tally tally = tally_of(*scales);
    remarks_.add_non_finite(tally, "scales");
    // MLX stores negative scales where the largest weight of a group is negative.
    warn(tally, grouped.offset != Offset::bias);
  }

  /// Powers of two as their exponents have neither zero nor sign; 255 is NaN, and the values say so.
  void examine_exponents(const Grouped& grouped, const Part& scales) {
    if (grouped.code == CodeKind::e2m1 && grouped.group.cols == 16) return;  // e4m3: NVFP4, up to 448 by design
    std::uint64_t count = 0;
    std::uint64_t absurd = 0;
    inspect::for_each_band(*scales.rows, [&](std::span<const std::byte> bytes) {
      count += bytes.size();
      absurd += static_cast<std::uint64_t>(std::ranges::count_if(
          bytes, [](std::byte byte) { return byte >= std::byte{kAbsurdExponent} && byte != std::byte{0xFF}; }));
    });
    remarks_.warn_of_scales(absurd, count, "scales-absurd", "100 or more");
  }

  /// Of blocks that are integer codes with a scale. A zero scale is how a block of zeros is stored.
  void examine_block_scales() {
    const auto view = AffineTensor::of(tensor_);
    const auto* affine = std::get_if<AffineTensor>(&view);
    if (affine == nullptr) return;
    Tally tally;
    AffineBand band;
    std::vector<std::byte> raw;
    const std::int64_t rows = tensor_.shape.rows();
    const std::int64_t height =
        inspect::band_rows(static_cast<std::size_t>(affine->groups()) * sizeof(float), 1, affine->preferred_rows());
    for (std::int64_t row = 0; row < rows; row += height) {
      affine->read_parameters({row, std::min(rows, row + height)}, band, raw);
      tally.add(band.scales);
    }
    tally.zero = 0;
    warn(tally, false);  // ggml's own quantizer gives the largest weight the code -8
  }

  void warn(const Tally& tally, bool negative_too) {
    remarks_.warn_of_scales(tally.zero, tally.count, "scales-zero", "zero");
    if (negative_too) remarks_.warn_of_scales(tally.negative, tally.count, "scales-negative", "below zero");
    remarks_.warn_of_scales(tally.absurd, tally.count, "scales-absurd", "100 or more");
  }

  /// Quantizers give every group as many columns; the last may be short.
  void examine_index(const Grouped& grouped) {
    if (tensor_.find(PartId::group_index) == nullptr || grouped.group.cols <= 0) return;
    std::map<std::int32_t, std::int64_t> columns;
    for (const std::int32_t group : read_group_index(tensor_)) ++columns[group];
    const std::int64_t rest = tensor_.shape.columns() % grouped.group.cols;
    const auto uneven = std::ranges::count_if(
        columns, [&](const auto& entry) { return entry.second != grouped.group.cols && entry.second != rest; });
    if (uneven != 0)
      remarks_.add(Severity::warning, "group-index-uneven",
                   fmt::format("{} of its {} groups have more or fewer than {} columns", uneven, columns.size(),
                               grouped.group.cols));
  }

  const Tensor& tensor_;
  Remarks remarks_;
};

/// A stretch of rows of a tensor, or (without rows) its parameters.
struct Job {
  std::size_t tensor = 0;
  RowRange rows;
};

struct Result {
  Findings findings;
  Tally tally;
};

/// What one worker uses again.
struct Buffers {
  Scratch scratch;
  Buffer<float> values;
  std::vector<Wide> wide;
  std::vector<std::byte> raw;
};

class Examination {
 public:
  explicit Examination(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {
    for (const Tensor& tensor : checkpoint.tensors) {
      own_.push_back(as_it_is(tensor));
      total_ += static_cast<std::uint64_t>(std::max<std::int64_t>(tensor.shape.elements(), 0));
    }
    for (std::size_t i = 0; i < own_.size(); ++i) cut(i);
  }

  void run(int threads, const inspect::ScanProgress& progress, const std::atomic<bool>* cancel) {
    std::vector<Result> results(jobs_.size());
    Workers workers(threads);
    std::vector<Buffers> buffers(static_cast<std::size_t>(workers.count()));
    std::mutex mutex;
    std::uint64_t done = 0;
    workers.for_each(jobs_.size(), [&](std::size_t i, std::size_t worker) {
      if (cancel != nullptr && cancel->load()) throw Error(ErrorCode::io, "interrupted");
      results[i] = carry_out(jobs_[i], buffers[worker]);
      const std::scoped_lock lock(mutex);
      done += results[i].tally.count;
      if (progress) progress(done, total_);
    });
    gather(results);
  }

  Findings findings;
  std::uint64_t values = 0;

 private:
  void cut(std::size_t index) {
    const Tensor& tensor = checkpoint_.tensors[index];
    if (is_decodable(tensor.encoding) && tensor.shape.elements() != 0) {
      const std::int64_t rows = tensor.shape.rows();
      const std::int64_t height =
          inspect::band_rows(static_cast<std::size_t>(tensor.shape.columns()) * sizeof(float), tensor.row_quantum(), 0);
      for (std::int64_t row = 0; row < rows; row += height)
        jobs_.push_back({index, {row, std::min(rows, row + height)}});
    }
    jobs_.push_back({index, {0, 0}});
  }

  Result carry_out(const Job& job, Buffers& own) const {
    const Tensor& tensor = checkpoint_.tensors[job.tensor];
    Result result;
    Remarks remarks(tensor, result.findings);
    try {
      if (!is_decodable(tensor.encoding)) {
        remarks.add(Severity::note, "data-opaque", "no values can be made of " + to_string(tensor.encoding));
      } else if (job.rows.size() == 0) {
        Parameters(tensor, result.findings).examine();
      } else {
        tally_values(job, own, result.tally);
      }
    } catch (const Error& error) {
      remarks.add(Severity::fault, "data-unread", error.message());
    }
    return result;
  }

  void tally_values(const Job& job, Buffers& own, Tally& tally) const {
    const Tensor& tensor = checkpoint_.tensors[job.tensor];
    const auto count = static_cast<std::size_t>(job.rows.size() * tensor.shape.columns());
    if (const auto wide = WideRows::of(own_[job.tensor])) {
      own.wide.resize(count);
      wide->read(job.rows, own.scratch, own.raw, own.wide);
      tally.add(std::span<const Wide>(own.wide));
      return;
    }
    own.values.resize(count);
    own.scratch.decoder(tensor).decode(job.rows, own.values);
    tally.add(own.values);
  }

  /// Every tensor's remarks: of its values, summed up, then of the rest. What fails in every band is told once.
  void gather(std::vector<Result>& results) {
    Tally tally;
    std::ptrdiff_t begin = 0;  // of the tensor's remarks
    for (std::size_t i = 0; i < jobs_.size(); ++i) {
      tally.merge(results[i].tally);
      const bool last = jobs_[i].rows.size() == 0;
      if (last) Remarks(checkpoint_.tensors[jobs_[i].tensor], findings).add_non_finite(tally, "values");
      for (Finding& finding : results[i].findings) {
        if (std::find(findings.begin() + begin, findings.end(), finding) == findings.end())
          findings.push_back(std::move(finding));
      }
      if (!last) continue;
      values += tally.count;
      tally = {};
      begin = static_cast<std::ptrdiff_t>(findings.size());
    }
  }

  const Checkpoint& checkpoint_;
  std::vector<Target> own_;  // of every tensor, which is all of it
  std::vector<Job> jobs_;
  std::uint64_t total_ = 0;
};

/// What makes a checkpoint unfit whatever inspect, which only describes, makes of it.
void raise_faults(Findings& findings) {
  for (Finding& finding : findings) {
    if (finding.code == "tensor-missing" || finding.code == "tensor-wrong-shape" || finding.code == "tensor-repeated" ||
        finding.code == "config-malformed")
      finding.severity = Severity::fault;
  }
}

/// inspect looks at the means of norms when it reads data; the norms alone are soon read.
std::optional<Finding> examine_norms(const Checkpoint& checkpoint, const inspect::Report& report) {
  if (report.architecture == nullptr) return std::nullopt;
  inspect::Catalog vectors;
  for (const inspect::Entry& entry : report.catalog.entries) {
    if (checkpoint.tensors[entry.tensor].shape.rank() == 1) vectors.entries.push_back(entry);
  }
  const inspect::ScanReport scan = inspect::scan(checkpoint, report.architecture.get(), vectors);
  return inspect::contradicted_norms(checkpoint, scan.norms);
}

}  // namespace

bool Soundness::sound() const {
  return std::ranges::find(findings, Severity::fault, &Finding::severity) == findings.end();
}

Soundness examine_soundness(const Checkpoint& checkpoint, int threads, const inspect::ScanProgress& progress,
                            const std::atomic<bool>* cancel) {
  Soundness result;
  const inspect::Report report = inspect::examine(checkpoint);
  result.findings = report.findings;
  raise_faults(result.findings);
  if (auto contrary = examine_norms(checkpoint, report)) result.findings.push_back(*std::move(contrary));
  result.tensors = checkpoint.tensors.size();
  Examination examination(checkpoint);
  examination.run(threads, progress, cancel);
  result.values = examination.values;
  result.findings.insert(result.findings.end(), examination.findings.begin(), examination.findings.end());
  Findings damaged = check_stored_digests(checkpoint);
  std::ranges::move(damaged, std::back_inserter(result.findings));
  return result;
}

}  // namespace regauge
