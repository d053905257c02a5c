#include "convert/route/repack_fp.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "convert/route/mlx_module.h"
#include "formats/layouts/ggml_blocks.h"
#include "formats/layouts/mlx_stream.h"
#include "ir/decode/blocks.h"

namespace regauge {
namespace {

constexpr std::int64_t kBandBytes = 8 << 20;
// ggml reads e4m3 scale byte 0x7F as 0 and ignores the sign bit, MLX reads 0x7F as 480; 0x7E is the last both agree on.
// Source: ggml-org/ggml src/ggml-impl.h, ggml_ue4m3_to_fp32; ml-explore/mlx mlx/backend/cpu/unary_ops.h.
constexpr std::uint8_t kLastE4m3 = 0x7E;
// 255 is infinity for MLX and NaN by the OCP specification.
constexpr std::uint8_t kLastE8m0 = 254;

BlockType block_type(FloatBlocks blocks) { return blocks == FloatBlocks::nvfp4 ? BlockType::nvfp4 : BlockType::mxfp4; }

/// Codes [n, K] and scale bytes [n, K / group] of source rows, in source column order.
void read_source(const Tensor& tensor, FloatBlocks blocks, RowRange rows, Scratch& scratch) {
  const std::int64_t columns = tensor.shape.columns();
  const auto count = static_cast<std::size_t>(rows.size());
  scratch.codes.resize(count * static_cast<std::size_t>(columns));
  scratch.zeros.resize(count * static_cast<std::size_t>(columns / group_size(blocks)));
  if (std::holds_alternative<Blocked>(tensor.encoding)) {
    const RowSource& source = *tensor.part(PartId::blocks).rows;
    scratch.scales.resize(count * source.row_bytes());
    source.read(rows, scratch.scales);
    layouts::unpack_fp4_blocks_row(block_type(blocks), scratch.scales, scratch.codes, scratch.zeros);
    return;
  }
  read_aligned(*tensor.part(PartId::codes).rows, rows, scratch.raw, std::as_writable_bytes(std::span(scratch.codes)));
  read_aligned(*tensor.part(PartId::scales).rows, rows, scratch.raw, std::as_writable_bytes(std::span(scratch.zeros)));
}

std::optional<std::string> scale_objection(const Tensor& tensor, FloatBlocks blocks) {
  const std::uint8_t last = blocks == FloatBlocks::nvfp4 ? kLastE4m3 : kLastE8m0;
  const std::int64_t rows = tensor.shape.rows();
  const std::int64_t height = rows_within(kBandBytes, tensor.shape.columns(), rows);
  Scratch scratch;
  for (std::int64_t row = 0; row < rows; row += height) {
    read_source(tensor, blocks, {row, std::min(rows, row + height)}, scratch);
    const auto wrong = std::ranges::find_if(scratch.zeros, [&](std::uint8_t scale) { return scale > last; });
    if (wrong != scratch.zeros.end())
      return fmt::format("scale byte 0x{:02X} means different numbers to ggml and MLX", *wrong);
  }
  return std::nullopt;
}

class FloatRepackRows final : public RowMaker {
 public:
  FloatRepackRows(const Target& target, FloatBlocks blocks, FloatTarget to)
      : target_(target), blocks_(blocks), to_(to) {
    groups_ = static_cast<std::size_t>(target.columns / group_size(blocks));
    row_bytes_ = static_cast<std::size_t>(
        to == FloatTarget::ggml ? target.columns / block_elements(block_type(blocks)) * block_bytes(block_type(blocks))
                                : layouts::mlx_row_bytes(code_bits(blocks), target.columns));
  }

  std::int64_t band_rows() const override { return rows_within(kBandBytes, target_.columns, target_.rows); }

  void make(RowRange rows, BandBuffers out, Scratch& scratch, Loss&) const override {
    const auto columns = static_cast<std::size_t>(target_.columns);
    const std::int64_t group = group_size(blocks_);
    for (const RowRun& run : row_runs(target_, rows)) {
      read_source(*run.piece->tensor, blocks_, run.source, scratch);
      const auto map = source_columns(*run.piece);
      const auto width = static_cast<std::size_t>(run.piece->source_columns);
      const std::size_t source_groups = width / static_cast<std::size_t>(group);
      scratch.row_codes.resize(columns);
      scratch.block_codes.resize(groups_);
      for (std::size_t r = 0; r < static_cast<std::size_t>(run.source.size()); ++r) {
        std::span<const std::uint8_t> codes = std::span(scratch.codes).subspan(r * width, width);
        std::span<const std::uint8_t> scales = std::span(scratch.zeros).subspan(r * source_groups, source_groups);
        if (map) {
          auto code = scratch.row_codes.begin();
          auto scale = scratch.block_codes.begin();
          for (const AxisMap::Run& part : map->runs()) {
            code = std::copy_n(codes.begin() + part.begin, part.length, code);
            scale = std::copy_n(scales.begin() + part.begin / group, part.length / group, scale);
          }
          codes = scratch.row_codes;
          scales = scratch.block_codes;
        }
        pack(codes, scales, static_cast<std::size_t>(run.target_row - rows.begin) + r, out);
      }
    }
  }

  void decode(RowRange, StoredBuffers stored, Scratch& scratch, std::span<float> out) const override {
    if (to_ == FloatTarget::ggml) return decode_blocks(block_type(blocks_), stored.front(), out);
    decode_mlx_floats(blocks_, target_.columns, stored, scratch, out);
  }

 private:
  void pack(std::span<const std::uint8_t> codes, std::span<const std::uint8_t> scales, std::size_t row,
            BandBuffers out) const {
    const auto to = out[0].subspan(row * row_bytes_, row_bytes_);
    if (to_ == FloatTarget::ggml) {
      layouts::pack_fp4_blocks_row(block_type(blocks_), codes, scales, to);
      return;
    }
    layouts::pack_mlx_rows(code_bits(blocks_), 1, target_.columns, codes, to);
    std::ranges::copy(std::as_bytes(scales), out[1].begin() + static_cast<std::ptrdiff_t>(row * groups_));
  }

  const Target& target_;
  FloatBlocks blocks_;
  FloatTarget to_;
  std::size_t groups_ = 0;
  std::size_t row_bytes_ = 0;
};

}  // namespace

std::string_view name(FloatBlocks blocks) {
  switch (blocks) {
    case FloatBlocks::mxfp4: return "mxfp4";
    case FloatBlocks::nvfp4: return "nvfp4";
    case FloatBlocks::mxfp8: return "mxfp8";
  }
  return "";
}

int code_bits(FloatBlocks blocks) { return blocks == FloatBlocks::mxfp8 ? 8 : 4; }
std::int64_t group_size(FloatBlocks blocks) { return blocks == FloatBlocks::nvfp4 ? 16 : 32; }

std::optional<FloatBlocks> float_blocks_of(const Encoding& encoding) {
  if (const auto* blocked = std::get_if<Blocked>(&encoding)) {
    if (blocked->type == BlockType::mxfp4) return FloatBlocks::mxfp4;
    if (blocked->type == BlockType::nvfp4) return FloatBlocks::nvfp4;
    return std::nullopt;
  }
  const auto* grouped = std::get_if<Grouped>(&encoding);
  if (grouped == nullptr || grouped->group.rows != 1 || grouped->global_scale || grouped->indexed ||
      bits(grouped->scale) != 8) {
    return std::nullopt;
  }
  if (grouped->code == CodeKind::e4m3)
    return grouped->group.cols == 32 ? std::optional(FloatBlocks::mxfp8) : std::nullopt;
  if (grouped->code != CodeKind::e2m1) return std::nullopt;
  if (grouped->group.cols == 32) return FloatBlocks::mxfp4;
  if (grouped->group.cols == 16) return FloatBlocks::nvfp4;
  return std::nullopt;
}

std::variant<FloatBlocks, std::string> plan_float_repack(const Target& target, FloatTarget to) {
  const auto kind = float_blocks_of(target.pieces.front().tensor->encoding);
  if (!kind) return fmt::format("{} is no mxfp4, nvfp4 or mxfp8", to_string(target.pieces.front().tensor->encoding));
  if (to == FloatTarget::ggml && *kind == FloatBlocks::mxfp8) return std::string("ggml has no mxfp8");
  const std::int64_t unit = to == FloatTarget::ggml ? block_elements(block_type(*kind)) : std::int64_t{32};
  if (target.columns % unit != 0) return fmt::format("rows of {} are no multiple of {}", target.columns, unit);
  for (const TargetPiece& piece : target.pieces) {
    if (float_blocks_of(piece.tensor->encoding) != kind)
      return std::string("its parts are stored in different encodings");
    if (piece.view.elementwise != Elementwise::none || piece.target_columns ||
        piece.source_columns != piece.tensor->shape.columns()) {
      return std::string("its values or columns are rearranged within groups");
    }
    const auto map = source_columns(piece);
    if (map && !map->keeps_units(group_size(*kind))) return std::string("the column order cuts groups");
    if (auto reason = scale_objection(*piece.tensor, *kind)) return *reason;
  }
  return *kind;
}

RowMakerPtr make_float_repack(const Target& target, FloatBlocks blocks, FloatTarget to) {
  return std::make_unique<FloatRepackRows>(target, blocks, to);
}

}  // namespace regauge
