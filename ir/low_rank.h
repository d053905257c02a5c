#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ir/rows.h"
#include "ir/tensor.h"
#include "ir/view.h"

namespace regauge {

/// How the low-rank factors of a tensor are cut. A stack of experts has factors for each of its weights: part lowrank_a is
/// [groups, rank, K] then and group g, which is rows [g * rows, (g + 1) * rows) of the weight, is corrected by B's rows of
/// the same numbers and the g-th block of A. Other tensors are one group, and their part lowrank_a is [rank, K].
struct LowRankGroups {
  std::int64_t groups = 1;
  std::int64_t rank = 0;  ///< as stored, of every group: what has less is filled up with zeros
  std::int64_t rows = 0;  ///< of the weight, in a group

  bool operator==(const LowRankGroups&) const = default;
};

/// Of a tensor that has factors. Throws Error{internal} when its parts do not go together.
LowRankGroups low_rank_groups(const Tensor& tensor);

/// The rank of every group before it was filled up to that of the stack, 0 where a group has no factors at all. The stored
/// rank for all of them where nobody knows better.
std::vector<std::int64_t> low_rank_ranks(const Tensor& tensor);

/// Rows and columns of another source in another order, or some of them. A band of rows is one read for each run of
/// neighbours.
class ReorderedRows final : public RowSource {
 public:
  /// `order` changes no values; its columns count elements of `element_bytes`. Throws Error{internal} for a source whose
  /// rows come in words.
  ReorderedRows(RowSourcePtr source, View order, std::size_t element_bytes);

  std::int64_t preferred_rows() const noexcept override { return source_->preferred_rows(); }

 private:
  void read_rows(RowRange range, std::span<std::byte> out) const override;
  void take_columns(std::span<const std::byte> from, std::span<std::byte> to) const;

  RowSourcePtr source_;
  View order_;
  std::size_t element_bytes_;
};

/// Blocks of rows below each other, each the upper left corner of its place and the rest of it zeros: the factors of
/// stacked weights, filled up to one rank.
class StackedRows final : public RowSource {
 public:
  /// Every block has `block_rows` rows of `row_bytes`; its source may be smaller both ways, or null for nothing but zeros.
  /// `ranks` are what low_rank_ranks() answers for a tensor with this source. Throws Error{internal} when they do not go
  /// together.
  StackedRows(std::vector<RowSourcePtr> blocks, std::int64_t block_rows, std::size_t row_bytes,
              std::vector<std::int64_t> ranks);

  const std::vector<std::int64_t>& ranks() const noexcept { return ranks_; }

 private:
  void read_rows(RowRange range, std::span<std::byte> out) const override;
  void read_block(std::size_t block, RowRange range, std::span<std::byte> out) const;

  std::vector<RowSourcePtr> blocks_;
  std::int64_t block_rows_;
  std::vector<std::int64_t> ranks_;
};

/// The factors of one weight of a stack: A of `rank` rows and B of `rank` columns. Null where it has none.
struct FactorPair {
  RowSourcePtr a;
  RowSourcePtr b;
  std::int64_t rank = 0;
};

/// The first `rank` components of factors that are stored with more, which are known to be filling: rows of A in `a_rows`,
/// rows of B in `b_rows`.
FactorPair cut_factors(const Part& a, RowRange a_rows, const Part& b, RowRange b_rows, std::int64_t rank);

/// Gives `tensor` the parts lowrank_a and lowrank_b made of the factors of its weights, which are equal runs of its rows,
/// filled up to the largest rank among them. Throws Error{internal} when all are null or the sizes do not go together.
void add_factors(Tensor& tensor, DType a_dtype, DType b_dtype, std::span<const FactorPair> weights);

}  // namespace regauge
