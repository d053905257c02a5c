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
  std::span<const std::uint8_t> codes;   ///< of all target columns; empty where they go packed
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

enum class Codes : std::uint8_t { read, packed };

/// Row `r` of what scratch.affine holds of a piece, with or without its codes.
AffineRow affine_row(const AffineSource& source, const GroupMap& groups, std::size_t piece, std::size_t r,
                     Scratch& scratch, Codes codes = Codes::read);

/// The rows of each piece as bit streams of codes of `bits`, where all pieces have them, none has another column order and
/// target rows come in long runs; else empty.
std::vector<RowSourcePtr> packed_pieces(const AffineSource& source, int bits);

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

/// The same for codes that go from bit stream to bit stream, of packed_pieces(): take(packed rows, source rows, index of the
/// first) for each run of rows, and visit() gets rows without codes.
template <typename Take, typename Visit>
void for_each_packed_row(const AffineSource& source, std::span<const RowSourcePtr> packed, const GroupMap& groups,
                         RowRange rows, Scratch& scratch, Take take, Visit visit) {
  for (const RowRun& run : row_runs(source.target(), rows)) {
    const auto piece = static_cast<std::size_t>(run.piece - source.target().pieces.data());
    const auto first = static_cast<std::size_t>(run.target_row - rows.begin);
    take(*packed[piece], run.source, first);
    source.tensors()[piece].read_parameters(run.source, scratch.affine, scratch.raw);
    for (std::size_t r = 0; r < static_cast<std::size_t>(run.source.size()); ++r)
      visit(affine_row(source, groups, piece, r, scratch, Codes::packed), first + r);
  }
}

}  // namespace regauge
