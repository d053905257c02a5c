#include "convert/route/repack_mlx.h"

#include <algorithm>
#include <array>
#include <optional>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/half.h"
#include "convert/route/affine_rows.h"
#include "formats/layouts/mlx_stream.h"
#include "ir/decode/grouped.h"

namespace regauge {
namespace {

constexpr std::int64_t kBandBytes = 8 << 20;
constexpr std::array<int, 6> kWidths{2, 3, 4, 5, 6, 8};
constexpr std::array<std::int64_t, 3> kGroupSizes{128, 64, 32};

std::optional<GroupMap> choose_groups(const AffineSource& source, const AffineFacts& facts) {
  // A group of the source's own needs no look at the data, and is what the source's author chose.
  for (const std::int64_t size : kGroupSizes) {
    if (!facts.blocked && facts.own_width % size == 0 && facts.own_width != 0) {
      if (auto groups = source.groups_of(size)) return groups;
    }
  }
  for (const std::int64_t size : kGroupSizes) {
    if (auto groups = source.groups_of(size)) return groups;
  }
  return std::nullopt;
}

std::optional<DType> choose_dtype(const AffineFacts& facts) {
  if (!facts.finite) return std::nullopt;
  const bool f16 = facts.scales_fit_f16 && facts.biases_fit_f16;
  const bool bf16 = facts.scales_fit_bf16 && facts.biases_fit_bf16;
  if (f16 && facts.widest != DType::bf16) return DType::f16;
  if (bf16) return DType::bf16;
  if (f16) return DType::f16;
  return DType::f32;
}

class MlxRepackRows final : public RowMaker {
 public:
  MlxRepackRows(AffineSource source, MlxRepack repack) : source_(std::move(source)), repack_(std::move(repack)) {
    row_bytes_ = static_cast<std::size_t>(layouts::mlx_row_bytes(repack_.bits, source_.target().columns));
    groups_ = static_cast<std::size_t>(source_.target().columns / repack_.groups.width);
    element_ = static_cast<std::size_t>(bits(repack_.dtype)) / 8;
  }

  std::int64_t band_rows() const override {
    return rows_within(kBandBytes, source_.target().columns, source_.target().rows);
  }

  void make(RowRange rows, BandBuffers out, Scratch& scratch, Loss&) const override {
    const std::size_t parameter_row = groups_ * element_;
    for_each_affine_row(source_, repack_.groups, rows, scratch, [&](const AffineRow& row, std::size_t at) {
      layouts::pack_mlx_rows(repack_.bits, 1, source_.target().columns, row.codes,
                             out[0].subspan(at * row_bytes_, row_bytes_));
      for (std::size_t g = 0; g < groups_; ++g) {
        store(row.scale(g), out[1].data() + at * parameter_row + g * element_);
        store(row.bias(g), out[2].data() + at * parameter_row + g * element_);
      }
    });
  }

  void decode(RowRange rows, StoredBuffers stored, Scratch& scratch, std::span<float> out) const override {
    const std::int64_t columns = source_.target().columns;
    scratch.block_codes.resize(static_cast<std::size_t>(rows.size() * columns));
    layouts::unpack_mlx_rows(repack_.bits, rows.size(), columns, stored[0], scratch.block_codes);
    std::vector<std::int32_t> group_of_column(static_cast<std::size_t>(columns));
    for (std::size_t c = 0; c < group_of_column.size(); ++c)
      group_of_column[c] = static_cast<std::int32_t>(static_cast<std::int64_t>(c) / repack_.groups.width);
    const Grouped encoding{.bits = repack_.bits,
                           .group = {1, repack_.groups.width},
                           .scale = repack_.dtype,
                           .offset = Offset::bias,
                           .offset_dtype = repack_.dtype,
                           .flavour = Flavour::mlx};
    decode_grouped(encoding, rows.size(), columns,
                   {.codes = scratch.block_codes,
                    .scales = stored[1],
                    .offsets = stored[2],
                    .group_of_column = group_of_column,
                    .global_scale = std::nullopt},
                   out);
  }

 private:
  void store(float value, std::byte* to) const {
    switch (repack_.dtype) {
      case DType::f16: store_le(to, f32_to_f16(value)); break;
      case DType::bf16: store_le(to, f32_to_bf16(value)); break;
      default: store_le(to, value); break;
    }
  }

  AffineSource source_;
  MlxRepack repack_;
  std::size_t row_bytes_ = 0;
  std::size_t groups_ = 0;
  std::size_t element_ = 0;
};

}  // namespace

std::variant<MlxRepack, std::string> plan_mlx_repack(const AffineSource& source, const AffineFacts& facts) {
  const std::int64_t columns = source.target().columns;
  const auto dtype = choose_dtype(facts);
  if (!dtype) return std::string("scales or offsets are not finite");
  const auto* width = std::ranges::find_if(kWidths, [&](int bits) { return bits >= facts.bits; });
  if (width == kWidths.end()) return fmt::format("MLX has no codes of {} bits", facts.bits);
  if (columns % 32 != 0) return fmt::format("rows of {} are no multiple of 32", columns);
  auto groups = choose_groups(source, facts);
  if (!groups) {
    return facts.contiguous ? fmt::format("groups of {} are none that MLX has", facts.own_width)
                            : std::string("act-order: columns of a group do not lie together");
  }
  return MlxRepack{*width, *dtype, false, std::move(*groups)};
}

RowMakerPtr make_mlx_repack(AffineSource source, MlxRepack repack) {
  return std::make_unique<MlxRepackRows>(std::move(source), std::move(repack));
}

}  // namespace regauge
