#include "convert/route/reencode_dense.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/bytes.h"
#include "base/error.h"
#include "base/half.h"
#include "ir/decode/dense.h"

namespace regauge {
namespace {

constexpr std::int64_t kBandBytes = 4 << 20;

bool same_value(float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); }

Elementwise undo(Elementwise op) { return inverse(View{.rows = {}, .columns = {}, .elementwise = op})->elementwise; }

class DenseRows final : public RowMaker {
 public:
  DenseRows(const Target& target, DType dtype) : target_(target), dtype_(dtype) {}

  std::int64_t band_rows() const override { return rows_within(kBandBytes, target_.columns * 4, target_.rows); }

  void make(RowRange rows, BandBuffers buffers, Scratch& scratch, Loss& loss) const override {
    const std::span<std::byte> out = buffers.front();
    const auto columns = static_cast<std::size_t>(target_.columns);
    scratch.row.resize(static_cast<std::size_t>(rows.size()) * columns);
    for (const RowRun& run : row_runs(target_, rows)) {
      const auto source = decode(run, scratch);
      const auto to = std::span(scratch.row).subspan(static_cast<std::size_t>(run.target_row - rows.begin) * columns);
      place(run, source, to, loss);
    }
    store(scratch.row, out, loss);
  }

  void decode(RowRange, StoredBuffers stored, Scratch&, std::span<float> out) const override {
    decode_dense(dtype_, stored.front(), out);
  }

 private:
  /// The run's source rows as f32, `source_columns` wide.
  std::span<const float> decode(const RowRun& run, Scratch& scratch) const {
    const Tensor& tensor = *run.piece->tensor;
    const std::int64_t own = tensor.shape.columns();
    const RowRange elements{run.source.begin * run.piece->source_columns, run.source.end * run.piece->source_columns};
    if (elements.begin % own != 0 || elements.end % own != 0) {
      throw Error(ErrorCode::internal, "rows of {} elements do not divide into rows of {}", run.piece->source_columns,
                  own)
          .tensor(tensor.name);
    }
    const RowRange rows{elements.begin / own, elements.end / own};
    TensorDecoder& decoder = scratch.decoder(tensor);
    const std::int64_t quantum = decoder.row_quantum();
    const RowRange aligned{rows.begin / quantum * quantum,
                           std::min(tensor.shape.rows(), (rows.end + quantum - 1) / quantum * quantum)};
    scratch.values.resize(static_cast<std::size_t>(aligned.size() * own));
    decoder.decode(aligned, scratch.values);
    return std::span(scratch.values)
        .subspan(static_cast<std::size_t>((rows.begin - aligned.begin) * own),
                 static_cast<std::size_t>(elements.size()));
  }

  /// Takes columns, changes values, and puts them where they belong in the target rows.
  void place(const RowRun& run, std::span<const float> source, std::span<float> out, Loss& loss) const {
    const auto source_row = static_cast<std::size_t>(run.piece->source_columns);
    const auto columns = source_columns(*run.piece);
    const AxisMap from = columns ? *columns : AxisMap::identity(run.piece->source_columns);
    const AxisMap to = run.piece->target_columns ? *run.piece->target_columns : AxisMap::identity(from.size());
    const Elementwise op = run.piece->view.elementwise;
    for (std::int64_t r = 0; r < run.source.size(); ++r) {
      const auto row = source.subspan(static_cast<std::size_t>(r) * source_row, source_row);
      const auto target =
          out.subspan(static_cast<std::size_t>(r * target_.columns), static_cast<std::size_t>(target_.columns));
      std::int64_t done = 0;
      for (const AxisMap::Run& gap : to.runs()) {
        std::int64_t at = gap.begin;
        const AxisMap wanted = from.slice(done, gap.length);
        for (const AxisMap::Run& part : wanted.runs()) {
          change(op, row.subspan(static_cast<std::size_t>(part.begin), static_cast<std::size_t>(part.length)),
                 target.subspan(static_cast<std::size_t>(at)), loss);
          at += part.length;
        }
        done += gap.length;
      }
    }
  }

  static void change(Elementwise op, std::span<const float> from, std::span<float> to, Loss& loss) {
    if (op == Elementwise::none) {
      std::memcpy(to.data(), from.data(), from.size_bytes());
      return;
    }
    const Elementwise back = undo(op);
    for (std::size_t i = 0; i < from.size(); ++i) {
      to[i] = apply(op, from[i]);
      if (!same_value(apply(back, to[i]), from[i])) ++loss.irreversible;
    }
  }

  void store(std::span<const float> values, std::span<std::byte> out, Loss& loss) const {
    if (dtype_ == DType::f32) {
      std::memcpy(out.data(), values.data(), out.size());
      return;
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::uint16_t bits = dtype_ == DType::bf16 ? f32_to_bf16(values[i]) : f32_to_f16(values[i]);
      store_le(out.data() + 2 * i, bits);
      const float stored = dtype_ == DType::bf16 ? bf16_to_f32(bits) : f16_to_f32(bits);
      if (same_value(stored, values[i])) continue;
      ++loss.changed;
      loss.worst = std::max(loss.worst, std::abs(static_cast<double>(stored) - static_cast<double>(values[i])));
    }
  }

  const Target& target_;
  DType dtype_;
};

}  // namespace

bool widens_exactly(const Encoding& encoding, DType dtype) {
  const auto* dense = std::get_if<Dense>(&encoding);
  if (dense == nullptr) return dtype == DType::f32;
  if (dense->dtype == dtype) return true;
  const bool small = bits(dense->dtype) <= 8 && dense->dtype != DType::f8_e8m0;
  switch (dtype) {
    case DType::f32: return bits(dense->dtype) <= 16;
    case DType::f16:  // e5m2 and e4m3 fit; integers of 8 bits too
    case DType::bf16: return small;
    default: return false;
  }
}

RowMakerPtr make_dense(const Target& target, DType dtype) {
  if (dtype != DType::f32 && dtype != DType::bf16 && dtype != DType::f16) {
    throw Error(ErrorCode::unsupported, "values can be stored as F32, BF16 or F16, not as {}", name(dtype))
        .tensor(target.name);
  }
  return std::make_unique<DenseRows>(target, dtype);
}

}  // namespace regauge
