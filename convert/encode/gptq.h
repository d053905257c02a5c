#pragma once

#include <cstdint>
#include <span>

#include "ir/dtype.h"

namespace regauge {

struct GptqEncoding {
  int bits = 4;               ///< 2 to 8
  bool sym = true;            ///< every zero point is the middle of the code range
  std::int64_t group = 128;   ///< columns of a group, the last one of a row perhaps shorter; -1: all columns
  DType module = DType::f32;  ///< type of the module that GPTQModel would quantize, see encode_gptq
};

/// Groups of a row of `columns`. Throws Error{unsupported} for bits and groups that GPTQModel does not take.
std::int64_t gptq_groups(const GptqEncoding& encoding, std::int64_t columns);

/// Quantizes whole rows of `columns` by rounding to the nearest, as GPTQModel does without calibration data: codes q, one a
/// byte, and for each group of a row a scale s, which F16 holds, and a zero point z, weight = s * (q - z). Codes are chosen
/// with the f32 scale that F16 rounds. A symmetric group without negative values keeps the upper half of its range only:
/// that is how its owner computes it, and its large weights are clamped.
///
/// GPTQModel stores the quantized weights in the module's own type before it packs them. In a BF16 module that moves some
/// codes of 8 asymmetric bits by one step, for the worse; `module` asks for that, F32 and F16 are without it.
///
/// Throws Error{unsupported} for NaN and infinities and when a scale is beyond F16; Error{internal} when the spans do not
/// belong together. Safe from any number of threads.
/// Source: ModelCloud/GPTQModel gptqmodel/quantization/quantizer.py (find_params, quantize), rtn.py,
/// nn_modules/qlinear/__init__.py (pack_block).
void encode_gptq(const GptqEncoding& encoding, std::int64_t columns, std::span<const float> values,
                 std::span<std::uint8_t> codes, std::span<float> scales, std::span<std::uint8_t> zeros);

}  // namespace regauge
