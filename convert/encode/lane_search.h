#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "convert/encode/kernels.h"
#include "convert/encode/lane_codes.h"
#include "convert/encode/lanes.h"

namespace regauge::ggml_encode::REGAUGE_LANES_NAMESPACE {

/// The kernels in which every lane is a group of values; scale_search.cpp says what each does for one group.
struct SearchLoops {
  using L = Lanes<REGAUGE_LANES>;
  using F = L::F;
  using I = L::I;

  static constexpr std::size_t kLanes = REGAUGE_LANES;

  /// out[i] holds value i of every group; lanes beyond the last group repeat it.
  REGAUGE_INLINE static void turn(const float* x, std::size_t size, std::size_t groups, F* out) noexcept {
    if (groups >= kLanes) {
      for (std::size_t i = 0; i < size; i += kLanes) L::transposed(x + i, size, out + i);
      return;
    }
    for (std::size_t i = 0; i < size; ++i) {
      for (std::size_t lane = 0; lane < kLanes; ++lane) out[i][lane] = x[std::min(lane, groups - 1) * size + i];
    }
  }

  /// 1.5 * 2^23: the sum with a value below 2^22 is the nearest integer to it, with this added.
  static constexpr float kMagic = 12582912.0F;
  static constexpr float kMagicReach = 0x1p22F;

  struct MinState {
    F scale;
    F min;
    F inverse;  ///< with `offset` what the best codes were made from
    F offset;
  };

  /// Codes x as floats; `sure` says that no product leaves the reach of the magic sum.
  REGAUGE_INLINE static F code_of(const F& product, float largest, bool sure) noexcept {
    if (sure) {
      const F sum = product + kMagic;
      const F low = sum < kMagic ? all<L>(kMagic) : sum;
      const F limited = low > kMagic + largest ? all<L>(kMagic + largest) : low;
      return limited - kMagic;
    }
    return __builtin_convertvector(clamped_ints<L>(nearest_ints<L>(product), 0, static_cast<std::int32_t>(largest)), F);
  }

  template <ErrorNorm Norm>
  REGAUGE_INLINE static F weighted_error(const F* x, const F* w, const F* codes, std::size_t size, const F& scale,
                                         const F& min) noexcept {
    F error{};
    for (std::size_t i = 0; i < size; ++i) {
      const F difference = scale * codes[i] + min - x[i];
      error += w[i] * (Norm == ErrorNorm::absolute ? magnitudes<L>(difference) : difference * difference);
    }
    return error;
  }

  template <ErrorNorm Norm, std::size_t Size>
  REGAUGE_INLINE static void search_min_lanes(const F* x, const F* w, int largest, const ScaleSteps& steps,
                                              MinState& best) noexcept {
    const auto top = static_cast<float>(largest);
    F min = x[0];
    F max = x[0];
    F sum_w = w[0];
    F sum_x = w[0] * x[0];
    for (std::size_t i = 1; i < Size; ++i) {
      min = x[i] < min ? x[i] : min;
      max = x[i] > max ? x[i] : max;
      sum_w += w[i];
      sum_x += w[i] * x[i];
    }
    const F smallest = min;
    min = min > 0 ? F{} : min;
    // Lanes without a range get one, which keeps what they compute harmless, and are overruled at the end.
    const I flat = max == min;
    const F one = all<L>(1.0F);
    best.min = min;
    best.offset = min;
    best.inverse = top / (flat ? one : max - min);
    best.scale = 1.0F / best.inverse;
    F codes[Size];
    const auto code_all = [&](const F& inverse, const F& offset) REGAUGE_INLINE_LAMBDA {
      // Products ascend or descend with the values, so the extremes of a group bound all of them.
      const F one_end = magnitudes<L>(inverse * (smallest - offset));
      const F other_end = magnitudes<L>(inverse * (max - offset));
      const bool sure = !any<L>(~((one_end < kMagicReach) & (other_end < kMagicReach)));
      if (sure) {
        for (std::size_t i = 0; i < Size; ++i) codes[i] = code_of(inverse * (x[i] - offset), top, true);
      } else {
        for (std::size_t i = 0; i < Size; ++i) codes[i] = code_of(inverse * (x[i] - offset), top, false);
      }
    };
    code_all(best.inverse, best.offset);
    F best_error = weighted_error<Norm>(x, w, codes, Size, best.scale, best.min);
    for (int step = 0; step <= steps.steps; ++step) {
      const float numerator = steps.first + steps.step * static_cast<float>(step) + top;
      const F inverse = numerator / (flat ? one : max - best.min);
      code_all(inverse, best.min);
      F sum_l{};
      F sum_l2{};
      F sum_xl{};
      for (std::size_t i = 0; i < Size; ++i) {
        const F wl = w[i] * codes[i];
        sum_l += wl;
        sum_l2 += wl * codes[i];
        sum_xl += wl * x[i];
      }
      const F determinant = sum_w * sum_l2 - sum_l * sum_l;
      const I solvable = determinant > 0;
      if (!any<L>(solvable)) continue;
      F scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
      F fitted_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
      const I positive = fitted_min > 0;
      scale = positive ? sum_xl / sum_l2 : scale;
      fitted_min = positive ? F{} : fitted_min;
      const F error = weighted_error<Norm>(x, w, codes, Size, scale, fitted_min);
      const I better = solvable & (error < best_error);
      best_error = better ? error : best_error;
      best.inverse = better ? inverse : best.inverse;
      best.offset = better ? best.min : best.offset;
      best.scale = better ? scale : best.scale;
      best.min = better ? fitted_min : best.min;
    }
    best.scale = flat ? F{} : best.scale;
    best.min = flat ? min : best.min;
    // All codes of a flat group are 0, and this makes them so.
    best.inverse = flat ? F{} : best.inverse;
    best.offset = flat ? F{} : best.offset;
  }

  template <ErrorNorm Norm, std::size_t Size>
  REGAUGE_INLINE static void search_min_groups(const Groups& groups, int largest, const ScaleSteps& steps,
                                               ScaleMin* found, std::uint8_t* codes) noexcept {
    for (std::size_t first = 0; first < groups.count; first += kLanes) {
      const std::size_t count = std::min(kLanes, groups.count - first);
      F x[Size];
      F w[Size];
      turn(groups.x + first * Size, Size, count, x);
      turn(groups.w + first * Size, Size, count, w);
      MinState best;
      search_min_lanes<Norm, Size>(x, w, largest, steps, best);
      for (std::size_t lane = 0; lane < count; ++lane) {
        found[first + lane] = {best.scale[lane], -best.min[lane]};
        const F inverse = all<L>(best.inverse[lane]);
        const F offset = all<L>(best.offset[lane]);
        const float* values = groups.x + (first + lane) * Size;
        CodeLoops::store_codes(Size, codes + (first + lane) * Size, [&](std::size_t i) REGAUGE_INLINE_LAMBDA {
          return clamped_ints<L>(nearest_ints<L>(inverse * (loaded<F>(values + i) - offset)), 0, largest);
        });
      }
    }
  }

  REGAUGE_LANES_TARGET static void search_scale_min(const Groups& groups, int largest, const ScaleSteps& steps,
                                                    ErrorNorm norm, ScaleMin* found, std::uint8_t* codes) noexcept {
    if (groups.size == 16 && norm == ErrorNorm::absolute) {
      search_min_groups<ErrorNorm::absolute, 16>(groups, largest, steps, found, codes);
    } else if (groups.size == 16) {
      search_min_groups<ErrorNorm::square, 16>(groups, largest, steps, found, codes);
    } else {
      search_min_groups<ErrorNorm::square, 32>(groups, largest, steps, found, codes);
    }
  }

  struct SymmetricFit {
    F codes_x;
    F codes_squared;
  };

  /// Products stay within a step of `half`, because the inverse comes from the extreme of the group.
  template <std::size_t Size>
  REGAUGE_INLINE static SymmetricFit fit(const F* x, const F* w, const F* wx, const F& inverse, float half) noexcept {
    SymmetricFit sums{};
    for (std::size_t i = 0; i < Size; ++i) {
      const F sum = inverse * x[i] + kMagic;
      const F low = sum < kMagic - half ? all<L>(kMagic - half) : sum;
      const F limited = low > kMagic + half - 1 ? all<L>(kMagic + half - 1) : low;
      const F code = limited - kMagic;
      sums.codes_x += wx[i] * code;
      sums.codes_squared += w[i] * code * code;
    }
    return sums;
  }

  template <std::size_t Size>
  REGAUGE_INLINE static void search_groups(const Groups& groups, int half_code, float* scales,
                                           std::uint8_t* codes) noexcept {
    const auto half = static_cast<float>(half_code);
    for (std::size_t first = 0; first < groups.count; first += kLanes) {
      const std::size_t count = std::min(kLanes, groups.count - first);
      F x[Size];
      F w[Size];
      F wx[Size];
      turn(groups.x + first * Size, Size, count, x);
      turn(groups.w + first * Size, Size, count, w);
      F largest{};
      F extreme{};
      for (std::size_t i = 0; i < Size; ++i) {
        const F size = magnitudes<L>(x[i]);
        extreme = size > largest ? x[i] : extreme;
        largest = size > largest ? size : largest;
        wx[i] = w[i] * x[i];
      }
      const I none = largest < kNoMagnitude;
      extreme = none ? all<L>(1.0F) : extreme;
      F best_inverse = -half / extreme;
      const SymmetricFit start = fit<Size>(x, w, wx, best_inverse, half);
      F scale = start.codes_squared != 0 ? start.codes_x / start.codes_squared : F{};
      F best = scale * start.codes_x;
      for (int step = -9; step <= 9; ++step) {
        if (step == 0) continue;
        const F inverse = -(half + 0.1F * static_cast<float>(step)) / extreme;
        const SymmetricFit sums = fit<Size>(x, w, wx, inverse, half);
        const I better = (sums.codes_squared > 0) & (sums.codes_x * sums.codes_x > best * sums.codes_squared);
        if (!any<L>(better)) continue;
        best_inverse = better ? inverse : best_inverse;
        scale = better ? sums.codes_x / sums.codes_squared : scale;
        best = better ? scale * sums.codes_x : best;
      }
      for (std::size_t lane = 0; lane < count; ++lane) {
        std::uint8_t* out = codes + (first + lane) * Size;
        if (none[lane] != 0) {
          scales[first + lane] = 0;
          std::fill_n(out, Size, std::uint8_t{0});
          continue;
        }
        scales[first + lane] = scale[lane];
        const F inverse = all<L>(best_inverse[lane]);
        const float* values = groups.x + (first + lane) * Size;
        CodeLoops::store_codes(Size, out, [&](std::size_t i) REGAUGE_INLINE_LAMBDA {
          return clamped_ints<L>(nearest_ints<L>(inverse * loaded<F>(values + i)), -half_code, half_code - 1) +
                 half_code;
        });
      }
    }
  }

  REGAUGE_LANES_TARGET static void search_scale(const Groups& groups, int half, float* scales,
                                                std::uint8_t* codes) noexcept {
    if (groups.size == 16) {
      search_groups<16>(groups, half, scales, codes);
    } else {
      search_groups<32>(groups, half, scales, codes);
    }
  }
};

}  // namespace regauge::ggml_encode::REGAUGE_LANES_NAMESPACE
