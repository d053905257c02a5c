#include "convert/route/requantize.h"

#include <algorithm>

#include "base/error.h"
#include "base/half.h"
#include "convert/encode/ggml.h"
#include "convert/encode/gptq.h"
#include "convert/route/gptq_packer.h"
#include "convert/route/measured.h"
#include "convert/route/reencode_dense.h"
#include "formats/layouts/block_scales.h"
#include "formats/layouts/mlx_stream.h"
#include "ir/decode/blocks.h"

namespace regauge {
namespace {

// Of f32.
constexpr std::int64_t kBandBytes = 1 << 20;
/// Of f32, where a band is made tile by tile: a megabyte and more of what is stored.
constexpr std::int64_t kTiledBandBytes = 8 << 20;
/// Of f32: values are walked over half a dozen times, which is quick where they stay in a core's own cache.
constexpr std::int64_t kTileBytes = 1 << 17;

/// What all quantizing routes share: where values come from and what becomes of them.
class Encoder : public RowMaker {
 public:
  explicit Encoder(const Target& target)
      : target_(target), source_(make_dense(target, DType::f32)), columns_(static_cast<std::size_t>(target.columns)) {}

  std::int64_t band_rows() const override { return rows_within(kBandBytes, target_.columns * 4, target_.rows); }
  // Values, once more as they are made, as they are read back, and their steps; codes and parameters.
  std::int64_t bytes_per_row() const final {
    std::int64_t source_bytes = 0;
    for (const TargetPiece& piece : target_.pieces) source_bytes = std::max(source_bytes, 8 * piece.source_columns);
    return 24 * target_.columns + source_bytes;
  }

  void make(RowRange rows, BandBuffers out, Scratch& scratch, Loss& loss) const override {
    const auto count = static_cast<std::size_t>(rows.size()) * columns_;
    scratch.wanted.resize(count);
    Loss ignored;
    const std::span<std::byte> bytes = std::as_writable_bytes(std::span(scratch.wanted));
    source_->make(rows, std::span(&bytes, 1), scratch, ignored);
    const std::size_t step_width = encode(rows, out, scratch);
    const std::vector<std::span<const std::byte>> stored(out.begin(), out.end());
    scratch.measured.resize(count);
    decode(rows, stored, scratch, scratch.measured);
    measure_values(scratch.wanted, scratch.measured, columns_, {scratch.steps, step_width}, loss);
  }

 protected:
  /// Encodes scratch.wanted. Where neighbouring codes are equally far apart, scratch.steps gets that distance for each run
  /// of as many columns as the answer says; else the answer is 0.
  virtual std::size_t encode(RowRange rows, BandBuffers out, Scratch& scratch) const = 0;

  const Target& target() const { return target_; }
  std::size_t columns() const { return columns_; }

 private:
  const Target& target_;
  RowMakerPtr source_;
  std::size_t columns_;
};

class BlockEncoder final : public Encoder {
 public:
  BlockEncoder(const Target& target, BlockType type, std::span<const float> importance)
      : Encoder(target), type_(type), importance_(uses_importance(type) ? importance : std::span<const float>()) {
    if (target.shape.rank() > 2) rows_of_matrix_ = target.shape.dims[static_cast<std::size_t>(target.shape.rank()) - 2];
    const auto matrices = static_cast<std::size_t>(target.rows / std::max<std::int64_t>(rows_of_matrix(), 1));
    if (!importance_.empty() && importance_.size() != matrices * columns() && importance_.size() != columns()) {
      throw Error(ErrorCode::internal, "{} weights of importance for {} columns", importance_.size(), columns())
          .tensor(target.name);
    }
  }

  std::int64_t band_rows() const override { return rows_within(kTiledBandBytes, target().columns * 4, target().rows); }
  std::int64_t tile_rows() const override { return rows_within(kTileBytes, target().columns * 4, target().rows); }

  void make(RowRange rows, BandBuffers out, Scratch& scratch, Loss& loss) const override {
    const std::size_t row_bytes = out.front().size() / static_cast<std::size_t>(rows.size());
    const std::int64_t height = tile_rows();
    for (std::int64_t row = rows.begin; row < rows.end; row += height) {
      const RowRange tile{row, std::min(row + height, rows.end)};
      const std::span<std::byte> part = out.front().subspan(static_cast<std::size_t>(row - rows.begin) * row_bytes,
                                                            static_cast<std::size_t>(tile.size()) * row_bytes);
      Encoder::make(tile, std::span(&part, 1), scratch, loss);
    }
  }

  void decode(RowRange, StoredBuffers stored, Scratch&, std::span<float> out) const override {
    decode_blocks(type_, stored.front(), out);
  }

 protected:
  std::size_t encode(RowRange rows, BandBuffers out, Scratch& scratch) const override {
    const std::size_t row_bytes = out.front().size() / static_cast<std::size_t>(rows.size());
    // Rows of one matrix at a time: each expert of a stack has its own importance.
    for (std::int64_t row = rows.begin; row < rows.end;) {
      const std::int64_t end = std::min(rows.end, (row / rows_of_matrix() + 1) * rows_of_matrix());
      const auto first = static_cast<std::size_t>(row - rows.begin);
      const auto count = static_cast<std::size_t>(end - row);
      encode_ggml(type_, target().columns,
                  std::span<const float>(scratch.wanted).subspan(first * columns(), count * columns()),
                  importance_of(row), out.front().subspan(first * row_bytes, count * row_bytes));
      row = end;
    }
    const std::int64_t width = layouts::scale_width(type_);
    if (width == 0) return 0;
    scratch.steps.resize(scratch.wanted.size() / static_cast<std::size_t>(width));
    layouts::read_block_scales(type_, out.front(), scratch.steps);
    return static_cast<std::size_t>(width);
  }

 private:
  std::int64_t rows_of_matrix() const { return rows_of_matrix_ > 0 ? rows_of_matrix_ : target().rows; }

  std::span<const float> importance_of(std::int64_t row) const {
    if (importance_.size() <= columns()) return importance_;
    return importance_.subspan(static_cast<std::size_t>(row / rows_of_matrix()) * columns(), columns());
  }

  BlockType type_;
  std::span<const float> importance_;
  std::int64_t rows_of_matrix_ = 0;
};

/// The values as a model cast to `dtype` has them.
std::span<const float> cast(DType dtype, Scratch& scratch) {
  if (dtype == DType::f32) return scratch.wanted;
  scratch.row.resize(scratch.wanted.size());
  const bool is_f16 = dtype == DType::f16;
  std::ranges::transform(scratch.wanted, scratch.row.begin(), [is_f16](float value) {
    return is_f16 ? f16_to_f32(f32_to_f16(value)) : bf16_to_f32(f32_to_bf16(value));
  });
  return scratch.row;
}

class MlxAffineEncoder final : public Encoder {
 public:
  MlxAffineEncoder(const Target& target, const MlxAffine& module, MlxRule rule)
      : Encoder(target), module_(module), rule_(rule) {}

  void decode(RowRange, StoredBuffers stored, Scratch& scratch, std::span<float> out) const override {
    decode_mlx_affine(module_, target().columns, stored, scratch, out);
  }

 protected:
  std::size_t encode(RowRange rows, BandBuffers out, Scratch& scratch) const override {
    const std::size_t count = scratch.wanted.size();
    const std::size_t groups = count / static_cast<std::size_t>(module_.group);
    scratch.block_codes.resize(count);
    scratch.parameters.resize(2 * groups);
    const auto scales = std::span(scratch.parameters).first(groups);
    const auto biases = std::span(scratch.parameters).last(groups);
    encode_mlx_affine(module_.bits, module_.group, module_.dtype, cast(module_.dtype, scratch), scratch.block_codes,
                      scales, biases, rule_);
    layouts::pack_mlx_rows(module_.bits, rows.size(), target().columns, scratch.block_codes, out[0]);
    store_floats(module_.dtype, scales, out[1]);
    store_floats(module_.dtype, biases, out[2]);
    scratch.steps.assign(scales.begin(), scales.end());
    return static_cast<std::size_t>(module_.group);
  }

 private:
  MlxAffine module_;
  MlxRule rule_;
};

class MlxFloatEncoder final : public Encoder {
 public:
  MlxFloatEncoder(const Target& target, FloatBlocks mode, DType dtype, MlxRule rule)
      : Encoder(target), mode_(mode), dtype_(dtype), rule_(rule) {}

  void decode(RowRange, StoredBuffers stored, Scratch& scratch, std::span<float> out) const override {
    decode_mlx_floats(mode_, target().columns, stored, scratch, out);
  }

 protected:
  std::size_t encode(RowRange rows, BandBuffers out, Scratch& scratch) const override {
    scratch.block_codes.resize(scratch.wanted.size());
    scratch.zeros.resize(scratch.wanted.size() / static_cast<std::size_t>(group_size(mode_)));
    encode_mlx_float(mlx_mode(), dtype_, cast(dtype_, scratch), scratch.block_codes, scratch.zeros, rule_);
    layouts::pack_mlx_rows(code_bits(mode_), rows.size(), target().columns, scratch.block_codes, out[0]);
    std::ranges::copy(std::as_bytes(std::span(scratch.zeros)), out[1].begin());
    return 0;
  }

 private:
  MlxFloatMode mlx_mode() const {
    switch (mode_) {
      case FloatBlocks::mxfp4: return MlxFloatMode::mxfp4;
      case FloatBlocks::mxfp8: return MlxFloatMode::mxfp8;
      case FloatBlocks::nvfp4: break;
    }
    return MlxFloatMode::nvfp4;
  }

  FloatBlocks mode_;
  DType dtype_;
  MlxRule rule_;
};

class GptqEncoder final : public Encoder {
 public:
  GptqEncoder(const Target& target, GptqRepack module) : Encoder(target), packer_(std::move(module), target.columns) {}

  void decode(RowRange rows, StoredBuffers stored, Scratch& scratch, std::span<float> out) const override {
    packer_.decode(rows, stored, scratch, out);
  }

 protected:
  std::size_t encode(RowRange rows, BandBuffers out, Scratch& scratch) const override {
    const GptqRepack& module = packer_.module();
    const auto groups = static_cast<std::size_t>(rows.size() * packer_.groups());
    scratch.block_codes.resize(scratch.wanted.size());
    scratch.zeros.resize(groups);
    scratch.parameters.resize(groups);
    encode_gptq({.bits = module.bits, .sym = module.sym, .group = module.group_size, .module = DType::f32},
                target().columns, scratch.wanted, scratch.block_codes, scratch.parameters, scratch.zeros);
    scratch.d_bits.resize(groups);
    std::ranges::transform(scratch.parameters, scratch.d_bits.begin(), f32_to_f16);
    scratch.steps.assign(scratch.parameters.begin(), scratch.parameters.end());
    packer_.pack(rows, out, scratch);
    return static_cast<std::size_t>(module.groups.width);
  }

 private:
  GptqPacker packer_;
};

}  // namespace

RowMakerPtr make_block_encoder(const Target& target, BlockType type, std::span<const float> importance) {
  return std::make_unique<BlockEncoder>(target, type, importance);
}

RowMakerPtr make_mlx_affine_encoder(const Target& target, const MlxAffine& module, MlxRule rule) {
  return std::make_unique<MlxAffineEncoder>(target, module, rule);
}

RowMakerPtr make_mlx_float_encoder(const Target& target, FloatBlocks mode, DType dtype, MlxRule rule) {
  return std::make_unique<MlxFloatEncoder>(target, mode, dtype, rule);
}

RowMakerPtr make_gptq_encoder(const Target& target, GptqRepack module) {
  return std::make_unique<GptqEncoder>(target, std::move(module));
}

GptqRepack empty_gptq_module(GptqLayout layout, int bits, std::int64_t group, bool symmetric, std::int64_t columns) {
  GptqRepack module;
  module.layout = layout;
  module.bits = bits;
  module.sym = symmetric;
  module.group_size = group;
  const std::int64_t width = group == -1 ? columns : group;
  std::vector<std::int32_t> groups(static_cast<std::size_t>((columns + width - 1) / width));
  for (std::size_t g = 0; g < groups.size(); ++g) groups[g] = static_cast<std::int32_t>(g);
  module.groups = {width, {std::move(groups)}};
  module.index.resize(static_cast<std::size_t>(columns));
  for (std::size_t c = 0; c < module.index.size(); ++c)
    module.index[c] = static_cast<std::int32_t>(static_cast<std::int64_t>(c) / width);
  return module;
}

}  // namespace regauge
