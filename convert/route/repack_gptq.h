#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "convert/options.h"
#include "convert/route/affine_facts.h"
#include "convert/route/row_maker.h"
#include "formats/layouts/gptq_words.h"

namespace regauge {

/// How integer codes become a GPTQ or Marlin module with the codes kept, a constant aside that moves code and zero point
/// alike.
struct GptqRepack {
  GptqLayout layout = GptqLayout::v1;
  int bits = 4;
  int code_shift = 0;  ///< added to every code and zero point
  DType scale = DType::f16;
  bool rounded = false;             ///< scales have to be rounded
  bool sym = true;                  ///< every zero point is the middle of the code range
  std::int64_t group_size = 128;    ///< -1: all columns
  std::vector<std::int32_t> index;  ///< g_idx: the target group of every column
  bool act_order = false;           ///< index is not column / group_size
  GroupMap groups;                  ///< the source group of every target group; its width is 0 under act-order
};

/// One array of a packed module, in the order of the buffers that a maker fills.
struct PackedArray {
  std::string suffix;  ///< "qweight"
  DType dtype = DType::i32;
  Shape shape;
  bool whole = false;  ///< made with the first band; else a strip of columns a band
};

/// The smallest GPTQ module that holds every value of `source` to the bit in the layout asked for, or the reason why there
/// is none. Column orders that cut groups become a g_idx. `allow_rounded` lets scales be rounded to F16.
/// Sources: ModelCloud/GPTQModel gptqmodel/nn_modules/qlinear/__init__.py (legal sizes); IST-DASLab/marlin
/// marlin/__init__.py and vllm-project/vllm marlin_utils.py (Marlin's).
std::variant<GptqRepack, std::string> plan_gptq_repack(const AffineSource& source, const AffineFacts& facts,
                                                       GptqLayout layout, bool allow_rounded);

/// Why the layout does not take a module of such bits, groups and sizes.
std::optional<std::string> gptq_module_objection(const GptqRepack& module, std::int64_t rows, std::int64_t columns);

/// The arrays of a module of `rows` outputs and `columns` inputs.
std::vector<PackedArray> arrays_of(const GptqRepack& repack, std::int64_t rows, std::int64_t columns);

/// Bands are cut at multiples of this many output rows.
std::int64_t row_quantum(const GptqRepack& repack);

/// The target of `source` must outlive the result.
RowMakerPtr make_gptq_repack(AffineSource source, GptqRepack repack);

}  // namespace regauge
