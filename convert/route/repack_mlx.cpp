#include "convert/route/repack_mlx.h"

#include <algorithm>
#include <array>
#include <optional>

#include <fmt/format.h>

#include "convert/route/affine_rows.h"
#include "convert/route/mlx_module.h"
#include "formats/layouts/mlx_stream.h"

namespace regauge {
namespace {

constexpr std::int64_t kBandCodes = 8 << 20;
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
    streamed_ = has_streams(source_, repack_.bits);
  }

  std::int64_t band_rows() const override {
    return rows_within(kBandCodes, source_.target().columns, source_.target().rows);
  }

  bool is_packed() const override { return streamed_; }

  void make(RowRange rows, BandBuffers out, Scratch& scratch, Loss&) const override {
    const std::size_t parameter_row = groups_ * element_;
    scratch.row.resize(2 * groups_);
    const auto scales = std::span(scratch.row).first(groups_);
    const auto biases = std::span(scratch.row).last(groups_);
    const auto store_parameters = [&](const AffineRow& row, std::size_t at) {
      for (std::size_t g = 0; g < groups_; ++g) {
        scales[g] = row.scale(g);
        biases[g] = row.bias(g);
      }
      store_floats(repack_.dtype, scales, out[1].subspan(at * parameter_row, parameter_row));
      store_floats(repack_.dtype, biases, out[2].subspan(at * parameter_row, parameter_row));
    };
    if (streamed_) {
      const auto take = [&](std::size_t at, std::size_t count) {
        return out[0].subspan(at * row_bytes_, count * row_bytes_);
      };
      return for_each_streamed_row(source_, repack_.groups, rows, scratch, take, store_parameters);
    }
    for_each_affine_row(source_, repack_.groups, rows, scratch, [&](const AffineRow& row, std::size_t at) {
      layouts::pack_mlx_rows(repack_.bits, 1, source_.target().columns, row.codes,
                             out[0].subspan(at * row_bytes_, row_bytes_));
      store_parameters(row, at);
    });
  }

  void decode(RowRange, StoredBuffers stored, Scratch& scratch, std::span<float> out) const override {
    decode_mlx_affine({repack_.bits, repack_.groups.width, repack_.dtype}, source_.target().columns, stored, scratch,
                      out);
  }

 private:
  AffineSource source_;
  MlxRepack repack_;
  bool streamed_ = false;
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
