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
  std::span<const std::uint8_t> codes;   ///< of all target columns
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

/// Calls visit(row, index within [rows)) for target rows [rows), in runs as the source stores them.
template <typename Visit>
void for_each_affine_row(const AffineSource& source, const GroupMap& groups, RowRange rows, Scratch& scratch,
                         Visit visit) {
  const Target& target = source.target();
  for (const RowRun& run : row_runs(target, rows)) {
    const auto piece = static_cast<std::size_t>(run.piece - target.pieces.data());
    const AffineTensor& tensor = source.tensors()[piece];
    tensor.read(run.source, scratch.affine, scratch.raw);
    const auto map = source_columns(*run.piece);
    const auto width = static_cast<std::size_t>(tensor.columns());
    const auto per_row = static_cast<std::size_t>(tensor.groups());
    for (std::size_t r = 0; r < static_cast<std::size_t>(run.source.size()); ++r) {
      AffineRow row;
      row.codes = std::span<const std::uint8_t>(scratch.affine.codes).subspan(r * width, width);
      if (map) {
        scratch.row_codes.resize(static_cast<std::size_t>(map->size()));
        auto to = scratch.row_codes.begin();
        for (const AxisMap::Run& part : map->runs()) to = std::copy_n(row.codes.begin() + part.begin, part.length, to);
        row.codes = scratch.row_codes;
      }
      row.scales = std::span<const float>(scratch.affine.scales).subspan(r * per_row, per_row);
      if (tensor.has_zeros()) {
        row.zeros = std::span<const std::uint8_t>(scratch.affine.zeros).subspan(r * per_row, per_row);
      } else {
        row.biases = std::span<const float>(scratch.affine.biases).subspan(r * per_row, per_row);
      }
      row.groups = groups.source_group[piece];
      row.middle = std::int64_t{1} << (tensor.bits() - 1);
      visit(row, static_cast<std::size_t>(run.target_row - rows.begin) + r);
    }
  }
}

}  // namespace regauge
