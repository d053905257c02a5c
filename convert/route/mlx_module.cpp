#include "convert/route/mlx_module.h"

#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/half.h"
#include "formats/layouts/mlx_stream.h"
#include "ir/decode/grouped.h"

namespace regauge {
namespace {

void decode_module(const Grouped& encoding, std::int64_t columns, StoredBuffers stored, Scratch& scratch,
                   std::span<float> out) {
  const std::int64_t rows = static_cast<std::int64_t>(out.size()) / columns;
  scratch.block_codes.resize(out.size());
  layouts::unpack_mlx_rows(encoding.bits, rows, columns, stored[0], scratch.block_codes);
  std::vector<std::int32_t> group_of_column(static_cast<std::size_t>(columns));
  for (std::size_t c = 0; c < group_of_column.size(); ++c)
    group_of_column[c] = static_cast<std::int32_t>(static_cast<std::int64_t>(c) / encoding.group.cols);
  decode_grouped(encoding, rows, columns,
                 {.codes = scratch.block_codes,
                  .scales = stored[1],
                  .offsets = stored.size() > 2 ? stored[2] : std::span<const std::byte>(),
                  .group_of_column = group_of_column,
                  .global_scale = std::nullopt},
                 out);
}

}  // namespace

void store_floats(DType dtype, std::span<const float> values, std::span<std::byte> out) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    switch (dtype) {
      case DType::f16: store_le(out.data() + 2 * i, f32_to_f16(values[i])); break;
      case DType::bf16: store_le(out.data() + 2 * i, f32_to_bf16(values[i])); break;
      default: store_le(out.data() + 4 * i, values[i]); break;
    }
  }
}

void decode_mlx_affine(const MlxAffine& module, std::int64_t columns, StoredBuffers stored, Scratch& scratch,
                       std::span<float> out) {
  decode_module({.bits = module.bits,
                 .group = {1, module.group},
                 .scale = module.dtype,
                 .offset = Offset::bias,
                 .offset_dtype = module.dtype,
                 .flavour = Flavour::mlx},
                columns, stored, scratch, out);
}

void decode_mlx_floats(FloatBlocks mode, std::int64_t columns, StoredBuffers stored, Scratch& scratch,
                       std::span<float> out) {
  decode_module({.code = mode == FloatBlocks::mxfp8 ? CodeKind::e4m3 : CodeKind::e2m1,
                 .bits = code_bits(mode),
                 .group = {1, group_size(mode)},
                 .scale = DType::u8,
                 .flavour = Flavour::mlx},
                columns, stored, scratch, out);
}

}  // namespace regauge
