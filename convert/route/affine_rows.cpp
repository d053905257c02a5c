#include "convert/route/affine_rows.h"

#include <algorithm>
#include <cmath>

namespace regauge {
namespace {

/// Runs shorter than this, of a source that wants wide bands, are not read one by one.
constexpr std::int64_t kShortRun = 16;
constexpr std::int64_t kByteCodes = 8;             // codes of any width that are whole bytes
constexpr std::int64_t kWideBandBytes = 1 << 20;  // held beside the band: convert/memory.cpp counts with little more

/// Whole bands of the rows that `runs` of one piece touch.
void append_wide_reads(const AffineTensor& tensor, std::span<const RowRun> runs, std::size_t piece,
                       std::int64_t first_row, std::vector<AffineRead>& reads) {
  std::vector<WantedRow> wanted;
  for (const RowRun& run : runs) {
    for (std::int64_t r = 0; r < run.source.size(); ++r)
      wanted.push_back({run.source.begin + r, static_cast<std::size_t>(run.target_row - first_row + r)});
  }
  std::ranges::sort(wanted, {}, &WantedRow::source);
  const std::int64_t height = std::max<std::int64_t>(rows_within(kWideBandBytes, tensor.columns(), 1 << 20), kShortRun);
  for (std::size_t i = 0; i < wanted.size();) {
    AffineRead read{piece, {wanted[i].source, wanted[i].source + 1}, {}};
    const std::int64_t end = wanted[i].source + height;
    for (; i < wanted.size() && wanted[i].source < end; ++i) {
      read.source.end = wanted[i].source + 1;
      read.rows.push_back(wanted[i]);
    }
    reads.push_back(std::move(read));
  }
}

/// A row's codes of `bits` bits in the order of `columns`, which takes whole bytes.
void take_runs(const AxisMap& columns, int bits, std::span<const std::byte> from, std::span<std::byte> to) {
  for (const AxisMap::Run& run : columns.runs()) {
    const auto bytes = static_cast<std::size_t>(run.length * bits) / 8;
    std::ranges::copy(from.subspan(static_cast<std::size_t>(run.begin * bits) / 8, bytes), to.begin());
    to = to.subspan(bytes);
  }
}

}  // namespace

AffineRow affine_row(const AffineSource& source, const GroupMap& groups, std::size_t piece, std::size_t r,
                     Scratch& scratch, Codes codes) {
  const AffineTensor& tensor = source.tensors()[piece];
  const auto width = static_cast<std::size_t>(tensor.columns());
  const auto per_row = static_cast<std::size_t>(tensor.groups());
  AffineRow row;
  if (codes == Codes::read) {
    row.codes = std::span<const std::uint8_t>(scratch.affine.codes).subspan(r * width, width);
    if (const auto& columns = source.columns(piece)) {
      scratch.row_codes.resize(static_cast<std::size_t>(columns->size()));
      take_runs(*columns, 8, std::as_bytes(row.codes), std::as_writable_bytes(std::span(scratch.row_codes)));
      row.codes = scratch.row_codes;
    }
  }
  row.scales = std::span<const float>(scratch.affine.scales).subspan(r * per_row, per_row);
  if (tensor.has_zeros()) {
    row.zeros = std::span<const std::uint8_t>(scratch.affine.zeros).subspan(r * per_row, per_row);
  } else {
    row.biases = std::span<const float>(scratch.affine.biases).subspan(r * per_row, per_row);
  }
  row.groups = groups.source_group[piece];
  row.middle = std::int64_t{1} << (tensor.bits() - 1);
  return row;
}

bool has_streams(const AffineSource& source, int bits) {
  const Target& target = source.target();
  for (std::size_t p = 0; p < source.tensors().size(); ++p) {
    const AffineTensor& tensor = source.tensors()[p];
    if (tensor.bits() != bits || !tensor.has_stream()) return false;
    if (const auto& columns = source.columns(p); columns && !columns->keeps_units(kByteCodes)) return false;
  }
  const auto runs = static_cast<std::int64_t>(row_runs(target, {0, target.rows}).size());
  return target.rows >= kShortRun * runs;
}

void read_streamed_run(const AffineSource& source, std::size_t piece, RowRange rows, Scratch& scratch,
                       std::span<std::byte> stream) {
  const AffineTensor& tensor = source.tensors()[piece];
  const auto& columns = source.columns(piece);
  if (!columns) return tensor.read_stream(rows, scratch.affine, scratch.raw, stream);
  const std::size_t row_bytes = static_cast<std::size_t>(tensor.columns() * tensor.bits()) / 8;
  const std::size_t to_bytes = static_cast<std::size_t>(columns->size() * tensor.bits()) / 8;
  const auto count = static_cast<std::size_t>(rows.size());
  scratch.unordered.resize(count * row_bytes);
  tensor.read_stream(rows, scratch.affine, scratch.raw, scratch.unordered);
  for (std::size_t row = 0; row < count; ++row)
    take_runs(*columns, tensor.bits(),
              std::span<const std::byte>(scratch.unordered).subspan(row * row_bytes, row_bytes),
              stream.subspan(row * to_bytes, to_bytes));
}

void affine_steps(const AffineSource& source, RowRange rows, Scratch& scratch, std::span<float> out) {
  const auto columns = static_cast<std::size_t>(source.target().columns);
  for (const AffineRead& read : affine_reads(source, rows)) {
    const AffineTensor& tensor = source.tensors()[read.piece];
    tensor.read_parameters(read.source, scratch.affine, scratch.raw);
    const auto& groups = source.groups_in_target(read.piece);
    for (const WantedRow& wanted : read.rows) {
      const auto first = static_cast<std::size_t>((wanted.source - read.source.begin) * tensor.groups());
      for (std::size_t c = 0; c < columns; ++c)
        out[wanted.at * columns + c] = std::abs(scratch.affine.scales[first + static_cast<std::size_t>(groups[c])]);
    }
  }
}

std::vector<AffineRead> affine_reads(const AffineSource& source, RowRange rows) {
  const Target& target = source.target();
  const std::vector<RowRun> runs = row_runs(target, rows);
  std::vector<AffineRead> reads;
  for (std::size_t i = 0; i < runs.size();) {
    const auto piece = static_cast<std::size_t>(runs[i].piece - target.pieces.data());
    std::size_t end = i;
    std::int64_t count = 0;
    for (; end < runs.size() && runs[end].piece == runs[i].piece; ++end) count += runs[end].source.size();
    const bool scattered = count < kShortRun * static_cast<std::int64_t>(end - i);
    if (scattered && source.tensors()[piece].preferred_rows() > 1) {
      append_wide_reads(source.tensors()[piece], std::span(runs).subspan(i, end - i), piece, rows.begin, reads);
      i = end;
      continue;
    }
    for (; i < end; ++i) {
      AffineRead read{piece, runs[i].source, {}};
      for (std::int64_t r = 0; r < runs[i].source.size(); ++r)
        read.rows.push_back({runs[i].source.begin + r, static_cast<std::size_t>(runs[i].target_row - rows.begin + r)});
      reads.push_back(std::move(read));
    }
  }
  return reads;
}

}  // namespace regauge
