#include <algorithm>
#include <array>
#include <limits>

#include "convert/encode/ggml_arithmetic.h"
#include "convert/encode/kernels.h"
#include "convert/encode/running_sums.h"

namespace regauge::ggml_encode {
namespace {

constexpr std::size_t kBlock = 32;

bool all_finite(std::span<const float> values) noexcept {
  return std::ranges::none_of(
      values, [](float value) { return magnitude(value) > std::numeric_limits<float>::max() || value != value; });
}

void search_scale_min_of_each(const Groups& groups, int largest, const ScaleSteps& steps, ErrorNorm norm,
                              ScaleMin* found, std::uint8_t* codes) noexcept {
  const std::size_t size = groups.size;
  for (std::size_t i = 0; i < groups.count; ++i) {
    found[i] = search_scale_min({groups.x + i * size, size}, {groups.w + i * size, size}, largest, steps, norm,
                                {codes + i * size, size});
  }
}

void search_scale_of_each(const Groups& groups, int half, float* scales, std::uint8_t* codes) noexcept {
  const std::size_t size = groups.size;
  for (std::size_t i = 0; i < groups.count; ++i) {
    scales[i] = search_scale({groups.x + i * size, size}, {groups.w + i * size, size}, half, {codes + i * size, size});
  }
}

void code_by_steps(const Groups& groups, const Steps& steps, std::uint8_t* codes) noexcept {
  for (std::size_t group = 0; group < groups.count; ++group) {
    const float step = steps.steps[group];
    if (step == 0) continue;
    const float offset = steps.offsets == nullptr ? 0.0F : steps.offsets[group];
    for (std::size_t i = group * groups.size; i < (group + 1) * groups.size; ++i) {
      const int code = clamped(nearest_int((groups.x[i] + offset) / step), steps.low, steps.high);
      codes[i] = static_cast<std::uint8_t>(code - steps.low);
    }
  }
}

void code_symmetric(std::span<const float> x, int half, float* scales, std::uint8_t* codes) noexcept {
  for (std::size_t at = 0; at < x.size(); at += kBlock) {
    const float scale = signed_extreme(x.subspan(at, kBlock)) / static_cast<float>(-half);
    const float inverse = reciprocal(scale);
    scales[at / kBlock] = scale;
    for (std::size_t i = at; i < at + kBlock; ++i) {
      // The reference goes through a signed byte, which a scale with an infinite inverse makes 0.
      const auto code = static_cast<std::int8_t>(truncated(x[i] * inverse + (static_cast<float>(half) + 0.5F)));
      codes[i] = static_cast<std::uint8_t>(std::min<int>(2 * half - 1, code));
    }
  }
}

void code_affine(std::span<const float> x, int largest, ScaleMin* found, std::uint8_t* codes) noexcept {
  for (std::size_t at = 0; at < x.size(); at += kBlock) {
    float min = std::numeric_limits<float>::max();
    float max = -std::numeric_limits<float>::max();
    for (const float value : x.subspan(at, kBlock)) {
      if (value < min) min = value;
      if (value > max) max = value;
    }
    const float scale = (max - min) / static_cast<float>(largest);
    const float inverse = reciprocal(scale);
    found[at / kBlock] = {scale, min};
    for (std::size_t i = at; i < at + kBlock; ++i) {
      const auto code = static_cast<std::int8_t>(truncated((x[i] - min) * inverse + 0.5F));
      codes[i] = static_cast<std::uint8_t>(std::min<int>(largest, code));
    }
  }
}

void round_scaled(std::span<const float> x, float inverse, std::uint8_t* codes) noexcept {
  for (std::size_t i = 0; i < x.size(); ++i) codes[i] = static_cast<std::uint8_t>(nearest_away(x[i] * inverse));
}

void code_signed(std::span<const float> x, float* scales, std::uint8_t* codes) noexcept {
  for (std::size_t at = 0; at < x.size(); at += kBlock) {
    const auto block = x.subspan(at, kBlock);
    scales[at / kBlock] = magnitude(signed_extreme(block)) / 127.0F;
    round_scaled(block, reciprocal(scales[at / kBlock]), codes + at);
  }
}

/// Doubled e2m1 values; code 8 is +0 here, so that code 0 is always chosen before it.
/// Source: ggml-org/ggml src/ggml-common.h, kvalues_mxfp4.
constexpr std::array<float, 16> kLevels{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

void code_e2m1(std::span<const float> x, float scale, std::uint8_t* codes) noexcept {
  for (std::size_t i = 0; i < x.size(); ++i) {
    unsigned best = 0;
    float least = magnitude(kLevels[0] * scale - x[i]);
    for (unsigned code = 1; code < kLevels.size(); ++code) {
      const float distance = magnitude(kLevels[code] * scale - x[i]);
      if (distance < least) {
        least = distance;
        best = code;
      }
    }
    codes[i] = static_cast<std::uint8_t>(best);
  }
}

Differences measure(std::span<const float> wanted, std::span<const float> stored, const float* steps,
                    std::size_t width) noexcept {
  RunningSums sums;
  for (std::size_t i = 0; i < wanted.size(); ++i)
    sums.add(i, wanted[i], stored[i], steps == nullptr ? 0.0F : steps[i / width]);
  return sums.total();
}

}  // namespace

constinit const Kernels kPlainKernels{
    "plain",
    all_finite,
    search_scale_min_of_each,
    search_scale_of_each,
    code_by_steps,
    code_symmetric,
    code_affine,
    code_signed,
    round_scaled,
    code_e2m1,
    measure,
};

}  // namespace regauge::ggml_encode
