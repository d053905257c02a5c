#include "convert/route/repack_gptq.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/half.h"
#include "convert/route/affine_rows.h"
#include "formats/layouts/marlin.h"
#include "ir/decode/grouped.h"
#include "ir/transposed_rows.h"

namespace regauge {
namespace {

constexpr std::int64_t kBandBytes = 8 << 20;
constexpr std::array<std::int64_t, 6> kGroupSizes{1024, 512, 256, 128, 64, 32};

bool is_marlin(GptqLayout layout) { return layout == GptqLayout::marlin || layout == GptqLayout::marlin_runtime; }

layouts::GptqLayout words_of(const GptqRepack& repack) {
  const bool planar = repack.layout == GptqLayout::planar;
  return {repack.bits, planar ? layouts::GptqPacking::planar : layouts::GptqPacking::continuous};
}

layouts::ZeroConvention zeros_of(const GptqRepack& repack) {
  return repack.layout == GptqLayout::v1 ? layouts::ZeroConvention::v1 : layouts::ZeroConvention::v2;
}

/// Legal code widths of a layout, smallest first.
std::span<const int> widths_of(GptqLayout layout) {
  static constexpr std::array<int, 4> kWords{2, 3, 4, 8};
  static constexpr std::array<int, 7> kPlanar{2, 3, 4, 5, 6, 7, 8};
  static constexpr std::array<int, 1> kMarlin{4};
  static constexpr std::array<int, 2> kMarlinRuntime{4, 8};
  switch (layout) {
    case GptqLayout::planar: return kPlanar;
    case GptqLayout::marlin: return kMarlin;
    case GptqLayout::marlin_runtime: return kMarlinRuntime;
    default: return kWords;
  }
}

class Planner {
 public:
  Planner(const AffineSource& source, const AffineFacts& facts, GptqLayout layout)
      : source_(source), facts_(facts), columns_(source.target().columns), rows_(source.target().rows) {
    repack_.layout = layout;
  }

  std::variant<GptqRepack, std::string> plan(bool allow_rounded) {
    if (source_.target().pieces.size() != 1) return std::string("it is put together from several modules");
    if (columns_ % 32 != 0 || rows_ % 32 != 0)
      return fmt::format("[{}, {}] is no multiple of 32 both ways", rows_, columns_);
    if (!facts_.zeros_exist) return std::string("its biases are no whole multiples of its scales");
    if (auto reason = choose_scale(allow_rounded)) return *reason;
    if (auto reason = choose_width()) return *reason;
    choose_groups();
    if (is_marlin(repack_.layout)) {
      if (auto reason = marlin_objection()) return *reason;
    }
    return std::move(repack_);
  }

 private:
  std::optional<std::string> choose_scale(bool allow_rounded) {
    if (facts_.scales_fit_f16) return std::nullopt;
    if (facts_.scales_fit_bf16 && !is_marlin(repack_.layout)) {
      repack_.scale = DType::bf16;
      return std::nullopt;
    }
    repack_.rounded = true;
    if (allow_rounded && facts_.rounded_biases_fit_f16) return std::nullopt;
    return fmt::format("its {} scales do not all fit F16", name(facts_.widest));
  }

  /// The narrowest width into which codes and zero points fit when both are moved alike. A zero point in the middle of the
  /// source's range goes to the middle of the target's, where symmetric kernels want it.
  std::optional<std::string> choose_width() {
    const std::int64_t top = (1 << facts_.bits) - 1;
    const IntRange zeros = facts_.zeros;
    for (const int width : widths_of(repack_.layout)) {
      const std::int64_t limit = (1 << width) - 1;
      const std::int64_t middle = std::int64_t{1} << (width - 1);
      const bool one_zero = !zeros.empty() && zeros.low == zeros.high;
      std::int64_t shift =
          one_zero && middle - zeros.low + top <= limit && middle - zeros.low >= 0 ? middle - zeros.low : 0;
      if (top + shift > limit || !IntRange{zeros.low + shift, zeros.high + shift}.within(0, limit)) continue;
      repack_.bits = width;
      repack_.code_shift = static_cast<int>(shift);
      repack_.sym = zeros.empty() || (one_zero && zeros.low + shift == middle);
      return std::nullopt;
    }
    return fmt::format("codes of {} bits with zero points from {} to {} fit no width of this layout", facts_.bits,
                       zeros.low, zeros.high);
  }

  void choose_groups() {
    if (!facts_.blocked && facts_.own_width > 0 && use(source_.groups_of(facts_.own_width))) return;
    if (facts_.blocked) {
      if (use(source_.groups_of(columns_))) return;
      for (const std::int64_t size : kGroupSizes) {
        if (use(source_.groups_of(size))) return;
      }
    }
    index_by_source();
  }

  bool use(std::optional<GroupMap> groups) {
    if (!groups) return false;
    repack_.groups = std::move(*groups);
    const std::int64_t width = repack_.groups.width;
    repack_.group_size = width == columns_ && std::ranges::find(kGroupSizes, width) == kGroupSizes.end() ? -1 : width;
    repack_.index.resize(static_cast<std::size_t>(columns_));
    for (std::size_t c = 0; c < repack_.index.size(); ++c)
      repack_.index[c] = static_cast<std::int32_t>(static_cast<std::int64_t>(c) / width);
    return true;
  }

  /// Groups as the source numbers them, without those that no column names.
  void index_by_source() {
    const auto& groups = source_.groups_in_target(0);
    std::map<std::int32_t, std::int32_t> number;
    for (const std::int32_t group : groups) number.emplace(group, 0);
    std::vector<std::int32_t> used;
    for (auto& [group, at] : number) {
      at = static_cast<std::int32_t>(used.size());
      used.push_back(group);
    }
    for (const std::int32_t group : groups) repack_.index.push_back(number[group]);
    const auto count = static_cast<std::int64_t>(used.size());
    repack_.group_size = (columns_ + count - 1) / count;
    repack_.act_order = true;
    repack_.groups = {0, {std::move(used)}};
  }

  std::optional<std::string> marlin_objection() const {
    const bool serialised = repack_.layout == GptqLayout::marlin;
    if (!repack_.sym) return std::string("Marlin has no zero points, and these are not all in the middle");
    if (serialised && repack_.act_order) return std::string("serialised Marlin has no g_idx, and this is act-order");
    const std::int64_t size = repack_.group_size;
    const bool single = size == -1 || size == columns_;
    if (serialised && !single && size != 128)
      return fmt::format("serialised Marlin has groups of 128 or -1, not {}", size);
    if (!single && size != 32 && size != 64 && size != 128) return fmt::format("Marlin has no groups of {}", size);
    // What the kernels' tiles divide into; the original serialised writer also wants N % 256 == 0, its readers do not.
    if (columns_ % 128 != 0) return fmt::format("Marlin wants K % 128 == 0, and K is {}", columns_);
    if (rows_ % 64 != 0) return fmt::format("Marlin wants N % 64 == 0, and N is {}", rows_);
    return std::nullopt;
  }

  const AffineSource& source_;
  const AffineFacts& facts_;
  std::int64_t columns_;
  std::int64_t rows_;
  GptqRepack repack_;
};

/// [n, groups] to [groups, n].
template <typename T>
void transpose_into(std::int64_t rows, std::int64_t columns, std::span<const T> from, std::span<std::byte> to) {
  transpose(rows, columns, sizeof(T), std::as_bytes(from), to);
}

class GptqRepackRows final : public RowMaker {
 public:
  GptqRepackRows(AffineSource source, GptqRepack repack) : source_(std::move(source)), repack_(std::move(repack)) {
    columns_ = source_.target().columns;
    groups_ = static_cast<std::int64_t>(repack_.groups.source_group.front().size());
    if (repack_.layout == GptqLayout::marlin_runtime && repack_.act_order)
      sort_ = layouts::act_order_sort(repack_.index);
    order_ = groups_ == 1 ? layouts::MarlinScaleOrder::single : layouts::MarlinScaleOrder::grouped;
  }

  std::int64_t band_rows() const override { return rows_within(kBandBytes, columns_, source_.target().rows); }

  void make(RowRange rows, BandBuffers out, Scratch& scratch, Loss&) const override {
    const auto count = static_cast<std::size_t>(rows.size());
    const auto columns = static_cast<std::size_t>(columns_);
    const auto groups = static_cast<std::size_t>(groups_);
    scratch.block_codes.resize(count * columns);
    scratch.d_bits.resize(count * groups);
    scratch.zeros.resize(count * groups);
    for_each_affine_row(source_, repack_.groups, rows, scratch, [&](const AffineRow& row, std::size_t at) {
      const auto shift = static_cast<std::uint8_t>(repack_.code_shift);
      std::uint8_t* codes = scratch.block_codes.data() + at * columns;
      for (std::size_t c = 0; c < columns; ++c) codes[c] = static_cast<std::uint8_t>(row.codes[c] + shift);
      for (std::size_t g = 0; g < groups; ++g) {
        const float scale = row.scale(g);
        scratch.d_bits[at * groups + g] = repack_.scale == DType::f16 ? f32_to_f16(scale) : f32_to_bf16(scale);
        scratch.zeros[at * groups + g] = static_cast<std::uint8_t>(row.zero(g) + repack_.code_shift);
      }
    });
    if (is_marlin(repack_.layout)) {
      pack_marlin(rows, out, scratch);
    } else {
      pack_words(rows, out, scratch);
    }
  }

  void decode(RowRange rows, StoredBuffers stored, Scratch& scratch, std::span<float> out) const override {
    const std::int64_t n = rows.size();
    scratch.block_codes.resize(static_cast<std::size_t>(n * columns_));
    std::vector<std::byte> scales(static_cast<std::size_t>(n * groups_) * 2);
    std::vector<std::byte> zeros;
    Grouped encoding{.bits = repack_.bits,
                     .group = {1, repack_.groups.width},
                     .scale = repack_.scale,
                     .offset = Offset::midpoint,
                     .offset_dtype = DType::u8,
                     .indexed = repack_.act_order};
    if (is_marlin(repack_.layout)) {
      unpack_marlin(n, stored, scratch, scales);
    } else {
      encoding.offset = Offset::zero_point;
      layouts::unpack_gptq_columns(words_of(repack_), n, columns_, stored[0], scratch.block_codes);
      scratch.zeros.resize(static_cast<std::size_t>(n * groups_));
      layouts::unpack_gptq_zeros(words_of(repack_), zeros_of(repack_), stored[1], scratch.zeros);
      zeros.resize(scratch.zeros.size());
      transpose_into<std::uint8_t>(groups_, n, scratch.zeros, zeros);
      transpose(groups_, n, 2, stored[2], scales);
    }
    decode_grouped(encoding, n, columns_,
                   {.codes = scratch.block_codes,
                    .scales = scales,
                    .offsets = zeros,
                    .group_of_column = repack_.index,
                    .global_scale = std::nullopt},
                   out);
  }

  void steps(RowRange rows, Scratch& scratch, std::span<float> out) const override {
    affine_steps(source_, rows, scratch, out);
  }

 private:
  void pack_words(RowRange rows, BandBuffers out, Scratch& scratch) const {
    layouts::pack_gptq_columns(words_of(repack_), rows.size(), columns_, scratch.block_codes, out[0]);
    scratch.row_codes.resize(scratch.zeros.size());
    transpose_into<std::uint8_t>(rows.size(), groups_, scratch.zeros,
                                 std::as_writable_bytes(std::span(scratch.row_codes)));
    layouts::pack_gptq_zeros(words_of(repack_), zeros_of(repack_), scratch.row_codes, out[1]);
    transpose_into<std::uint16_t>(rows.size(), groups_, scratch.d_bits, out[2]);
    if (!out[3].empty()) std::ranges::copy(std::as_bytes(std::span(repack_.index)), out[3].begin());
  }

  void pack_marlin(RowRange rows, BandBuffers out, Scratch& scratch) const {
    if (!sort_.empty()) {
      const auto columns = static_cast<std::size_t>(columns_);
      scratch.row_codes.resize(columns);
      for (std::size_t at = 0; at < scratch.block_codes.size(); at += columns) {
        const auto row = std::span(scratch.block_codes).subspan(at, columns);
        layouts::sort_columns(sort_, row, scratch.row_codes);
        std::ranges::copy(scratch.row_codes, row.begin());
      }
    }
    layouts::pack_marlin_columns(repack_.bits, rows.size(), columns_, scratch.block_codes, out[0]);
    scratch.m_bits.resize(2 * scratch.d_bits.size());
    const auto natural = std::span(scratch.m_bits).first(scratch.d_bits.size());
    const auto permuted = std::span(scratch.m_bits).subspan(scratch.d_bits.size());
    transpose_into<std::uint16_t>(rows.size(), groups_, scratch.d_bits, std::as_writable_bytes(natural));
    layouts::permute_marlin_scales(order_, natural, permuted);
    std::ranges::copy(std::as_bytes(permuted), out[1].begin());
    if (out.size() <= 2 || out[2].empty()) return;
    std::vector<std::int32_t> sorted(repack_.index.size());
    layouts::sort_columns(sort_, repack_.index, sorted);
    std::ranges::copy(std::as_bytes(std::span(sorted)), out[2].begin());
    std::ranges::copy(std::as_bytes(std::span(sort_)), out[3].begin());
  }

  void unpack_marlin(std::int64_t n, StoredBuffers stored, Scratch& scratch, std::span<std::byte> scales) const {
    layouts::unpack_marlin_columns(repack_.bits, n, columns_, stored[0], scratch.block_codes);
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

  AffineSource source_;
  GptqRepack repack_;
  std::int64_t columns_ = 0;
  std::int64_t groups_ = 0;
  std::vector<std::int32_t> sort_;
  layouts::MarlinScaleOrder order_ = layouts::MarlinScaleOrder::grouped;
};

}  // namespace

std::variant<GptqRepack, std::string> plan_gptq_repack(const AffineSource& source, const AffineFacts& facts,
                                                       GptqLayout layout, bool allow_rounded) {
  return Planner(source, facts, layout).plan(allow_rounded);
}

std::vector<PackedArray> arrays_of(const GptqRepack& repack, std::int64_t rows, std::int64_t columns) {
  const auto groups = static_cast<std::int64_t>(repack.groups.source_group.front().size());
  const std::int64_t marlin_columns = rows * repack.bits / 2;
  switch (repack.layout) {
    case GptqLayout::marlin:
      return {{"B", DType::i32, {columns / 16, marlin_columns}, false}, {"s", repack.scale, {groups, rows}, false}};
    case GptqLayout::marlin_runtime: {
      std::vector<PackedArray> arrays{{"marlin_qweight", DType::i32, {columns / 16, marlin_columns}, false},
                                      {"marlin_scales", repack.scale, {groups, rows}, false}};
      if (repack.act_order) {
        arrays.push_back({"marlin_g_idx", DType::i32, {columns}, true});
        arrays.push_back({"marlin_sort_indices", DType::i32, {columns}, true});
      }
      return arrays;
    }
    default:
      return {{"qweight", DType::i32, {columns * repack.bits / 32, rows}, false},
              {"qzeros", DType::i32, {groups, rows * repack.bits / 32}, false},
              {"scales", repack.scale, {groups, rows}, false},
              {"g_idx", DType::i32, {columns}, true}};
  }
}

std::int64_t row_quantum(const GptqRepack& repack) {
  return is_marlin(repack.layout) ? layouts::kMarlinTileColumns : 32;
}

RowMakerPtr make_gptq_repack(AffineSource source, GptqRepack repack) {
  return std::make_unique<GptqRepackRows>(std::move(source), std::move(repack));
}

}  // namespace regauge
