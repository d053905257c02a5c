#include "convert/route/copy.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "ir/decode/blocks.h"
#include "ir/decode/dense.h"

namespace regauge {
namespace {

constexpr std::int64_t kBandBytes = 4 << 20;

/// What moves as a whole: one element of a dense tensor, one block of a blocked one.
struct Unit {
  std::int64_t elements = 1;
  std::int64_t bytes = 1;
};

std::optional<Unit> unit_of(const Encoding& encoding) {
  if (const auto* dense = std::get_if<Dense>(&encoding)) {
    const int width = bits(dense->dtype);
    if (width < 8) return Unit{8, width};
    return Unit{1, width / 8};
  }
  if (const auto* blocked = std::get_if<Blocked>(&encoding))
    return Unit{block_elements(blocked->type), block_bytes(blocked->type)};
  return std::nullopt;
}

PartId stored_part(const Encoding& encoding) {
  return std::holds_alternative<Blocked>(encoding) ? PartId::blocks : PartId::values;
}

class CopyRows final : public RowMaker {
 public:
  explicit CopyRows(const Target& target)
      : target_(target), encoding_(target.pieces.front().tensor->encoding), unit_(*unit_of(encoding_)) {
    row_bytes_ = static_cast<std::size_t>(target.columns / unit_.elements * unit_.bytes);
  }

  std::int64_t band_rows() const override {
    return rows_within(kBandBytes, static_cast<std::int64_t>(row_bytes_), target_.rows);
  }

  void make(RowRange rows, BandBuffers buffers, Scratch& scratch, Loss&) const override {
    const std::span<std::byte> out = buffers.front();
    for (const RowRun& run : row_runs(target_, rows)) {
      const auto count = static_cast<std::size_t>(run.source.size());
      const auto to =
          out.subspan(static_cast<std::size_t>(run.target_row - rows.begin) * row_bytes_, count * row_bytes_);
      const auto columns = source_columns(*run.piece);
      if (!columns && !run.piece->target_columns) {
        read_part_rows(*run.piece, stored_part(encoding_), run.source, scratch.raw, to);
      } else {
        gather(run, columns, to, scratch);
      }
    }
  }

  void decode(RowRange, StoredBuffers stored, Scratch&, std::span<float> out) const override {
    if (const auto* dense = std::get_if<Dense>(&encoding_)) {
      decode_dense(dense->dtype, stored.front(), out);
    } else {
      decode_blocks(std::get<Blocked>(encoding_).type, stored.front(), out);
    }
  }

 private:
  void gather(const RowRun& run, const std::optional<AxisMap>& columns, std::span<std::byte> out,
              Scratch& scratch) const {
    const auto source_row = static_cast<std::size_t>(run.piece->source_columns / unit_.elements * unit_.bytes);
    const auto count = static_cast<std::size_t>(run.source.size());
    scratch.codes.resize(count * source_row);
    read_part_rows(*run.piece, stored_part(encoding_), run.source, scratch.raw,
                   std::as_writable_bytes(std::span(scratch.codes)));
    const AxisMap from = columns ? *columns : AxisMap::identity(run.piece->source_columns);
    const AxisMap to = run.piece->target_columns ? *run.piece->target_columns : AxisMap::identity(from.size());
    const auto* source = reinterpret_cast<const std::byte*>(scratch.codes.data());
    for (std::size_t r = 0; r < count; ++r) {
      copy_row({source + r * source_row, source_row}, from, to, out.subspan(r * row_bytes_, row_bytes_));
    }
  }

  void copy_row(std::span<const std::byte> source, const AxisMap& from, const AxisMap& to,
                std::span<std::byte> out) const {
    std::int64_t done = 0;
    for (const AxisMap::Run& run : to.runs()) {
      std::int64_t at = run.begin;
      const AxisMap wanted = from.slice(done, run.length);
      for (const AxisMap::Run& part : wanted.runs()) {
        std::memcpy(out.data() + at / unit_.elements * unit_.bytes,
                    source.data() + part.begin / unit_.elements * unit_.bytes,
                    static_cast<std::size_t>(part.length / unit_.elements * unit_.bytes));
        at += part.length;
      }
      done += run.length;
    }
  }

  const Target& target_;
  const Encoding& encoding_;
  Unit unit_;
  std::size_t row_bytes_ = 0;
};

}  // namespace

std::optional<std::string> cannot_copy(const Target& target) {
  const Encoding& encoding = target.pieces.front().tensor->encoding;
  for (const TargetPiece& piece : target.pieces) {
    if (piece.with_low_rank) return "its low-rank factors are merged, and no encoding holds the sums exactly";
  }
  const auto unit = unit_of(encoding);
  if (!unit) return "its codes and scales are stored apart";
  if (target.columns % unit->elements != 0) return "rows are no whole number of blocks";
  for (const TargetPiece& piece : target.pieces) {
    if (piece.tensor->encoding != encoding) return "its parts are stored in different encodings";
    if (piece.view.elementwise != Elementwise::none)
      return fmt::format("the convention changes its values ({})", name(piece.view.elementwise));
    const auto columns = source_columns(piece);
    if (columns && !columns->keeps_units(unit->elements))
      return fmt::format("the column order cuts blocks of {}", unit->elements);
    if (piece.target_columns && !piece.target_columns->keeps_units(unit->elements))
      return "its columns interleave within a block";
  }
  return std::nullopt;
}

RowMakerPtr make_copy(const Target& target) { return std::make_unique<CopyRows>(target); }

}  // namespace regauge
