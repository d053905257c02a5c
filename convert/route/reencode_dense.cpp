#include "convert/route/reencode_dense.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
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
  DenseRows(const Target& target, DType dtype)
      : target_(target), dtype_(dtype), op_(target.pieces.front().view.elementwise), back_(undo(op_)) {
    for (const TargetPiece& piece : target.pieces) {
      if (piece.view.elementwise != op_)
        throw Error(ErrorCode::unsupported, "its parts take different changes of value").tensor(target.name);
    }
  }

  std::int64_t band_rows() const override { return rows_within(kBandBytes, target_.columns * 4, target_.rows); }

  void make(RowRange rows, BandBuffers buffers, Scratch& scratch, Loss& loss) const override {
    const std::span<std::byte> out = buffers.front();
    const auto columns = static_cast<std::size_t>(target_.columns);
    if (decode_in_place(rows, out, scratch)) return;
    scratch.row.resize(static_cast<std::size_t>(rows.size()) * columns);
    for (const RowRun& run : row_runs(target_, rows)) {
      const auto source = decode(run, scratch);
      const auto to = std::span(scratch.row).subspan(static_cast<std::size_t>(run.target_row - rows.begin) * columns);
      place(run, source, to);
    }
    store(scratch.row, out, loss);
  }

  void decode(RowRange, StoredBuffers stored, Scratch&, std::span<float> out) const override {
    decode_dense(dtype_, stored.front(), out);
  }

 private:
  /// Decodes straight into the band where F32 is wanted, the rows are one tensor's own in their order, and none before or
  /// after has to be read with them. Whether that was so.
  bool decode_in_place(RowRange rows, std::span<std::byte> out, Scratch& scratch) const {
    const TargetPiece& piece = target_.pieces.front();
    const bool plain = dtype_ == DType::f32 && op_ == Elementwise::none && target_.pieces.size() == 1 &&
                       !piece.view.rows && !source_columns(piece) && !piece.target_columns &&
                       piece.tensor->shape.columns() == target_.columns && piece.source_columns == target_.columns;
    if (!plain || reinterpret_cast<std::uintptr_t>(out.data()) % alignof(float) != 0) return false;
    const RowRange source{piece.rows.begin + rows.begin, piece.rows.begin + rows.end};
    TensorDecoder& decoder = scratch.decoder(*piece.tensor, piece.with_low_rank);
    const std::int64_t quantum = decoder.row_quantum();
    const bool ends_whole = source.end % quantum == 0 || source.end == piece.tensor->shape.rows();
    if (source.begin % quantum != 0 || !ends_whole) return false;
    decoder.decode(source, {reinterpret_cast<float*>(out.data()), out.size() / sizeof(float)});
    return true;
  }

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
    TensorDecoder& decoder = scratch.decoder(tensor, run.piece->with_low_rank);
    const std::int64_t quantum = decoder.row_quantum();
    const RowRange aligned{rows.begin / quantum * quantum,
                           std::min(tensor.shape.rows(), (rows.end + quantum - 1) / quantum * quantum)};
    scratch.values.resize(static_cast<std::size_t>(aligned.size() * own));
    decoder.decode(aligned, scratch.values);
    return std::span(scratch.values)
        .subspan(static_cast<std::size_t>((rows.begin - aligned.begin) * own),
                 static_cast<std::size_t>(elements.size()));
  }

  /// Takes columns and puts them where they belong in the target rows, values as they are.
  void place(const RowRun& run, std::span<const float> source, std::span<float> out) const {
    const auto source_row = static_cast<std::size_t>(run.piece->source_columns);
    const auto columns = source_columns(*run.piece);
    const AxisMap from = columns ? *columns : AxisMap::identity(run.piece->source_columns);
    const AxisMap to = run.piece->target_columns ? *run.piece->target_columns : AxisMap::identity(from.size());
    for (std::int64_t r = 0; r < run.source.size(); ++r) {
      const auto row = source.subspan(static_cast<std::size_t>(r) * source_row, source_row);
      const auto target =
          out.subspan(static_cast<std::size_t>(r * target_.columns), static_cast<std::size_t>(target_.columns));
      std::int64_t done = 0;
      for (const AxisMap::Run& gap : to.runs()) {
        std::int64_t at = gap.begin;
        const AxisMap wanted = from.slice(done, gap.length);
        for (const AxisMap::Run& part : wanted.runs()) {
          std::copy_n(row.begin() + part.begin, part.length, target.begin() + at);
          at += part.length;
        }
        done += gap.length;
      }
    }
  }

  void store(std::span<const float> source, std::span<std::byte> out, Loss& loss) const {
    if (dtype_ == DType::f32 && op_ == Elementwise::none) {
      std::memcpy(out.data(), source.data(), out.size());
      return;
    }
    for (std::size_t i = 0; i < source.size(); ++i) {
      const float wanted = apply(op_, source[i]);
      const float stored = put(wanted, out, i);
      // What comes to be w must give back the 1 + w that it came from, and need not be the nearest number to w.
      const bool counts_back = op_ == Elementwise::sub_one || op_ == Elementwise::log_neg;
      const bool kept = counts_back ? same_value(apply(back_, stored), source[i]) : same_value(stored, wanted);
      if (op_ != Elementwise::none && !counts_back && !same_value(apply(back_, stored), source[i])) ++loss.irreversible;
      if (std::isfinite(stored) && std::isfinite(wanted)) {
        const double difference = static_cast<double>(stored) - static_cast<double>(wanted);
        ++loss.measured;
        loss.sum_error += kept ? 0.0 : difference * difference;
        loss.sum_source += static_cast<double>(wanted) * static_cast<double>(wanted);
      }
      if (kept) continue;
      ++loss.changed;
      loss.worst = std::max(loss.worst, std::abs(static_cast<double>(stored) - static_cast<double>(wanted)));
    }
  }

  /// Stores one value and says what it became.
  float put(float value, std::span<std::byte> out, std::size_t i) const {
    if (dtype_ == DType::f32) {
      store_le(out.data() + 4 * i, value);
      return value;
    }
    const std::uint16_t bits = dtype_ == DType::bf16 ? f32_to_bf16(value) : f32_to_f16(value);
    store_le(out.data() + 2 * i, bits);
    return dtype_ == DType::bf16 ? bf16_to_f32(bits) : f16_to_f32(bits);
  }

  const Target& target_;
  DType dtype_;
  Elementwise op_;
  Elementwise back_;
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

Loss measure_dense(const Target& target, DType dtype) {
  const RowMakerPtr maker = make_dense(target, dtype);
  const std::int64_t height = maker->band_rows();
  Scratch scratch;
  Loss loss;
  std::vector<std::byte> buffer;
  for (std::int64_t row = 0; row < target.rows; row += height) {
    const RowRange band{row, std::min(target.rows, row + height)};
    buffer.resize(static_cast<std::size_t>(band.size() * target.columns * bits(dtype) / 8));
    const std::span<std::byte> out(buffer);
    maker->make(band, std::span(&out, 1), scratch, loss);
  }
  return loss;
}

bool same_values(const Target& first, const Target& second) {
  if (first.rows * first.columns != second.rows * second.columns) return false;
  const auto values_of = [](const Target& target) {
    std::vector<float> values(static_cast<std::size_t>(target.rows * target.columns));
    const std::span<std::byte> out = std::as_writable_bytes(std::span(values));
    Scratch scratch;
    Loss ignored;
    make_dense(target, DType::f32)->make({0, target.rows}, std::span(&out, 1), scratch, ignored);
    return values;
  };
  return std::ranges::equal(values_of(first), values_of(second), same_value);
}

}  // namespace regauge
