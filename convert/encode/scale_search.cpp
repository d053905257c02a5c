#include "convert/encode/scale_search.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "convert/encode/ggml_arithmetic.h"

namespace regauge::ggml_encode {
namespace {

constexpr std::size_t kLargestGroup = 32;

float weighted_error(std::span<const float> x, std::span<const float> w, std::span<const std::uint8_t> codes,
                     float scale, float min, ErrorNorm norm) noexcept {
  float error = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float difference = scale * static_cast<float>(codes[i]) + min - x[i];
    error += w[i] * (norm == ErrorNorm::absolute ? magnitude(difference) : difference * difference);
  }
  return error;
}

void code_from(std::span<const float> x, float min, float inverse, int largest,
               std::span<std::uint8_t> codes) noexcept {
  for (std::size_t i = 0; i < x.size(); ++i) {
    codes[i] = static_cast<std::uint8_t>(clamped(nearest_int(inverse * (x[i] - min)), 0, largest));
  }
}

/// The terms of a least-squares fit of x by codes.
struct Fit {
  float codes_x = 0;
  float codes_squared = 0;
};

Fit symmetric_fit(std::span<const float> x, std::span<const float> w, float inverse, int half) noexcept {
  Fit fit;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto code = static_cast<float>(clamped(nearest_int(inverse * x[i]), -half, half - 1));
    fit.codes_x += w[i] * x[i] * code;
    fit.codes_squared += w[i] * code * code;
  }
  return fit;
}

}  // namespace

ScaleMin search_scale_min(std::span<const float> x, std::span<const float> w, int largest, ScaleSteps steps,
                          ErrorNorm norm, std::span<std::uint8_t> codes) noexcept {
  float min = x[0];
  float max = x[0];
  float sum_w = w[0];
  float sum_x = w[0] * x[0];
  for (std::size_t i = 1; i < x.size(); ++i) {
    if (x[i] < min) min = x[i];
    if (x[i] > max) max = x[i];
    sum_w += w[i];
    sum_x += w[i] * x[i];
  }
  if (min > 0) min = 0;
  if (max == min) {
    std::ranges::fill(codes, std::uint8_t{0});
    return {0, -min};
  }
  const auto top = static_cast<float>(largest);
  const float inverse = top / (max - min);
  ScaleMin best{1 / inverse, min};
  code_from(x, min, inverse, largest, codes);
  float best_error = weighted_error(x, w, codes, best.scale, best.min, norm);
  std::array<std::uint8_t, kLargestGroup> room{};
  const auto trial = std::span(room).first(x.size());
  for (int step = 0; step <= steps.steps; ++step) {
    // The smallest value is the one accepted last, the largest stays that of the values.
    const float tried = (steps.first + steps.step * static_cast<float>(step) + top) / (max - best.min);
    code_from(x, best.min, tried, largest, trial);
    float sum_l = 0;
    float sum_l2 = 0;
    float sum_xl = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const auto code = static_cast<float>(trial[i]);
      sum_l += w[i] * code;
      sum_l2 += w[i] * code * code;
      sum_xl += w[i] * code * x[i];
    }
    const float determinant = sum_w * sum_l2 - sum_l * sum_l;
    if (!(determinant > 0)) continue;
    ScaleMin fitted{(sum_w * sum_xl - sum_x * sum_l) / determinant, (sum_l2 * sum_x - sum_l * sum_xl) / determinant};
    if (fitted.min > 0) fitted = {sum_xl / sum_l2, 0};
    const float error = weighted_error(x, w, trial, fitted.scale, fitted.min, norm);
    if (error < best_error) {
      std::ranges::copy(trial, codes.begin());
      best_error = error;
      best = fitted;
    }
  }
  return {best.scale, -best.min};
}

float search_scale(std::span<const float> x, std::span<const float> w, int half,
                   std::span<std::uint8_t> codes) noexcept {
  const float extreme = signed_extreme(x);
  if (magnitude(extreme) < kNoMagnitude) {
    std::ranges::fill(codes, std::uint8_t{0});
    return 0;
  }
  float inverse = static_cast<float>(-half) / extreme;
  const Fit first = symmetric_fit(x, w, inverse, half);
  float scale = first.codes_squared != 0 ? first.codes_x / first.codes_squared : 0;
  float best = scale * first.codes_x;
  for (int step = -9; step <= 9; ++step) {
    if (step == 0) continue;
    const float tried = -(static_cast<float>(half) + 0.1F * static_cast<float>(step)) / extreme;
    const Fit fit = symmetric_fit(x, w, tried, half);
    if (fit.codes_squared > 0 && fit.codes_x * fit.codes_x > best * fit.codes_squared) {
      inverse = tried;
      scale = fit.codes_x / fit.codes_squared;
      best = scale * fit.codes_x;
    }
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    codes[i] = static_cast<std::uint8_t>(half + clamped(nearest_int(inverse * x[i]), -half, half - 1));
  }
  return scale;
}

float refine_scale(std::span<const float> x, int half, std::span<std::uint8_t> codes) noexcept {
  const float extreme = signed_extreme(x);
  if (magnitude(extreme) < kNoMagnitude) {
    std::ranges::fill(codes, std::uint8_t{0});
    return 0;
  }
  const float inverse = static_cast<float>(-half) / extreme;
  std::array<float, kLargestGroup> code{};
  float sum_lx = 0;
  float sum_l2 = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    code[i] = static_cast<float>(clamped(nearest_int(inverse * x[i]), -half, half - 1));
    const float w = x[i] * x[i];
    sum_lx += w * x[i] * code[i];
    sum_l2 += w * code[i] * code[i];
  }
  constexpr int kSweeps = 5;
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    bool changed = false;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float w = x[i] * x[i];
      float lx = sum_lx - w * x[i] * code[i];
      if (!(lx > 0)) continue;
      float l2 = sum_l2 - w * code[i] * code[i];
      const auto better = static_cast<float>(clamped(nearest_int(x[i] * l2 / lx), -half, half - 1));
      if (better == code[i]) continue;
      lx += w * x[i] * better;
      l2 += w * better * better;
      if (l2 > 0 && lx * lx * sum_l2 > sum_lx * sum_lx * l2) {
        code[i] = better;
        sum_lx = lx;
        sum_l2 = l2;
        changed = true;
      }
    }
    if (!changed) break;
  }
  for (std::size_t i = 0; i < x.size(); ++i) codes[i] = static_cast<std::uint8_t>(static_cast<int>(code[i]) + half);
  return sum_l2 > 0 ? sum_lx / sum_l2 : 0;
}

float search_positive_scale(std::span<const float> x, std::span<const float> w, int largest,
                            std::span<std::uint8_t> codes) noexcept {
  float max = 0;
  for (const float value : x) max = std::max(max, value);
  if (max < kNoMagnitude) {
    std::ranges::fill(codes, std::uint8_t{0});
    return 0;
  }
  const auto top = static_cast<float>(largest);
  float inverse = top / max;
  const auto error_of = [&](float tried, float scale, bool limited) {
    float error = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const int code = nearest_int(tried * x[i]);
      // A value can be negative after all: few weights in a group fit with a negative scale. The reference keeps the first
      // codes in bytes, which such a one wraps around, and does not limit them.
      const int kept = limited ? std::min(code, largest) : static_cast<std::uint8_t>(code);
      const float difference = x[i] - scale * static_cast<float>(kept);
      error += w[i] * difference * difference;
    }
    return error;
  };
  float best = error_of(inverse, 1 / inverse, false);
  for (int step = -4; step <= 4; ++step) {
    if (step == 0) continue;
    const float tried = (0.1F * static_cast<float>(step) + top) / max;
    const float error = error_of(tried, 1 / tried, true);
    if (error < best) {
      best = error;
      inverse = tried;
    }
  }
  float sum_lx = 0;
  float sum_l2 = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const int limited = std::min(largest, nearest_int(inverse * x[i]));
    codes[i] = static_cast<std::uint8_t>(limited);
    const auto code = static_cast<float>(limited);
    sum_lx += w[i] * x[i] * code;
    sum_l2 += w[i] * code * code;
  }
  constexpr int kSweeps = 5;
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    bool changed = false;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const auto code = static_cast<float>(codes[i]);
      float lx = sum_lx - w[i] * x[i] * code;
      float l2 = sum_l2 - w[i] * code * code;
      if (!(lx > 0 && l2 > 0)) continue;
      const int better = std::min(largest, nearest_int(x[i] * l2 / lx));
      if (better == codes[i]) continue;
      const auto value = static_cast<float>(better);
      lx += w[i] * x[i] * value;
      l2 += w[i] * value * value;
      if (lx * lx * sum_l2 > sum_lx * sum_lx * l2) {
        codes[i] = static_cast<std::uint8_t>(better);
        sum_lx = lx;
        sum_l2 = l2;
        changed = true;
      }
    }
    if (!changed) break;
  }
  return sum_l2 > 0 ? sum_lx / sum_l2 : 0;
}

}  // namespace regauge::ggml_encode
