#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "formats/format.h"
#include "tests/support/builders.h"
#include "tests/support/golden.h"

namespace regauge::testing {

/// All bytes of a part, read in bands of `band_rows` rows (0: all at once).
inline Bytes read_part(const Part& part, std::int64_t band_rows = 0) {
  const RowSource& rows = *part.rows;
  const std::int64_t step = band_rows > 0 ? band_rows : std::max<std::int64_t>(rows.rows(), 1);
  Bytes out(static_cast<std::size_t>(rows.rows()) * rows.row_bytes());
  for (std::int64_t begin = 0; begin < rows.rows(); begin += step) {
    const RowRange range{begin, std::min(begin + step, rows.rows())};
    rows.read(range, std::span(out).subspan(static_cast<std::size_t>(begin) * rows.row_bytes(),
                                            static_cast<std::size_t>(range.size()) * rows.row_bytes()));
  }
  return out;
}

inline std::vector<ArrayPlan> plans_of(const Checkpoint& checkpoint) {
  std::vector<ArrayPlan> plans;
  for (const StoredArray& array : checkpoint.arrays) {
    ArrayPlan plan;
    plan.name = array.name;
    plan.shape = array.shape;
    if (const auto* block = std::get_if<BlockType>(&array.element)) {
      plan.element = *block;
    } else {
      plan.element = std::get<DType>(array.element);
    }
    plans.push_back(std::move(plan));
  }
  return plans;
}

/// Gives a writer the arrays of a checkpoint whose tensors are its arrays, last array first and each from its end in pieces
/// of an odd size.
inline void fill(Writer& writer, const Checkpoint& checkpoint, const Metadata& metadata) {
  const auto plans = plans_of(checkpoint);
  writer.begin(metadata, plans);
  constexpr std::size_t kPiece = 4099;
  for (std::size_t i = plans.size(); i-- > 0;) {
    const Bytes bytes = read_part(checkpoint.tensors.at(i).parts.at(0), 7);
    for (std::size_t end = bytes.size(); end > 0;) {
      const std::size_t begin = end > kPiece ? end - kPiece : 0;
      writer.put(i, begin, std::span(bytes).subspan(begin, end - begin));
      end = begin;
    }
  }
}

/// Writes such a checkpoint once more into one file, and returns its bytes.
inline Bytes rewrite(const Checkpoint& checkpoint, const Format& format, const std::filesystem::path& target) {
  const std::unique_ptr<Writer> writer = format.create(target, {});
  fill(*writer, checkpoint, checkpoint.metadata);
  const std::uint64_t promised = writer->file_bytes();
  writer->finish();
  EXPECT_EQ(std::filesystem::file_size(target), promised);
  return read_whole_file(target);
}

/// Whether a finding of this code is there.
inline bool has_finding(const Checkpoint& checkpoint, std::string_view code) {
  return std::ranges::find(checkpoint.findings, code, &Finding::code) != checkpoint.findings.end();
}

}  // namespace regauge::testing
