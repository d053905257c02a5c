#include "convert/route/gptq_packer.h"

#include <algorithm>
#include <optional>

#include "ir/decode/grouped.h"
#include "ir/transposed_rows.h"

namespace regauge {
namespace {

bool is_marlin(GptqLayout layout) { return layout == GptqLayout::marlin || layout == GptqLayout::marlin_runtime; }

layouts::GptqLayout words_of(const GptqRepack& module) {
  const bool planar = module.layout == GptqLayout::planar;
  return {module.bits, planar ? layouts::GptqPacking::planar : layouts::GptqPacking::continuous};
}

layouts::ZeroConvention zeros_of(const GptqRepack& module) {
  return module.layout == GptqLayout::v1 ? layouts::ZeroConvention::v1 : layouts::ZeroConvention::v2;
}

/// [n, groups] to [groups, n].
template <typename T>
void transpose_into(std::int64_t rows, std::int64_t columns, std::span<const T> from, std::span<std::byte> to) {
  transpose(rows, columns, sizeof(T), std::as_bytes(from), to);
}

/// [n, stored rows] to the columns of the band's [stored rows, rows] that the tile is.
void turn_tile(RowRange rows, RowRange tile, std::int64_t stored_rows, std::size_t element_bytes,
               std::span<const std::byte> from, std::span<std::byte> band) {
  transpose(tile.size(), stored_rows, element_bytes, from,
            band.subspan(static_cast<std::size_t>(tile.begin - rows.begin) * element_bytes),
            static_cast<std::size_t>(rows.size()) * element_bytes);
}

}  // namespace

GptqPacker::GptqPacker(GptqRepack module, std::int64_t columns) : module_(std::move(module)), columns_(columns) {
  groups_ = static_cast<std::int64_t>(module_.groups.source_group.front().size());
  if (module_.layout == GptqLayout::marlin_runtime && module_.act_order) sort_ = layouts::act_order_sort(module_.index);
  order_ = groups_ == 1 ? layouts::MarlinScaleOrder::single : layouts::MarlinScaleOrder::grouped;
}

void GptqPacker::pack(RowRange rows, BandBuffers out, Scratch& scratch) const {
  if (is_marlin(module_.layout)) {
    pack_marlin(rows, out, scratch);
  } else {
    pack_words(rows, out, scratch);
  }
}

bool GptqPacker::takes_stream() const {
  return !is_marlin(module_.layout) && words_of(module_).packing == layouts::GptqPacking::continuous &&
         module_.code_shift == 0;
}

void GptqPacker::pack_stream(RowRange rows, RowRange tile, BandBuffers out, Scratch& scratch,
                             std::span<const std::byte> stream) const {
  turn_tile(rows, tile, columns_ / 32 * module_.bits, sizeof(std::uint32_t), stream, out[0]);
  pack_parameters(rows, tile, out, scratch);
}

void GptqPacker::decode(RowRange rows, StoredBuffers stored, Scratch& scratch, std::span<float> out) const {
  const std::int64_t n = rows.size();
  scratch.block_codes.resize(static_cast<std::size_t>(n * columns_));
  std::vector<std::byte> scales(static_cast<std::size_t>(n * groups_) * 2);
  std::vector<std::byte> zeros;
  Grouped encoding{.bits = module_.bits,
                   .group = {1, module_.groups.width},
                   .scale = module_.scale,
                   .offset = Offset::midpoint,
                   .offset_dtype = DType::u8,
                   .indexed = module_.act_order};
  if (is_marlin(module_.layout)) {
    unpack_marlin(n, stored, scratch, scales);
  } else {
    encoding.offset = Offset::zero_point;
    layouts::unpack_gptq_columns(words_of(module_), n, columns_, stored[0], scratch.block_codes);
    scratch.zeros.resize(static_cast<std::size_t>(n * groups_));
    layouts::unpack_gptq_zeros(words_of(module_), zeros_of(module_), stored[1], scratch.zeros);
    zeros.resize(scratch.zeros.size());
    transpose_into<std::uint8_t>(groups_, n, scratch.zeros, zeros);
    transpose(groups_, n, 2, stored[2], scales);
  }
  decode_grouped(encoding, n, columns_,
                 {.codes = scratch.block_codes,
                  .scales = scales,
                  .offsets = zeros,
                  .group_of_column = module_.index,
                  .global_scale = std::nullopt},
                 out);
}

void GptqPacker::pack_words(RowRange rows, BandBuffers out, Scratch& scratch) const {
  layouts::pack_gptq_columns(words_of(module_), rows.size(), columns_, scratch.block_codes, out[0]);
  pack_parameters(rows, rows, out, scratch);
}

void GptqPacker::pack_parameters(RowRange rows, RowRange tile, BandBuffers out, Scratch& scratch) const {
  scratch.row_codes.resize(scratch.zeros.size());
  transpose_into<std::uint8_t>(tile.size(), groups_, scratch.zeros,
                               std::as_writable_bytes(std::span(scratch.row_codes)));
  const auto bytes_of = [&](std::int64_t n) { return static_cast<std::size_t>(n * module_.bits / 8); };
  const auto count = static_cast<std::size_t>(tile.size());
  for (std::int64_t g = 0; g < groups_; ++g) {
    const auto stored = static_cast<std::size_t>(g);
    layouts::pack_gptq_zeros(
        words_of(module_), zeros_of(module_), std::span(scratch.row_codes).subspan(stored * count, count),
        out[1].subspan(stored * bytes_of(rows.size()) + bytes_of(tile.begin - rows.begin), bytes_of(tile.size())));
  }
  turn_tile(rows, tile, groups_, sizeof(std::uint16_t), std::as_bytes(std::span(scratch.d_bits)), out[2]);
  if (!out[3].empty()) std::ranges::copy(std::as_bytes(std::span(module_.index)), out[3].begin());
}

void GptqPacker::pack_marlin(RowRange rows, BandBuffers out, Scratch& scratch) const {
  if (!sort_.empty()) {
    const auto columns = static_cast<std::size_t>(columns_);
    scratch.row_codes.resize(columns);
    for (std::size_t at = 0; at < scratch.block_codes.size(); at += columns) {
      const auto row = std::span(scratch.block_codes).subspan(at, columns);
      layouts::sort_columns(sort_, row, scratch.row_codes);
      std::ranges::copy(scratch.row_codes, row.begin());
    }
  }
  layouts::pack_marlin_columns(module_.bits, rows.size(), columns_, scratch.block_codes, out[0]);
  scratch.m_bits.resize(2 * scratch.d_bits.size());
  const auto natural = std::span(scratch.m_bits).first(scratch.d_bits.size());
  const auto permuted = std::span(scratch.m_bits).subspan(scratch.d_bits.size());
  transpose_into<std::uint16_t>(rows.size(), groups_, scratch.d_bits, std::as_writable_bytes(natural));
  layouts::permute_marlin_scales(order_, natural, permuted);
  std::ranges::copy(std::as_bytes(permuted), out[1].begin());
  if (out.size() <= 2 || out[2].empty()) return;
  std::vector<std::int32_t> sorted(module_.index.size());
  layouts::sort_columns(sort_, module_.index, sorted);
  std::ranges::copy(std::as_bytes(std::span(sorted)), out[2].begin());
  std::ranges::copy(std::as_bytes(std::span(sort_)), out[3].begin());
}

void GptqPacker::unpack_marlin(std::int64_t n, StoredBuffers stored, Scratch& scratch,
                               std::span<std::byte> scales) const {
  layouts::unpack_marlin_columns(module_.bits, n, columns_, stored[0], scratch.block_codes);
  if (!sort_.empty()) {
    const auto columns = static_cast<std::size_t>(columns_);
    scratch.row_codes.resize(columns);
    for (std::size_t at = 0; at < scratch.block_codes.size(); at += columns) {
      const auto row = std::span(scratch.block_codes).subspan(at, columns);
      layouts::unsort_columns(sort_, row, scratch.row_codes);
      std::ranges::copy(scratch.row_codes, row.begin());
    }
  }
  const auto count = static_cast<std::size_t>(n * groups_);
  scratch.m_bits.resize(2 * count);
  const auto permuted = std::span(scratch.m_bits).first(count);
  const auto natural = std::span(scratch.m_bits).subspan(count);
  std::ranges::copy(stored[1], std::as_writable_bytes(permuted).begin());
  layouts::restore_marlin_scales(order_, permuted, natural);
  transpose_into<std::uint16_t>(groups_, n, natural, scales);
}

}  // namespace regauge
