#include "ir/decode/tensor.h"

#include <algorithm>
#include <numeric>
#include <variant>

#include "base/bytes.h"
#include "base/error.h"
#include "ir/decode/blocks.h"
#include "ir/decode/dense.h"
#include "ir/decode/grouped.h"
#include "ir/decode/low_rank.h"

namespace regauge {
namespace {

const Grouped& grouped(const Tensor& tensor) {
  const auto* encoding = std::get_if<Grouped>(&tensor.encoding);
  if (encoding == nullptr)
    throw Error(ErrorCode::internal, "a tensor without groups was asked for them").tensor(tensor.name);
  return *encoding;
}

std::int64_t contiguous_group(const Grouped& encoding, std::int64_t column) {
  return encoding.group.cols == 0 ? 0 : column / encoding.group.cols;
}

void require_decodable(const Tensor& tensor) {
  if (const auto* codes = std::get_if<Grouped>(&tensor.encoding)) {
    if (const auto reason = why_not_decodable(*codes)) {
      throw Error(ErrorCode::unsupported, "{}: {}", to_string(tensor.encoding), *reason).tensor(tensor.name);
    }
  } else if (!is_decodable(tensor.encoding)) {
    throw Error(ErrorCode::unsupported, "no values can be made of {}", to_string(tensor.encoding)).tensor(tensor.name);
  }
}

/// All of a small part, decoded.
std::vector<float> read_dense(const Part& part) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(part.rows->rows()) * part.rows->row_bytes());
  part.rows->read({0, part.rows->rows()}, bytes);
  std::vector<float> values(static_cast<std::size_t>(part.shape.elements()));
  decode_dense(part.dtype, bytes, values);
  return values;
}

}  // namespace

std::vector<std::int32_t> read_group_index(const Tensor& tensor) {
  const Grouped& encoding = grouped(tensor);
  const std::int64_t groups = tensor.part(PartId::scales).shape.columns();
  std::vector<std::int32_t> index(static_cast<std::size_t>(tensor.shape.columns()));
  if (const Part* part = tensor.find(PartId::group_index)) {
    part->rows->read({0, 1}, std::as_writable_bytes(std::span(index)));
    for (std::int32_t& group : index) {
      if (group < 0 && group >= -groups) group = static_cast<std::int32_t>(group + groups);
    }
  } else {
    for (std::size_t k = 0; k < index.size(); ++k) {
      index[k] = static_cast<std::int32_t>(contiguous_group(encoding, static_cast<std::int64_t>(k)));
    }
  }
  const auto wrong = std::ranges::find_if(index, [&](std::int32_t group) { return group < 0 || group >= groups; });
  if (wrong != index.end()) {
    throw Error(ErrorCode::malformed, "column {} names group {}, but there are {}", wrong - index.begin(), *wrong,
                groups)
        .tensor(tensor.name);
  }
  return index;
}

bool group_index_is_trivial(const Tensor& tensor) {
  const Grouped& encoding = grouped(tensor);
  if (tensor.find(PartId::group_index) == nullptr) return true;
  const auto index = read_group_index(tensor);
  for (std::size_t k = 0; k < index.size(); ++k) {
    if (index[k] != contiguous_group(encoding, static_cast<std::int64_t>(k))) return false;
  }
  return true;
}

TensorDecoder::TensorDecoder(const Tensor& tensor, DecodeOptions options)
    : tensor_(&tensor), columns_(tensor.shape.columns()), row_quantum_(tensor.row_quantum()) {
  require_decodable(tensor);
  if (const auto* encoding = std::get_if<Grouped>(&tensor.encoding)) {
    row_quantum_ = std::lcm(row_quantum_, encoding->group.rows);
    group_of_column_ = read_group_index(tensor);
    if (encoding->global_scale) global_scale_ = read_dense(tensor.part(PartId::global_scale)).at(0);
  }
  if (options.with_low_rank && tensor.has_low_rank()) {
    low_rank_ = low_rank_groups(tensor);
    sums_.resize(static_cast<std::size_t>(columns_));
  }
}

std::span<const std::byte> TensorDecoder::read(PartId id, RowRange range, std::vector<std::byte>& buffer) const {
  const RowSource& rows = *tensor_->part(id).rows;
  buffer.resize(static_cast<std::size_t>(range.size()) * rows.row_bytes());
  rows.read(range, buffer);
  return buffer;
}

void TensorDecoder::decode(RowRange range, std::span<float> out) {
  if (range.size() < 0 || range.begin % row_quantum_ != 0 ||
      out.size() != static_cast<std::size_t>(range.size()) * static_cast<std::size_t>(columns_)) {
    throw Error(ErrorCode::internal, "rows [{}, {}) of {} columns, quantum {}, decoded into {} floats", range.begin,
                range.end, columns_, row_quantum_, out.size())
        .tensor(tensor_->name);
  }
  if (const auto* encoding = std::get_if<Grouped>(&tensor_->encoding)) {
    decode_codes(*encoding, range, out);
  } else if (const auto* dense = std::get_if<Dense>(&tensor_->encoding)) {
    decode_dense(dense->dtype, read(PartId::values, range, main_), out);
  } else {
    decode_blocks(std::get<Blocked>(tensor_->encoding).type, read(PartId::blocks, range, main_), out);
  }
  if (low_rank_) add_factors(range, out);
}

void TensorDecoder::decode_codes(const Grouped& encoding, RowRange range, std::span<float> out) {
  const auto codes = read(PartId::codes, range, main_);
  const std::int64_t tall = encoding.group.rows;
  const RowRange scale_rows{range.begin / tall, (range.end + tall - 1) / tall};
  GroupedBand band{.codes = {reinterpret_cast<const std::uint8_t*>(codes.data()), codes.size()},
                   .scales = read(PartId::scales, scale_rows, scales_),
                   .offsets = {},
                   .group_of_column = group_of_column_,
                   .global_scale = global_scale_};
  if (encoding.offset == Offset::zero_point) band.offsets = read(PartId::zeros, scale_rows, offsets_);
  if (encoding.offset == Offset::bias) band.offsets = read(PartId::biases, scale_rows, offsets_);
  decode_grouped(encoding, range.size(), columns_, band, out);
}

void TensorDecoder::add_factors(RowRange range, std::span<float> out) {
  const std::int64_t height = low_rank_->rows;
  for (std::int64_t row = range.begin; row < range.end;) {
    const std::int64_t group = row / height;
    const std::int64_t end = std::min(range.end, (group + 1) * height);
    const auto first = static_cast<std::size_t>((row - range.begin) * columns_);
    add_group(group, {row, end}, out.subspan(first, static_cast<std::size_t>((end - row) * columns_)));
    row = end;
  }
}

void TensorDecoder::add_group(std::int64_t group, RowRange range, std::span<float> out) {
  const std::int64_t rank = low_rank_->rank;
  if (group != group_of_a_) {
    const auto bytes = read(PartId::lowrank_a, {group * rank, (group + 1) * rank}, factor_bytes_);
    factor_a_.resize(static_cast<std::size_t>(rank * columns_));
    decode_dense(tensor_->part(PartId::lowrank_a).dtype, bytes, factor_a_);
    group_of_a_ = group;
  }
  const auto bytes = read(PartId::lowrank_b, range, factor_bytes_);
  factor_b_.resize(static_cast<std::size_t>(range.size() * rank));
  decode_dense(tensor_->part(PartId::lowrank_b).dtype, bytes, factor_b_);
  add_low_rank(range.size(), rank, columns_, factor_b_, factor_a_, sums_, out);
}

}  // namespace regauge
