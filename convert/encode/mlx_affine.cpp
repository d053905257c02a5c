#include <algorithm>
#include <bit>
#include <cstddef>

#include "base/error.h"
#include "convert/encode/mlx.h"
#include "convert/encode/range.h"
#include "convert/encode/rounding.h"

namespace regauge {
namespace {

constexpr float kSmallestScale = 1e-7F;

struct Line {
  float scale;
  float bias;
};

/// The value of largest magnitude becomes code 0 and the grid is stretched until 0 lies on it.
template <typename Round>
Line line_through(Range range, float steps, Round round) {
  const bool from_low = std::bit_cast<std::uint32_t>(range.low) << 1 > std::bit_cast<std::uint32_t>(range.high) << 1;
  const float width = (range.high - range.low) / steps;
  const float scale = width < kSmallestScale ? kSmallestScale : width;
  const float signed_scale = from_low ? scale : -scale;
  const float edge = from_low ? range.low : range.high;
  const float whole = round(edge / signed_scale);
  if (whole == 0) return {signed_scale, 0.0F};
  return {edge / whole, edge};
}

/// `round` needs to be right for 0 to 255 only. A quotient that is no number (0 / 0: a constant group so large that its
/// scale is 0) becomes code 0, which is right: the bias alone holds the value.
template <typename Round>
void encode_codes(std::span<const float> values, Line line, float steps, std::span<std::uint8_t> codes, Round round) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    float code = (values[i] - line.bias) / line.scale;
    code = code > 0 ? code : 0;
    code = code < steps ? code : steps;
    codes[i] = static_cast<std::uint8_t>(static_cast<int>(round(code)));
  }
}

void encode_group_cpu(std::span<const float> values, float steps, std::span<std::uint8_t> codes, Line& line) {
  line = line_through(range_of(values), steps, round_half_even);
  encode_codes(values, line, steps, codes, [](float code) { return (code + 8388608.0F) - 8388608.0F; });
}

void encode_group_metal(std::span<const float> values, float steps, std::span<std::uint8_t> codes, Line& line) {
  Range range = range_of(values);
  range.high = std::max(range.high, 0.0F);
  line = line_through(range, steps, round_half_away);
  encode_codes(values, line, steps, codes, round_half_away);
}

}  // namespace

bool mlx_affine_is_legal(int bits, std::int64_t group) noexcept {
  return ((bits >= 2 && bits <= 6) || bits == 8) && (group == 32 || group == 64 || group == 128);
}

void encode_mlx_affine(int bits, std::int64_t group, DType dtype, std::span<const float> values,
                       std::span<std::uint8_t> codes, std::span<float> scales, std::span<float> biases, MlxRule rule) {
  if (!mlx_affine_is_legal(bits, group)) {
    throw Error(ErrorCode::unsupported, "MLX has no affine quantization of {} bits in groups of {}", bits, group);
  }
  const auto width = static_cast<std::size_t>(group);
  if (values.size() % width != 0 || codes.size() != values.size() || scales.size() != values.size() / width ||
      biases.size() != scales.size()) {
    throw Error(ErrorCode::internal, "the parts of an MLX band do not belong together");
  }
  require_finite(values);
  const auto steps = static_cast<float>((1 << bits) - 1);
  const auto encode_group = rule == MlxRule::cpu ? encode_group_cpu : encode_group_metal;
  for (std::size_t g = 0; g < scales.size(); ++g) {
    Line line{};
    encode_group(values.subspan(g * width, width), steps, codes.subspan(g * width, width), line);
    scales[g] = rounded_to(dtype, line.scale);
    biases[g] = rounded_to(dtype, line.bias);
  }
}

}  // namespace regauge
