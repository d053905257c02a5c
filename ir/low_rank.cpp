#include "ir/low_rank.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "base/error.h"

namespace regauge {
namespace {

std::size_t bytes_of(std::int64_t rows, std::size_t row_bytes) { return static_cast<std::size_t>(rows) * row_bytes; }

std::size_t row_bytes_of(const RowSource& source, const View& order, std::size_t element_bytes) {
  return order.columns ? static_cast<std::size_t>(order.columns->size()) * element_bytes : source.row_bytes();
}

}  // namespace

LowRankGroups low_rank_groups(const Tensor& tensor) {
  const Shape& a = tensor.part(PartId::lowrank_a).shape;
  const Shape& b = tensor.part(PartId::lowrank_b).shape;
  LowRankGroups groups;
  if (a.rank() == 3) groups.groups = a.dims[0];
  groups.rank = a.rank() < 2 ? 0 : a.dims[a.rank() - 2];
  const std::int64_t rows = tensor.shape.rows();
  if (groups.groups < 1 || groups.rank < 1 || rows % groups.groups != 0 || b.rows() != rows ||
      b.columns() != groups.rank || a.columns() != tensor.shape.columns()) {
    throw Error(ErrorCode::internal, "factors {} and {} of a weight of {}", to_string(a), to_string(b),
                to_string(tensor.shape))
        .tensor(tensor.name);
  }
  groups.rows = rows / groups.groups;
  return groups;
}

std::vector<std::int64_t> low_rank_ranks(const Tensor& tensor) {
  const auto* stack = dynamic_cast<const StackedRows*>(tensor.part(PartId::lowrank_a).rows.get());
  if (stack != nullptr) return stack->ranks();
  const LowRankGroups groups = low_rank_groups(tensor);
  return std::vector<std::int64_t>(static_cast<std::size_t>(groups.groups), groups.rank);
}

ReorderedRows::ReorderedRows(RowSourcePtr source, View order, std::size_t element_bytes)
    : RowSource(order.rows ? order.rows->size() : source->rows(), row_bytes_of(*source, order, element_bytes)),
      source_(std::move(source)),
      order_(std::move(order)),
      element_bytes_(element_bytes) {
  if (source_->row_quantum() != 1) throw Error(ErrorCode::internal, "rows that come in words have no order");
  if (order_.elementwise != Elementwise::none) throw Error(ErrorCode::internal, "an order changes no values");
}

void ReorderedRows::read_rows(RowRange range, std::span<std::byte> out) const {
  const AxisMap rows = (order_.rows ? *order_.rows : AxisMap::identity(this->rows())).slice(range.begin, range.size());
  std::vector<std::byte> whole;
  std::size_t at = 0;
  for (const AxisMap::Run& run : rows.runs()) {
    const auto to = out.subspan(at, bytes_of(run.length, row_bytes()));
    if (order_.columns) {
      whole.resize(bytes_of(run.length, source_->row_bytes()));
      source_->read({run.begin, run.begin + run.length}, whole);
      take_columns(whole, to);
    } else {
      source_->read({run.begin, run.begin + run.length}, to);
    }
    at += to.size();
  }
}

void ReorderedRows::take_columns(std::span<const std::byte> from, std::span<std::byte> to) const {
  const std::size_t source_bytes = source_->row_bytes();
  std::size_t at = 0;
  for (std::size_t row = 0; row < from.size(); row += source_bytes) {
    for (const AxisMap::Run& run : order_.columns->runs()) {
      const std::size_t bytes = bytes_of(run.length, element_bytes_);
      std::memcpy(to.data() + at, from.data() + row + bytes_of(run.begin, element_bytes_), bytes);
      at += bytes;
    }
  }
}

StackedRows::StackedRows(std::vector<RowSourcePtr> blocks, std::int64_t block_rows, std::size_t row_bytes,
                         std::vector<std::int64_t> ranks)
    : RowSource(static_cast<std::int64_t>(blocks.size()) * block_rows, row_bytes),
      blocks_(std::move(blocks)),
      block_rows_(block_rows),
      ranks_(std::move(ranks)) {
  const bool fits = std::ranges::all_of(blocks_, [&](const RowSourcePtr& block) {
    return block == nullptr ||
           (block->rows() <= block_rows && block->row_bytes() <= row_bytes && block->row_quantum() == 1);
  });
  if (block_rows < 1 || !fits || ranks_.size() != blocks_.size())
    throw Error(ErrorCode::internal, "{} blocks of {} rows do not make a stack", blocks_.size(), block_rows);
}

void StackedRows::read_rows(RowRange range, std::span<std::byte> out) const {
  for (std::int64_t row = range.begin; row < range.end;) {
    const std::int64_t block = row / block_rows_;
    const std::int64_t end = std::min(range.end, (block + 1) * block_rows_);
    read_block(static_cast<std::size_t>(block), {row - block * block_rows_, end - block * block_rows_},
               out.subspan(bytes_of(row - range.begin, row_bytes()), bytes_of(end - row, row_bytes())));
    row = end;
  }
}

void StackedRows::read_block(std::size_t block, RowRange range, std::span<std::byte> out) const {
  std::ranges::fill(out, std::byte{0});
  const RowSource* source = blocks_[block].get();
  if (source == nullptr || range.begin >= source->rows()) return;
  const RowRange held{range.begin, std::min(range.end, source->rows())};
  if (source->row_bytes() == row_bytes()) {
    source->read(held, out.first(bytes_of(held.size(), row_bytes())));
    return;
  }
  std::vector<std::byte> narrow(bytes_of(held.size(), source->row_bytes()));
  source->read(held, narrow);
  for (std::size_t row = 0; row < static_cast<std::size_t>(held.size()); ++row) {
    std::memcpy(out.data() + row * row_bytes(), narrow.data() + row * source->row_bytes(), source->row_bytes());
  }
}

FactorPair cut_factors(const Part& a, RowRange a_rows, const Part& b, RowRange b_rows, std::int64_t rank) {
  FactorPair pair;
  pair.rank = rank;
  if (rank == 0) return pair;
  const auto slice = [](const RowSourcePtr& rows, RowRange range) -> RowSourcePtr {
    if (range == RowRange{0, rows->rows()}) return rows;
    return std::make_shared<SliceRows>(rows, range);
  };
  pair.a = slice(a.rows, {a_rows.begin, a_rows.begin + rank});
  pair.b = slice(b.rows, b_rows);
  if (b.shape.columns() != rank) {
    View first;
    first.columns = AxisMap::identity(rank);
    pair.b = std::make_shared<ReorderedRows>(pair.b, first, static_cast<std::size_t>(bits(b.dtype)) / 8);
  }
  return pair;
}

void add_factors(Tensor& tensor, DType a_dtype, DType b_dtype, std::span<const FactorPair> weights) {
  const auto count = static_cast<std::int64_t>(weights.size());
  const std::int64_t columns = tensor.shape.columns();
  const std::int64_t rank = count == 0 ? 0 : std::ranges::max_element(weights, {}, &FactorPair::rank)->rank;
  if (rank < 1 || tensor.shape.rows() % count != 0)
    throw Error(ErrorCode::internal, "factors of {} weights, rank {}", count, rank).tensor(tensor.name);
  if (count == 1) {
    tensor.parts.push_back({PartId::lowrank_a, a_dtype, {rank, columns}, weights.front().a});
    tensor.parts.push_back({PartId::lowrank_b, b_dtype, {tensor.shape.rows(), rank}, weights.front().b});
    return;
  }
  std::vector<RowSourcePtr> a;
  std::vector<RowSourcePtr> b;
  std::vector<std::int64_t> ranks;
  for (const FactorPair& weight : weights) {
    a.push_back(weight.a);
    b.push_back(weight.b);
    ranks.push_back(weight.rank);
  }
  const auto bytes = [](DType dtype, std::int64_t elements) {
    return static_cast<std::size_t>(elements * bits(dtype)) / 8;
  };
  tensor.parts.push_back({PartId::lowrank_a,
                          a_dtype,
                          {count, rank, columns},
                          std::make_shared<StackedRows>(std::move(a), rank, bytes(a_dtype, columns), ranks)});
  tensor.parts.push_back(
      {PartId::lowrank_b,
       b_dtype,
       {tensor.shape.rows(), rank},
       std::make_shared<StackedRows>(std::move(b), tensor.shape.rows() / count, bytes(b_dtype, rank), ranks)});
}

}  // namespace regauge
