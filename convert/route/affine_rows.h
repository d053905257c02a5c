#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "convert/route/affine_facts.h"
#include "convert/route/row_maker.h"

namespace regauge {

/// One target row of codes with its groups: codes in target column order, parameters by source group.
struct AffineRow {
  std::span<const std::uint8_t> codes;   ///< of all target columns; empty where they go as streams
  std::span<const float> scales;         ///< by source group
  std::span<const std::uint8_t> zeros;   ///< by source group, else empty
  std::span<const float> biases;         ///< by source group, else empty
  std::span<const std::int32_t> groups;  ///< source group of each target group
  std::int64_t middle = 0;               ///< middle of the source's code range

  float scale(std::size_t group) const { return scales[static_cast<std::size_t>(groups[group])]; }
  /// The zero point as a whole number: given, or the nearest to -bias / scale.
  std::int64_t zero(std::size_t group) const {
    const auto g = static_cast<std::size_t>(groups[group]);
    return zeros.empty() ? whole_zero(scales[g], biases[g], middle).value : zeros[g];
  }
  /// The bias as a number: given, or -zero * scale.
  float bias(std::size_t group) const {
    const auto g = static_cast<std::size_t>(groups[group]);
    return zeros.empty() ? biases[g] : -(scales[g] * static_cast<float>(zeros[g]));
  }
};

enum class Codes : std::uint8_t { read, streamed };

/// Row `r` of what scratch.affine holds of a piece, with or without its codes.
AffineRow affine_row(const AffineSource& source, const GroupMap& groups, std::size_t piece, std::size_t r,
                     Scratch& scratch, Codes codes = Codes::read);

/// Whether the codes of a target can go from bit stream to bit stream: all pieces have streams of `bits`, columns that change
/// places do so in whole bytes, and target rows come in long runs.
bool has_streams(const AffineSource& source, int bits);

/// Source rows [rows) of a piece as AffineTensor::read_stream() gives them, in the target's column order.
void read_streamed_run(const AffineSource& source, std::size_t piece, RowRange rows, Scratch& scratch,
                       std::span<std::byte> stream);

/// |scale| at every value of the target rows [rows): what RowMaker::steps() gives.
void affine_steps(const AffineSource& source, RowRange rows, Scratch& scratch, std::span<float> out);

/// A row to be taken from a band of source rows.
struct WantedRow {
  std::int64_t source = 0;
  std::size_t at = 0;  ///< in the target band
};

/// Runs of source rows as they are best read: those of the target band as they come, or, where the target scatters single
/// rows of a source that is only cheap in wide bands, whole bands with the rows that are wanted of each.
struct AffineRead {
  std::size_t piece = 0;
  RowRange source;
  std::vector<WantedRow> rows;
};
std::vector<AffineRead> affine_reads(const AffineSource& source, RowRange rows);

/// Calls visit(row, index within [rows)) for each of the target rows [rows), in the order in which they are read.
template <typename Visit>
void for_each_affine_row(const AffineSource& source, const GroupMap& groups, RowRange rows, Scratch& scratch,
                         Visit visit) {
  for (const AffineRead& read : affine_reads(source, rows)) {
    source.tensors()[read.piece].read(read.source, scratch.affine, scratch.raw);
    for (const WantedRow& wanted : read.rows)
      visit(
          affine_row(source, groups, read.piece, static_cast<std::size_t>(wanted.source - read.source.begin), scratch),
          wanted.at);
  }
}

/// The same where has_streams(): take(index of the first, how many) gives the bytes that the codes of a run go to, and
/// visit() gets rows without codes once they are there.
template <typename Take, typename Visit>
void for_each_streamed_row(const AffineSource& source, const GroupMap& groups, RowRange rows, Scratch& scratch,
                           Take take, Visit visit) {
  for (const RowRun& run : row_runs(source.target(), rows)) {
    const auto piece = static_cast<std::size_t>(run.piece - source.target().pieces.data());
    const auto first = static_cast<std::size_t>(run.target_row - rows.begin);
    const auto count = static_cast<std::size_t>(run.source.size());
    read_streamed_run(source, piece, run.source, scratch, take(first, count));
    for (std::size_t r = 0; r < count; ++r)
      visit(affine_row(source, groups, piece, r, scratch, Codes::streamed), first + r);
  }
}

}  // namespace regauge
