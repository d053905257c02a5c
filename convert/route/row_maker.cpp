#include "convert/route/row_maker.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"

namespace regauge {

void Loss::merge(const Loss& other) {
  changed += other.changed;
  worst = std::max(worst, other.worst);
  worst_steps = std::max(worst_steps, other.worst_steps);
  irreversible += other.irreversible;
  measured += other.measured;
  sum_error += other.sum_error;
  sum_source += other.sum_source;
}

double Loss::rmse() const { return measured == 0 ? 0.0 : std::sqrt(sum_error / static_cast<double>(measured)); }

double Loss::relative_error() const {
  if (sum_error == 0) return 0.0;
  return sum_source == 0 ? std::numeric_limits<double>::infinity() : std::sqrt(sum_error / sum_source);
}

double Loss::signal_to_noise() const {
  return sum_error == 0 ? std::numeric_limits<double>::infinity() : 10 * std::log10(sum_source / sum_error);
}

void RowMaker::steps(RowRange, Scratch&, std::span<float> out) const { std::ranges::fill(out, 0.0F); }

TensorDecoder& Scratch::decoder(const Tensor& tensor, bool with_low_rank) {
  if (decoded_ != &tensor || decoded_low_rank_ != with_low_rank) {
    decoder_.emplace(tensor, DecodeOptions{.with_low_rank = with_low_rank});
    decoded_ = &tensor;
    decoded_low_rank_ = with_low_rank;
  }
  return *decoder_;
}

std::vector<RowRun> row_runs(const Target& target, RowRange rows) {
  std::vector<RowRun> runs;
  for (const TargetPiece& piece : target.pieces) {
    const std::int64_t begin = std::max(rows.begin, piece.target_row);
    const std::int64_t end = std::min(rows.end, piece.target_row + piece.target_rows);
    if (begin >= end) continue;
    std::int64_t at = begin;
    const auto map = piece.view.rows ? *piece.view.rows : AxisMap::identity(piece.rows.size());
    const AxisMap wanted = map.slice(begin - piece.target_row, end - begin);
    for (const AxisMap::Run& run : wanted.runs()) {
      const std::int64_t first = piece.rows.begin + run.begin;
      runs.push_back({&piece, {first, first + run.length}, at});
      at += run.length;
    }
  }
  return runs;
}

std::optional<AxisMap> source_columns(const TargetPiece& piece) {
  if (!piece.columns) return piece.view.columns;
  return piece.view.columns ? piece.columns->then(*piece.view.columns) : *piece.columns;
}

void read_part_rows(const TargetPiece& piece, PartId id, RowRange source, std::vector<std::byte>& scratch,
                    std::span<std::byte> out) {
  const Tensor& tensor = *piece.tensor;
  const RowSource& part = *tensor.part(id).rows;
  // The piece counts in rows of `source_columns` elements; the part in rows of the tensor's own last dimension.
  const std::int64_t own = tensor.shape.columns();
  const std::int64_t begin = source.begin * piece.source_columns;
  const std::int64_t end = source.end * piece.source_columns;
  if (begin % own != 0 || end % own != 0) {
    throw Error(ErrorCode::internal, "rows of {} elements do not divide into rows of {}", piece.source_columns, own)
        .tensor(tensor.name);
  }
  read_aligned(part, {begin / own, end / own}, scratch, out);
}

void read_aligned(const RowSource& part, RowRange rows, std::vector<std::byte>& scratch, std::span<std::byte> out) {
  const std::int64_t quantum = part.row_quantum();
  const RowRange aligned{rows.begin / quantum * quantum,
                         std::min(part.rows(), (rows.end + quantum - 1) / quantum * quantum)};
  if (aligned == rows) {
    part.read(rows, out);
    return;
  }
  scratch.resize(static_cast<std::size_t>(aligned.size()) * part.row_bytes());
  part.read(aligned, scratch);
  std::memcpy(out.data(), scratch.data() + static_cast<std::size_t>(rows.begin - aligned.begin) * part.row_bytes(),
              out.size());
}

std::int64_t rows_within(std::int64_t budget_bytes, std::int64_t bytes_per_row, std::int64_t rows) {
  const std::int64_t fit = std::clamp<std::int64_t>(budget_bytes / std::max<std::int64_t>(bytes_per_row, 1), 1,
                                                    std::max<std::int64_t>(rows, 1));
  return fit > 64 ? fit / 64 * 64 : fit;
}

}  // namespace regauge
