#include "convert/encode/gptq.h"

#include <algorithm>
#include <cstddef>

#include "base/error.h"
#include "base/half.h"
#include "convert/encode/range.h"
#include "convert/encode/rounding.h"

namespace regauge {
namespace {

struct Grid {
  float scale;
  float zero;
  float top;  ///< largest code
};

Grid grid_of(const GptqEncoding& encoding, Range range) {
  float low = std::min(range.low, 0.0F);
  float high = std::max(range.high, 0.0F);
  const auto top = static_cast<float>((1 << encoding.bits) - 1);
  if (encoding.sym) {
    high = std::max(-low, high);
    if (low < 0) low = -high;
  }
  if (low == 0 && high == 0) {
    low = -1;
    high = 1;
  }
  const float scale = (high - low) / top;
  if (encoding.sym) return {scale, static_cast<float>(1 << (encoding.bits - 1)), top};
  // Only a scale that is itself among the last subnormals can give a quotient beyond the codes, or none.
  const float zero = scale > 0 ? round_half_even(-low / scale) : 0.0F;
  return {scale, std::min(zero, top), top};
}

/// With a scale of 0, every value is the zero point.
void encode_codes(std::span<const float> weights, const Grid& grid, std::span<std::uint8_t> codes) {
  if (grid.scale == 0) {
    std::ranges::fill(codes, static_cast<std::uint8_t>(static_cast<int>(grid.zero)));
    return;
  }
  // As round_half_even(), of quotients that are small because the scale comes from the largest of them.
  constexpr float kWhole = 12582912.0F;  // 1.5 * 2^23
  for (std::size_t i = 0; i < weights.size(); ++i) {
    float code = ((weights[i] / grid.scale + kWhole) - kWhole) + grid.zero;
    code = code > 0 ? code : 0;
    code = code < grid.top ? code : grid.top;
    codes[i] = static_cast<std::uint8_t>(static_cast<int>(code));
  }
}

/// What a packer finds in a weight that went through `module`.
float code_after(DType module, float code, const Grid& grid) {
  if (grid.scale == 0) return code;
  const float stored = rounded_to(module, grid.scale * (code - grid.zero));
  return std::clamp(round_half_even((stored + grid.zero * grid.scale) / grid.scale), 0.0F, grid.top);
}

float scale_in_f16(float scale) {
  const float stored = f16_to_f32(f32_to_f16(scale));
  if (stored > 65504.0F) throw Error(ErrorCode::unsupported, "a scale of {} is beyond F16", scale);
  return stored;
}

}  // namespace

std::int64_t gptq_groups(const GptqEncoding& encoding, std::int64_t columns) {
  if (encoding.bits < 2 || encoding.bits > 8) {
    throw Error(ErrorCode::unsupported, "GPTQ has 2 to 8 bits, not {}", encoding.bits);
  }
  if (encoding.group != -1 && encoding.group < 1) {
    throw Error(ErrorCode::unsupported, "GPTQ has no groups of {} columns", encoding.group);
  }
  if (columns < 1) throw Error(ErrorCode::unsupported, "a matrix without columns has no GPTQ form");
  return encoding.group == -1 ? 1 : (columns - 1) / encoding.group + 1;
}

void encode_gptq(const GptqEncoding& encoding, std::int64_t columns, std::span<const float> values,
                 std::span<std::uint8_t> codes, std::span<float> scales, std::span<std::uint8_t> zeros) {
  const auto groups = static_cast<std::size_t>(gptq_groups(encoding, columns));
  const auto row = static_cast<std::size_t>(columns);
  const std::size_t width = encoding.group == -1 ? row : static_cast<std::size_t>(encoding.group);
  if (values.size() % row != 0 || codes.size() != values.size() || scales.size() != values.size() / row * groups ||
      zeros.size() != scales.size()) {
    throw Error(ErrorCode::internal, "the parts of a GPTQ band do not belong together");
  }
  require_finite(values);
  for (std::size_t g = 0; g < scales.size(); ++g) {
    const std::size_t begin = g / groups * row + g % groups * width;
    const std::size_t count = std::min(width, row - g % groups * width);
    const auto weights = values.subspan(begin, count);
    const Grid grid = grid_of(encoding, range_of(weights));
    scales[g] = scale_in_f16(grid.scale);
    zeros[g] = static_cast<std::uint8_t>(static_cast<int>(grid.zero));
    const auto out = codes.subspan(begin, count);
    encode_codes(weights, grid, out);
    if (encoding.module == DType::f32) continue;
    for (std::uint8_t& code : out) {
      code = static_cast<std::uint8_t>(static_cast<int>(code_after(encoding.module, static_cast<float>(code), grid)));
    }
  }
}

}  // namespace regauge
