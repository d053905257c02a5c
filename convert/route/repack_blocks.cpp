#include "convert/route/repack_blocks.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "base/bytes.h"
#include "base/error.h"
#include "base/half.h"
#include "formats/layouts/ggml_blocks.h"
#include "ir/decode/blocks.h"

namespace regauge {
namespace {

constexpr std::int64_t kBandBytes = 8 << 20;
constexpr std::int64_t kBlock = 32;

/// A block type by what it holds: differences code - zero in [low, high], stored with `low` taken off; Q8_0 stores the
/// difference itself as a signed byte. Sources: ggml-org/ggml src/ggml-quants.c, dequantize_row_q4_0, _q5_0, _q8_0.
struct Candidate {
  BlockType type;
  int low;
  int high;
  int stored_offset;
};

constexpr std::array<Candidate, 3> kCandidates{{
    {BlockType::q4_0, -8, 7, 8},
    {BlockType::q5_0, -16, 15, 16},
    {BlockType::q8_0, -128, 127, 0},
}};

const Candidate& candidate(BlockType type) { return *std::ranges::find(kCandidates, type, &Candidate::type); }

struct Range {
  int low = std::numeric_limits<int>::max();
  int high = std::numeric_limits<int>::min();

  void include(int value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return low > high; }
};

const Grouped* repackable(const Target& target, std::string& reason) {
  const auto* grouped = std::get_if<Grouped>(&target.pieces.front().tensor->encoding);
  if (grouped == nullptr || grouped->code != CodeKind::unsigned_int || grouped->group.rows != 1 ||
      grouped->global_scale) {
    reason = "not integer codes with a scale per group of columns";
    return nullptr;
  }
  if (grouped->offset == Offset::bias) {
    reason = "values are scale * code + bias, which Q4_0, Q5_0 and Q8_0 cannot say";
    return nullptr;
  }
  if (target.columns % kBlock != 0) {
    reason = fmt::format("rows of {} are no multiple of 32", target.columns);
    return nullptr;
  }
  for (const TargetPiece& piece : target.pieces) {
    const auto* other = std::get_if<Grouped>(&piece.tensor->encoding);
    if (other == nullptr || other->code != grouped->code || other->offset == Offset::bias) {
      reason = "its parts are stored in different encodings";
      return nullptr;
    }
    if (piece.view.elementwise != Elementwise::none || piece.target_columns ||
        piece.source_columns != piece.tensor->shape.columns()) {
      reason = "its values or columns are rearranged within groups";
      return nullptr;
    }
  }
  return grouped;
}

/// The source group of every target block, or nothing when a block would mix groups.
std::optional<std::vector<std::int32_t>> groups_of_blocks(const TargetPiece& piece, std::int64_t columns) {
  const std::vector<std::int32_t> group_of_column = read_group_index(*piece.tensor);
  const auto map = source_columns(piece);
  std::vector<std::int32_t> groups(static_cast<std::size_t>(columns / kBlock));
  const std::vector<std::int64_t> order = map ? map->indices() : std::vector<std::int64_t>();
  for (std::int64_t c = 0; c < columns; ++c) {
    const std::int32_t group = group_of_column[static_cast<std::size_t>(map ? order[static_cast<std::size_t>(c)] : c)];
    std::int32_t& block = groups[static_cast<std::size_t>(c / kBlock)];
    if (c % kBlock == 0) {
      block = group;
    } else if (block != group) {
      return std::nullopt;
    }
  }
  return groups;
}

/// Calls visit(bytes of whole rows, first row) for all of one part, a band at a time.
template <typename Visit>
void for_each_band(const Part& part, Visit visit) {
  const std::int64_t rows = part.rows->rows();
  const std::int64_t quantum = part.rows->row_quantum();
  std::int64_t step = rows_within(kBandBytes, static_cast<std::int64_t>(part.rows->row_bytes()), rows);
  step = std::max(step / quantum, std::int64_t{1}) * quantum;
  std::vector<std::byte> buffer;
  for (std::int64_t row = 0; row < rows; row += step) {
    const RowRange range{row, std::min(rows, row + step)};
    buffer.resize(static_cast<std::size_t>(range.size()) * part.rows->row_bytes());
    part.rows->read(range, buffer);
    visit(std::span<const std::byte>(buffer), row);
  }
}

Range zero_points(const Tensor& tensor, const Grouped& grouped) {
  Range range;
  if (grouped.offset == Offset::zero_point) {
    for_each_band(tensor.part(PartId::zeros), [&](std::span<const std::byte> bytes, std::int64_t) {
      for (const std::byte b : bytes) range.include(std::to_integer<int>(b));
    });
  } else {
    range.include(grouped.offset == Offset::midpoint ? 1 << (grouped.bits - 1) : 0);
  }
  return range;
}

/// The exact range of code - zero over a whole tensor; only asked for when the bounds of both do not decide.
Range differences(const Tensor& tensor, const Grouped& grouped) {
  Range range;
  const Part& codes = tensor.part(PartId::codes);
  const Part* zeros = tensor.find(PartId::zeros);
  const std::vector<std::int32_t> group_of_column = read_group_index(tensor);
  const auto columns = static_cast<std::size_t>(tensor.shape.columns());
  const std::int64_t quantum = tensor.row_quantum();
  const std::int64_t rows = codes.rows->rows();
  std::int64_t step =
      std::max(rows_within(kBandBytes, tensor.shape.columns(), rows) / quantum, std::int64_t{1}) * quantum;
  std::vector<std::byte> code_bytes;
  std::vector<std::byte> zero_bytes;
  for (std::int64_t row = 0; row < rows; row += step) {
    const RowRange band{row, std::min(rows, row + step)};
    code_bytes.resize(static_cast<std::size_t>(band.size()) * columns);
    codes.rows->read(band, code_bytes);
    const std::size_t groups = zeros == nullptr ? 0 : zeros->rows->row_bytes();
    if (zeros != nullptr) {
      zero_bytes.resize(static_cast<std::size_t>(band.size()) * groups);
      zeros->rows->read(band, zero_bytes);
    }
    for (std::size_t i = 0; i < code_bytes.size(); ++i) {
      const std::size_t r = i / columns;
      const int zero =
          zeros == nullptr
              ? 1 << (grouped.bits - 1)
              : std::to_integer<int>(zero_bytes[r * groups + static_cast<std::size_t>(group_of_column[i % columns])]);
      range.include(std::to_integer<int>(code_bytes[i]) - zero);
    }
  }
  return range;
}

bool scales_fit_f16(const Tensor& tensor, DType dtype) {
  if (dtype == DType::f16) return true;
  bool fit = true;
  for_each_band(tensor.part(PartId::scales), [&](std::span<const std::byte> bytes, std::int64_t) {
    const std::size_t width = dtype == DType::bf16 ? 2 : 4;
    for (std::size_t i = 0; fit && i < bytes.size(); i += width) {
      const float scale =
          width == 2 ? bf16_to_f32(load_le<std::uint16_t>(bytes.data() + i)) : load_le<float>(bytes.data() + i);
      fit = std::bit_cast<std::uint32_t>(f16_to_f32(f32_to_f16(scale))) == std::bit_cast<std::uint32_t>(scale);
    }
  });
  return fit;
}

class BlockRepackRows final : public RowMaker {
 public:
  BlockRepackRows(const Target& target, BlockRepack repack)
      : target_(target), repack_(std::move(repack)), offset_(candidate(repack_.type).stored_offset) {
    row_bytes_ = static_cast<std::size_t>(target.columns / kBlock * block_bytes(repack_.type));
  }

  std::int64_t band_rows() const override { return rows_within(kBandBytes, target_.columns, target_.rows); }

  void make(RowRange rows, BandBuffers buffers, Scratch& scratch, Loss&) const override {
    const std::span<std::byte> out = buffers.front();
    for (const RowRun& run : row_runs(target_, rows)) {
      const auto at = static_cast<std::size_t>(run.target_row - rows.begin) * row_bytes_;
      repack_run(run, out.subspan(at, static_cast<std::size_t>(run.source.size()) * row_bytes_), scratch);
    }
  }

  void decode(RowRange, StoredBuffers stored, Scratch&, std::span<float> out) const override {
    decode_blocks(repack_.type, stored.front(), out);
  }

 private:
  void repack_run(const RowRun& run, std::span<std::byte> out, Scratch& scratch) const {
    const Tensor& tensor = *run.piece->tensor;
    const auto& grouped = std::get<Grouped>(tensor.encoding);
    const auto columns = static_cast<std::size_t>(target_.columns);
    const auto source_width = static_cast<std::size_t>(run.piece->source_columns);
    const auto count = static_cast<std::size_t>(run.source.size());
    const std::size_t scale_row = tensor.part(PartId::scales).rows->row_bytes();
    const auto groups = scale_row / (static_cast<std::size_t>(bits(grouped.scale)) / 8);
    const auto& group_of_block = repack_.group_of_block[static_cast<std::size_t>(run.piece - target_.pieces.data())];
    const auto map = source_columns(*run.piece);

    scratch.codes.resize(count * source_width);
    read_rows(tensor, PartId::codes, run.source, scratch.raw, std::as_writable_bytes(std::span(scratch.codes)));
    scratch.scales.resize(count * scale_row);
    read_rows(tensor, PartId::scales, run.source, scratch.raw, scratch.scales);
    const bool with_zeros = grouped.offset == Offset::zero_point;
    scratch.zeros.resize(with_zeros ? count * groups : 0);
    if (with_zeros)
      read_rows(tensor, PartId::zeros, run.source, scratch.raw, std::as_writable_bytes(std::span(scratch.zeros)));
    const int constant_zero = grouped.offset == Offset::midpoint ? 1 << (grouped.bits - 1) : 0;

    scratch.row_codes.resize(columns);
    scratch.d_bits.resize(group_of_block.size());
    for (std::size_t r = 0; r < count; ++r) {
      const auto codes = std::span<const std::uint8_t>(scratch.codes).subspan(r * source_width, source_width);
      const auto row = map ? gather(codes, *map, scratch.row_codes) : codes;
      for (std::size_t b = 0; b < group_of_block.size(); ++b) {
        const auto group = static_cast<std::size_t>(group_of_block[b]);
        scratch.d_bits[b] = scale_bits(grouped.scale, scratch.scales.data() + r * scale_row, group);
        const int zero = with_zeros ? scratch.zeros[r * groups + group] : constant_zero;
        shift_block(row.subspan(b * kBlock, kBlock), offset_ - zero,
                    std::span(scratch.row_codes).subspan(b * kBlock, kBlock));
      }
      layouts::pack_blocks_row(repack_.type, scratch.row_codes, scratch.d_bits, {},
                               out.subspan(r * row_bytes_, row_bytes_));
    }
  }

  static void read_rows(const Tensor& tensor, PartId id, RowRange rows, std::vector<std::byte>& scratch,
                        std::span<std::byte> out) {
    read_aligned(*tensor.part(id).rows, rows, scratch, out);
  }

  static std::span<const std::uint8_t> gather(std::span<const std::uint8_t> codes, const AxisMap& map,
                                              std::vector<std::uint8_t>& out) {
    std::size_t at = 0;
    for (const AxisMap::Run& run : map.runs()) {
      std::copy_n(codes.begin() + run.begin, run.length, out.begin() + static_cast<std::ptrdiff_t>(at));
      at += static_cast<std::size_t>(run.length);
    }
    return out;
  }

  /// Adds one number to 32 codes; bytes wrap, which is what Q8_0's signed codes want. In and out may be the same.
  static void shift_block(std::span<const std::uint8_t> codes, int by, std::span<std::uint8_t> out) noexcept {
    const auto delta = static_cast<std::uint8_t>(by);
    for (std::size_t i = 0; i < static_cast<std::size_t>(kBlock); ++i)
      out[i] = static_cast<std::uint8_t>(codes[i] + delta);
  }

  static std::uint16_t scale_bits(DType dtype, const std::byte* row, std::size_t group) noexcept {
    if (dtype == DType::f32) return f32_to_f16(load_le<float>(row + 4 * group));
    const auto bits = load_le<std::uint16_t>(row + 2 * group);
    return dtype == DType::f16 ? bits : f32_to_f16(bf16_to_f32(bits));
  }

  const Target& target_;
  BlockRepack repack_;
  int offset_;
  std::size_t row_bytes_ = 0;
};

}  // namespace

std::variant<BlockRepack, std::string> plan_block_repack(const Target& target) {
  std::string reason;
  if (repackable(target, reason) == nullptr) return reason;
  BlockRepack repack;
  Range wanted;
  for (const TargetPiece& piece : target.pieces) {
    const Tensor& tensor = *piece.tensor;
    const auto& grouped = std::get<Grouped>(tensor.encoding);
    auto groups = groups_of_blocks(piece, target.columns);
    if (!groups) {
      return tensor.find(PartId::group_index) != nullptr
                 ? std::string("act-order: columns of a group do not lie together")
                 : fmt::format("groups of {} cut blocks of 32", grouped.group.cols);
    }
    repack.group_of_block.push_back(std::move(*groups));
    if (!scales_fit_f16(tensor, grouped.scale))
      return fmt::format("its {} scales do not all fit F16", name(grouped.scale));
    const Range zeros = zero_points(tensor, grouped);
    if (zeros.empty()) continue;
    Range possible;
    possible.include(-zeros.high);
    possible.include((1 << grouped.bits) - 1 - zeros.low);
    if (possible.low < kCandidates.back().low || possible.high > kCandidates.back().high)
      possible = differences(tensor, grouped);
    if (!possible.empty()) {
      wanted.include(possible.low);
      wanted.include(possible.high);
    }
  }
  const auto found = std::ranges::find_if(kCandidates, [&](const Candidate& c) {
    return wanted.empty() || (wanted.low >= c.low && wanted.high <= c.high);
  });
  if (found == kCandidates.end())
    return fmt::format("code - zero reaches from {} to {}, beyond a signed byte", wanted.low, wanted.high);
  repack.type = found->type;
  return repack;
}

RowMakerPtr make_block_repack(const Target& target, BlockRepack repack) {
  return std::make_unique<BlockRepackRows>(target, std::move(repack));
}

}  // namespace regauge
