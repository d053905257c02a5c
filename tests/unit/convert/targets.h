#pragma once

#include "convert/adapt.h"
#include "convert/route/row_maker.h"

namespace regauge::testing {

/// A target of one piece: the whole of `tensor` through `view`.
inline Target whole(const Tensor& tensor, View view = {}) {
  Target target = as_it_is(tensor);
  target.pieces.front().view = std::move(view);
  return target;
}

/// All rows of a target, made in bands of `height`.
inline std::vector<std::byte> make_all(const RowMaker& maker, const Target& target, std::size_t row_bytes,
                                       std::int64_t height, Loss& loss) {
  std::vector<std::byte> out(static_cast<std::size_t>(target.rows) * row_bytes);
  Scratch scratch;
  for (std::int64_t row = 0; row < target.rows; row += height) {
    const RowRange band{row, std::min(target.rows, row + height)};
    const auto bytes = std::span(out).subspan(static_cast<std::size_t>(row) * row_bytes,
                                              static_cast<std::size_t>(band.size()) * row_bytes);
    maker.make(band, std::span(&bytes, 1), scratch, loss);
  }
  return out;
}

/// `values` of a [rows, columns] matrix seen through the row and column maps of `view`.
inline std::vector<float> seen_through(const View& view, std::span<const float> values, std::int64_t rows,
                                       std::int64_t columns) {
  std::vector<float> out;
  for (std::int64_t r = 0; r < (view.rows ? view.rows->size() : rows); ++r) {
    for (std::int64_t c = 0; c < (view.columns ? view.columns->size() : columns); ++c) {
      const std::int64_t from = (view.rows ? (*view.rows)[r] : r) * columns + (view.columns ? (*view.columns)[c] : c);
      out.push_back(apply(view.elementwise, values[static_cast<std::size_t>(from)]));
    }
  }
  return out;
}

}  // namespace regauge::testing
