#include "convert/route/repack_gptq.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "base/half.h"
#include "convert/route/affine_rows.h"
#include "convert/route/gptq_packer.h"
#include "formats/layouts/marlin.h"

namespace regauge {
namespace {

constexpr std::int64_t kBandCodes = 16 << 20;
// A tile's words, of which the second-level cache holds the source's and ours.
constexpr std::int64_t kTileBytes = 384 << 10;
constexpr std::array<std::int64_t, 6> kGroupSizes{1024, 512, 256, 128, 64, 32};

bool is_marlin(GptqLayout layout) { return layout == GptqLayout::marlin || layout == GptqLayout::marlin_runtime; }

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
    if (auto reason = gptq_module_objection(repack_, rows_, columns_)) return *reason;
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

  const AffineSource& source_;
  const AffineFacts& facts_;
  std::int64_t columns_;
  std::int64_t rows_;
  GptqRepack repack_;
};

class GptqRepackRows final : public RowMaker {
 public:
  GptqRepackRows(AffineSource source, GptqRepack repack)
      : source_(std::move(source)), packer_(std::move(repack), source_.target().columns) {
    streamed_ = packer_.takes_stream() && has_streams(source_, packer_.module().bits);
  }

  /// As many as memory allows where that is no dearer: only whole matrices are written in one piece, and what is less takes
  /// a write for every stored row.
  std::int64_t band_rows() const override {
    if (streamed_) return source_.target().rows;
    return rows_within(kBandCodes, source_.target().columns, source_.target().rows);
  }

  bool is_packed() const override { return streamed_; }

  std::int64_t tile_rows() const override {
    if (!streamed_) return 0;
    const std::int64_t quantum = row_quantum(packer_.module());
    const std::int64_t cached = rows_within(kTileBytes, row_bytes(), source_.target().rows);
    const std::int64_t cheap = source_.tensors().front().preferred_rows();
    return std::max(std::max(cached, cheap) / quantum, std::int64_t{1}) * quantum;
  }

  void make(RowRange rows, BandBuffers out, Scratch& scratch, Loss&) const override {
    if (!streamed_) {
      hold_parameters(rows, scratch);
      hold_codes(rows, scratch);
      return packer_.pack(rows, out, scratch);
    }
    const std::int64_t height = tile_rows();
    for (std::int64_t row = rows.begin; row < rows.end; row += height) {
      const RowRange tile{row, std::min(row + height, rows.end)};
      hold_parameters(tile, scratch);
      hold_stream(tile, scratch);
      packer_.pack_stream(rows, tile, out, scratch, scratch.stream);
    }
  }

  void decode(RowRange rows, StoredBuffers stored, Scratch& scratch, std::span<float> out) const override {
    packer_.decode(rows, stored, scratch, out);
  }

  void steps(RowRange rows, Scratch& scratch, std::span<float> out) const override {
    affine_steps(source_, rows, scratch, out);
  }

 private:
  /// Bytes of a row's codes in words.
  std::int64_t row_bytes() const { return source_.target().columns * packer_.module().bits / 8; }

  void hold_parameters(RowRange rows, Scratch& scratch) const {
    const auto groups = static_cast<std::size_t>(rows.size() * packer_.groups());
    scratch.d_bits.resize(groups);
    scratch.zeros.resize(groups);
  }

  void note_parameters(const AffineRow& row, std::size_t at, Scratch& scratch) const {
    const GptqRepack& module = packer_.module();
    const auto groups = static_cast<std::size_t>(packer_.groups());
    for (std::size_t g = 0; g < groups; ++g) {
      const float scale = row.scale(g);
      scratch.d_bits[at * groups + g] = module.scale == DType::f16 ? f32_to_f16(scale) : f32_to_bf16(scale);
      scratch.zeros[at * groups + g] = static_cast<std::uint8_t>(row.zero(g) + module.code_shift);
    }
  }

  void hold_codes(RowRange rows, Scratch& scratch) const {
    const auto columns = static_cast<std::size_t>(source_.target().columns);
    const auto shift = static_cast<std::uint8_t>(packer_.module().code_shift);
    scratch.block_codes.resize(static_cast<std::size_t>(rows.size()) * columns);
    for_each_affine_row(source_, packer_.module().groups, rows, scratch, [&](const AffineRow& row, std::size_t at) {
      std::uint8_t* codes = scratch.block_codes.data() + at * columns;
      for (std::size_t c = 0; c < columns; ++c) codes[c] = static_cast<std::uint8_t>(row.codes[c] + shift);
      note_parameters(row, at, scratch);
    });
  }

  void hold_stream(RowRange rows, Scratch& scratch) const {
    const auto bytes = static_cast<std::size_t>(row_bytes());
    scratch.stream.resize(static_cast<std::size_t>(rows.size()) * bytes);
    const auto take = [&](std::size_t at, std::size_t run) {
      return std::span(scratch.stream).subspan(at * bytes, run * bytes);
    };
    for_each_streamed_row(source_, packer_.module().groups, rows, scratch, take,
                          [&](const AffineRow& row, std::size_t at) { note_parameters(row, at, scratch); });
  }

  AffineSource source_;
  GptqPacker packer_;
  bool streamed_ = false;
};

}  // namespace

std::optional<std::string> gptq_module_objection(const GptqRepack& module, std::int64_t rows, std::int64_t columns) {
  const auto widths = widths_of(module.layout);
  if (std::ranges::find(widths, module.bits) == widths.end())
    return fmt::format("the layout {} has no codes of {} bits", name(module.layout), module.bits);
  if (!is_marlin(module.layout)) return std::nullopt;
  const bool serialised = module.layout == GptqLayout::marlin;
  if (!module.sym) return std::string("Marlin has no zero points, and these are not all in the middle");
  if (serialised && module.act_order) return std::string("serialised Marlin has no g_idx, and this is act-order");
  const std::int64_t size = module.group_size;
  const bool single = size == -1 || size == columns;
  if (serialised && !single && size != 128)
    return fmt::format("serialised Marlin has groups of 128 or -1, not {}", size);
  if (!single && size != 32 && size != 64 && size != 128) return fmt::format("Marlin has no groups of {}", size);
  // What the kernels' tiles divide into; the original serialised writer also wants N % 256 == 0, its readers do not.
  if (columns % 128 != 0) return fmt::format("Marlin wants K % 128 == 0, and K is {}", columns);
  if (rows % 64 != 0) return fmt::format("Marlin wants N % 64 == 0, and N is {}", rows);
  return std::nullopt;
}

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
