#include "convert/route/affine.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/half.h"
#include "convert/route/repeats.h"
#include "convert/route/row_maker.h"
#include "formats/layouts/ggml_blocks.h"
#include "formats/layouts/ggml_k_blocks.h"
#include "ir/decode/dense.h"
#include "ir/decode/tensor.h"

namespace regauge {
namespace {

/// How a block type reads as codes: where its zero point lies, or that it has a bias.
struct BlockReading {
  BlockType type;
  int bits;
  std::int64_t width;  // columns of a group
  bool has_zeros;
  std::uint8_t zero;
};

// Sources: ggml-org/ggml src/ggml-quants.c, the dequantize_row_ functions. Q8_0's signed bytes are read as code - 128.
constexpr std::array<BlockReading, 8> kReadings{{
    {BlockType::q4_0, 4, 32, true, 8},
    {BlockType::q4_1, 4, 32, false, 0},
    {BlockType::q5_0, 5, 32, true, 16},
    {BlockType::q5_1, 5, 32, false, 0},
    {BlockType::q8_0, 8, 32, true, 128},
    {BlockType::q2_0, 2, 64, true, 1},
    {BlockType::q4_K, 4, 32, false, 0},
    {BlockType::q5_K, 5, 32, false, 0},
}};

const BlockReading* reading_of(BlockType type) {
  const auto* found = std::ranges::find(kReadings, type, &BlockReading::type);
  return found == kReadings.end() ? nullptr : found;
}

bool has_sub_blocks(BlockType type) { return type == BlockType::q4_K || type == BlockType::q5_K; }

constexpr std::uint8_t kSignBit = 0x80;

/// Width of groups that are equal runs of columns, 0 when they are not.
std::int64_t contiguous_width(const std::vector<std::int32_t>& groups, std::int64_t count) {
  const auto columns = static_cast<std::int64_t>(groups.size());
  if (count <= 1) return columns;
  std::int64_t width = 0;
  while (width < columns && groups[static_cast<std::size_t>(width)] == groups[0]) ++width;
  for (std::int64_t c = 0; c < columns; ++c) {
    if (groups[static_cast<std::size_t>(c)] != c / width) return 0;
  }
  return width;
}

}  // namespace

std::variant<AffineTensor, std::string> AffineTensor::of(const Tensor& tensor) {
  AffineTensor view;
  view.tensor_ = &tensor;
  view.columns_ = tensor.shape.columns();
  if (const auto* blocked = std::get_if<Blocked>(&tensor.encoding)) {
    const BlockReading* reading = reading_of(blocked->type);
    if (reading == nullptr) return fmt::format("{} is no code times scale plus offset", name(blocked->type));
    view.blocked_ = true;
    view.bits_ = reading->bits;
    view.has_zeros_ = reading->has_zeros;
    view.constant_zero_ = reading->zero;
    view.dtype_ = has_sub_blocks(blocked->type) ? DType::f32 : DType::f16;
    view.width_ = reading->width;
    view.groups_ = view.columns_ / view.width_;
    view.group_of_column_.resize(static_cast<std::size_t>(view.columns_));
    for (std::size_t c = 0; c < view.group_of_column_.size(); ++c)
      view.group_of_column_[c] = static_cast<std::int32_t>(static_cast<std::int64_t>(c) / view.width_);
    return view;
  }
  const auto* grouped = std::get_if<Grouped>(&tensor.encoding);
  if (grouped == nullptr || grouped->code != CodeKind::unsigned_int || grouped->group.rows != 1 ||
      grouped->global_scale || grouped->bits < 1 || grouped->bits > 8) {
    return fmt::format("{} is no integer codes with a scale per group of columns", to_string(tensor.encoding));
  }
  const auto is_parameter = [](DType dtype) {
    return dtype == DType::f16 || dtype == DType::bf16 || dtype == DType::f32;
  };
  const bool biased = grouped->offset == Offset::bias;
  if (!is_parameter(grouped->scale) || (biased && !is_parameter(grouped->offset_dtype))) {
    return fmt::format("scales of {} have no place beside packed codes", name(grouped->scale));
  }
  view.bits_ = grouped->bits;
  view.has_zeros_ = !biased;
  view.dtype_ = biased && grouped->offset_dtype != grouped->scale ? DType::f32 : grouped->scale;
  view.stored_zeros_ = grouped->offset == Offset::zero_point;
  if (grouped->offset == Offset::midpoint) view.constant_zero_ = static_cast<std::uint8_t>(1 << (grouped->bits - 1));
  view.packed_ = tensor.part(PartId::codes).rows->packed();
  view.groups_ = tensor.part(PartId::scales).shape.columns();
  view.group_of_column_ = read_group_index(tensor);
  view.width_ = contiguous_width(view.group_of_column_, view.groups_);
  return view;
}

std::int64_t AffineTensor::preferred_rows() const {
  return blocked_ ? 0 : tensor_->part(PartId::codes).rows->preferred_rows();
}

bool AffineTensor::has_stream() const {
  if (blocked_) return layouts::block_takes_stream(std::get<Blocked>(tensor_->encoding).type);
  return packed_ != nullptr;
}

void AffineTensor::read_parameters(RowRange rows, AffineBand& band, std::vector<std::byte>& raw) const {
  std::size_t each = 1;
  read_distinct(rows, band, raw, each);
}

void AffineTensor::read_distinct(RowRange rows, AffineBand& band, std::vector<std::byte>& raw, std::size_t& run) const {
  if (blocked_) return read_blocks(rows, band, raw, false, run);
  run = 1;
  read_scales(rows, band, raw);
}

void AffineTensor::read(RowRange rows, AffineBand& band, std::vector<std::byte>& raw) const {
  std::size_t each = 1;
  if (blocked_) return read_blocks(rows, band, raw, true, each);
  band.codes.resize(static_cast<std::size_t>(rows.size() * columns_));
  read_aligned(*tensor_->part(PartId::codes).rows, rows, raw, std::as_writable_bytes(std::span(band.codes)));
  read_scales(rows, band, raw);
}

void AffineTensor::read_stream(RowRange rows, AffineBand& band, std::vector<std::byte>& raw,
                               std::span<std::byte> stream) const {
  if (blocked_) {
    std::size_t each = 1;
    read_blocks(rows, band, raw, false, each);
    return layouts::unpack_block_stream(std::get<Blocked>(tensor_->encoding).type, raw, stream);
  }
  packed_->read(rows, stream);
  read_scales(rows, band, raw);
}

void AffineTensor::read_scales(RowRange rows, AffineBand& band, std::vector<std::byte>& raw) const {
  const auto count = static_cast<std::size_t>(rows.size() * groups_);
  // Decoded in place of the values that the stored ones leave at the end of the buffer.
  const auto read_floats = [&](PartId id, std::vector<float>& out) {
    const Part& part = tensor_->part(id);
    out.resize(count);
    const auto bytes = std::as_writable_bytes(std::span(out));
    const std::size_t stored = count * static_cast<std::size_t>(regauge::bits(part.dtype)) / 8;
    const auto tail = bytes.subspan(bytes.size() - stored);
    read_aligned(*part.rows, rows, raw, tail);
    if (part.dtype == DType::f32) return;
    for (std::size_t i = 0; i < count; ++i) {
      const auto pattern = load_le<std::uint16_t>(tail.data() + 2 * i);
      out[i] = part.dtype == DType::f16 ? f16_to_f32(pattern) : bf16_to_f32(pattern);
    }
  };
  read_floats(PartId::scales, band.scales);
  if (!has_zeros_) {
    read_floats(PartId::biases, band.biases);
  } else if (stored_zeros_) {
    band.zeros.resize(count);
    read_aligned(*tensor_->part(PartId::zeros).rows, rows, raw, std::as_writable_bytes(std::span(band.zeros)));
  } else {
    band.zeros.assign(count, constant_zero_);
  }
}

void AffineTensor::read_blocks(RowRange rows, AffineBand& band, std::vector<std::byte>& raw, bool with_codes,
                               std::size_t& run) const {
  const BlockType type = std::get<Blocked>(tensor_->encoding).type;
  const RowSource& source = *tensor_->part(PartId::blocks).rows;
  raw.resize(static_cast<std::size_t>(rows.size()) * source.row_bytes());
  source.read(rows, raw);
  const auto per_row = static_cast<std::size_t>(groups_);
  const auto groups = static_cast<std::size_t>(rows.size()) * per_row;
  if (with_codes || has_sub_blocks(type)) band.codes.resize(static_cast<std::size_t>(rows.size() * columns_));
  if (has_sub_blocks(type)) {
    band.scales.resize(groups);
    band.biases.resize(groups);
    layouts::unpack_k_blocks_row(type, raw, band.codes, band.scales, band.biases);
    run = equal_run<float>(band.biases, per_row, equal_run<float>(band.scales, per_row, run));
    band.scales.resize(keep_first_of_runs<float>(band.scales, per_row, run));
    band.biases.resize(keep_first_of_runs<float>(band.biases, per_row, run));
    return;
  }
  band.patterns.resize(2 * groups);
  const auto d = std::span(band.patterns).first(groups);
  const auto m = std::span(band.patterns).subspan(groups, has_zeros_ ? 0 : groups);
  if (with_codes) {
    layouts::unpack_blocks_row(type, raw, band.codes, d, m);
  } else {
    layouts::unpack_block_scales(type, raw, d, m);
  }
  run = equal_run<std::uint16_t>(m, per_row, equal_run<std::uint16_t>(d, per_row, run));
  const std::size_t kept = keep_first_of_runs(d, per_row, run);
  band.scales.resize(kept);
  for (std::size_t g = 0; g < kept; ++g) band.scales[g] = f16_to_f32(d[g]);
  if (has_zeros_) {
    band.zeros.assign(kept, constant_zero_);
  } else {
    keep_first_of_runs(m, per_row, run);
    band.biases.resize(kept);
    for (std::size_t g = 0; g < kept; ++g) band.biases[g] = f16_to_f32(m[g]);
  }
  if (with_codes && type == BlockType::q8_0) {
    for (std::uint8_t& code : band.codes) code ^= kSignBit;
  }
}

std::variant<std::vector<AffineTensor>, std::string> affine_tensors(std::span<const Tensor* const> tensors) {
  std::vector<AffineTensor> views;
  views.reserve(tensors.size());
  for (const Tensor* tensor : tensors) {
    auto view = AffineTensor::of(*tensor);
    if (auto* reason = std::get_if<std::string>(&view)) return std::move(*reason);
    views.push_back(std::move(std::get<AffineTensor>(view)));
  }
  return views;
}

}  // namespace regauge
