#pragma once

#include <cstdint>
#include <span>

namespace regauge::ggml_encode {

// The searches that ggml's quantizers share: which scale (and minimum) and which codes fit a group of values best, by
// weighted error. All sums are in index order. Groups have at most 32 values. `codes` has the size of `x`.

/// Groups whose magnitudes are all below this get scale 0. Source: ggml-org/ggml src/ggml-quants.c, GROUP_MAX_EPS.
constexpr float kNoMagnitude = 1e-15F;

struct ScaleMin {
  float scale = 0;
  float min = 0;  ///< what is taken off, so minus the smallest value
};

/// Which scales an asymmetric search tries: (first + step * i + largest code) / (range of the values) for i = 0..steps.
struct ScaleSteps {
  float first;
  float step;
  int steps;
};

enum class ErrorNorm : std::uint8_t { square, absolute };

/// Best scale, minimum and codes 0..largest for `x` weighted by `w`.
/// Source: ggml-org/ggml src/ggml-quants.c, make_qkx2_quants and make_qkx3_quants.
ScaleMin search_scale_min(std::span<const float> x, std::span<const float> w, int largest, ScaleSteps steps,
                          ErrorNorm norm, std::span<std::uint8_t> codes) noexcept;

/// Best scale and codes -half..half-1, stored with `half` added. Source: ggml-org/ggml src/ggml-quants.c, make_qx_quants
/// with rmse_type 1 or with weights.
float search_scale(std::span<const float> x, std::span<const float> w, int half,
                   std::span<std::uint8_t> codes) noexcept;

/// The same with the squares as weights and no scales tried but one: codes are bettered one by one instead.
/// Source: ggml-org/ggml src/ggml-quants.c, make_q3_quants.
float refine_scale(std::span<const float> x, int half, std::span<std::uint8_t> codes) noexcept;

/// Best scale and codes 0..largest for values of which none is negative, as scales and minimums are. Source: ggml-org/ggml
/// src/ggml-quants.c, make_qp_quants.
float search_positive_scale(std::span<const float> x, std::span<const float> w, int largest,
                            std::span<std::uint8_t> codes) noexcept;

}  // namespace regauge::ggml_encode
