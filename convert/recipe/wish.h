#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "convert/route/repack_fp.h"
#include "formats/format.h"
#include "ir/dtype.h"
#include "ir/encoding.h"
#include "ir/ggml_type.h"

namespace regauge {

/// The smallest encoding that holds the values to the bit.
struct ExactWish {
  bool operator==(const ExactWish&) const = default;
};

/// Integer codes with a scale and an offset per group of columns, which GPTQ and MLX's affine mode have alike.
struct AffineWish {
  int bits = 4;
  std::int64_t group = 0;  ///< columns; -1: a whole row; 0: what the target's own tools take by default
  bool symmetric = true;   ///< GPTQ: the zero point is the middle of the codes; MLX has a bias either way
  bool operator==(const AffineWish&) const = default;
};

/// What a rule asks a tensor to be stored as. mxfp4 and nvfp4 are FloatBlocks, whichever format holds them.
using Wish = std::variant<ExactWish, DType, BlockType, AffineWish, FloatBlocks>;

/// "exact", "bf16", "Q4_K", "int4-g128-asym", "mxfp4"
std::string to_string(const Wish& wish);

/// The inverse, in any case: a ggml type by its name, f32, f16, bf16, "int4", "int4-g64", "int4-g128-asym", "int8-g-1" (a
/// whole row), "mxfp4", "mxfp8", "nvfp4", "exact". Nothing for anything else.
std::optional<Wish> wish_from_text(std::string_view text);

/// What an encoding of a tensor of `columns` is in these words; nothing for what only its owner understands.
std::optional<Wish> wish_like(const Encoding& encoding, std::int64_t columns);

/// The same in the words of a format: integer codes of b bits where it has blocks and the other way round, default groups
/// filled in. Nothing where the format has nothing of the kind (quantized values in a plain safetensors file).
std::optional<Wish> translate(const Wish& wish, const Format& format);

/// The block type llama-quantize takes instead where rows of `columns` elements do not divide into blocks of `type`: one
/// with blocks of 32, or F16. Source: ggml-org/llama.cpp tools/quantize and src/llama-quant.cpp, as observed.
std::variant<DType, BlockType> fit_blocks(BlockType type, std::int64_t columns);

}  // namespace regauge
