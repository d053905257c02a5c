#pragma once

#include <string>
#include <variant>

#include "convert/route/affine_facts.h"
#include "convert/route/row_maker.h"

namespace regauge {

/// How integer codes become an affine MLX module with the codes kept.
struct MlxRepack {
  int bits = 4;
  DType dtype = DType::f16;  ///< of scales and biases
  bool rounded = false;
  GroupMap groups;  ///< its width is the group size
};

/// The affine MLX encoding that holds every value of `source` to the bit in the fewest bytes, or the reason why none
/// does: bits of the source or the next width that MLX has, the group size of the source or the largest of 128, 64 and 32
/// over which scale and offset are equal, scales and biases in F16, BF16 or F32.
/// Sources: ml-explore/mlx mlx/ops.cpp, quantize (legal bits and group sizes).
std::variant<MlxRepack, std::string> plan_mlx_repack(const AffineSource& source, const AffineFacts& facts);

/// Bands of weight, scales and biases, in this order. The target of `source` must outlive the result.
RowMakerPtr make_mlx_repack(AffineSource source, MlxRepack repack);

}  // namespace regauge
