#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

#include "convert/encode/kernels.h"
#include "convert/encode/lanes.h"

namespace regauge::ggml_encode::REGAUGE_LANES_NAMESPACE {

/// The kernels for vectors of REGAUGE_LANES floats; plain_kernels.cpp says what each does. Only a file that compiles them
/// for a CPU includes this.
struct Loops {
  using L = Lanes<REGAUGE_LANES>;
  using F = L::F;
  using I = L::I;

  static constexpr std::size_t kLanes = REGAUGE_LANES;
  static constexpr std::size_t kLargestGroup = 32;
  /// 1.5 * 2^23: the sum with a value below 2^22 is the nearest integer to it, with this added.
  static constexpr float kMagic = 12582912.0F;
  static constexpr float kMagicReach = 0x1p22F;

  REGAUGE_LANES_TARGET static bool all_finite(std::span<const float> values) noexcept {
    const float* x = values.data();
    const auto one_up = [x](std::size_t at) REGAUGE_INLINE_LAMBDA {
      // Adding one to a full exponent reaches the sign bit.
      return (loaded<I>(x + at) & 0x7FFFFFFF) + 0x00800000;
    };
    I reached{};
    I reached_too{};
    std::size_t i = 0;
    for (; i + 4 * kLanes <= values.size(); i += 4 * kLanes) {
      reached |= one_up(i) | one_up(i + kLanes);
      reached_too |= one_up(i + 2 * kLanes) | one_up(i + 3 * kLanes);
    }
    reached |= reached_too;
    std::uint32_t rest = 0;
    for (; i < values.size(); ++i) rest |= (std::bit_cast<std::uint32_t>(x[i]) & 0x7FFFFFFFU) + 0x00800000U;
    return !any<L>(reached < 0) && rest < 0x80000000U;
  }

  // ---- searches: a lane is a group ----

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
        store_codes(Size, codes + (first + lane) * Size, [&](std::size_t i) REGAUGE_INLINE_LAMBDA {
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
        store_codes(Size, out, [&](std::size_t i) REGAUGE_INLINE_LAMBDA {
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

  // ---- codes: a lane is a value ----

  /// Writes code(i), code(i + lanes), ... as bytes for `count` values, a multiple of 16.
  template <typename Code>
  REGAUGE_INLINE static void store_codes(std::size_t count, std::uint8_t* out, Code code) noexcept {
    for (std::size_t i = 0; i < count; i += 4 * kLanes) {
      const I first = code(i);
      const I second = code(i + kLanes);
      if (i + 4 * kLanes > count) {  // 16 values in lanes of eight
        const auto bytes = L::bytes_of(first, second, first, second);
        std::memcpy(out + i, &bytes, 2 * kLanes);
        return;
      }
      store(out + i, L::bytes_of(first, second, code(i + 2 * kLanes), code(i + 3 * kLanes)));
    }
  }

  REGAUGE_LANES_TARGET static void code_by_steps(const Groups& groups, const Steps& steps,
                                                 std::uint8_t* codes) noexcept {
    for (std::size_t group = 0; group < groups.count; ++group) {
      if (steps.steps[group] == 0) continue;
      const float* x = groups.x + group * groups.size;
      const F step = all<L>(steps.steps[group]);
      const F offset = all<L>(steps.offsets == nullptr ? 0.0F : steps.offsets[group]);
      store_codes(groups.size, codes + group * groups.size, [&](std::size_t i) REGAUGE_INLINE_LAMBDA {
        return clamped_ints<L>(nearest_ints<L>((loaded<F>(x + i) + offset) / step), steps.low, steps.high) - steps.low;
      });
    }
  }

  struct Ends {
    float min;
    float max;
  };

  REGAUGE_INLINE static Ends ends_of_block(const float* x) noexcept {
    F min = loaded<F>(x);
    F max = min;
    for (std::size_t i = kLanes; i < 32; i += kLanes) {
      const F v = loaded<F>(x + i);
      min = v < min ? v : min;
      max = v > max ? v : max;
    }
    return {-L::largest(-min), L::largest(max)};
  }

  REGAUGE_INLINE static bool is_infinite(float value) noexcept {
    return value > std::numeric_limits<float>::max() || value < -std::numeric_limits<float>::max();
  }

  REGAUGE_LANES_TARGET static void code_symmetric(std::span<const float> x, int half, float* scales,
                                                  std::uint8_t* codes) noexcept {
    const float share = -1.0F / static_cast<float>(half);
    const F middle = all<L>(static_cast<float>(half) + 0.5F);
    const F highest = all<L>(static_cast<float>(2 * half - 1) + 0.5F);
    for (std::size_t at = 0; at < x.size(); at += 32) {
      const float* values = x.data() + at;
      const Ends ends = ends_of_block(values);
      // An index, for the sign is anybody's guess and a wrong one is dear.
      const float extremes[2] = {ends.min, ends.max};
      const float extreme = extremes[ends.max > -ends.min ? 1 : 0];
      const float scale = extreme * share;  // half is a power of two, so this is the division
      const float inverse = 1.0F / scale;
      // Of two extremes the first counts, and a scale too small to have an inverse is a case of its own.
      if (ends.max == -ends.min || is_infinite(inverse)) {
        kPlainKernels.code_symmetric({values, 32}, half, scales + at / 32, codes + at);
        continue;
      }
      scales[at / 32] = scale;
      const F factor = all<L>(inverse);
      store_codes(32, codes + at, [&](std::size_t i) REGAUGE_INLINE_LAMBDA {
        const F sum = loaded<F>(values + i) * factor + middle;
        return __builtin_convertvector(sum > highest ? highest : sum, I);
      });
    }
  }

  REGAUGE_LANES_TARGET static void code_affine(std::span<const float> x, int largest, ScaleMin* found,
                                               std::uint8_t* codes) noexcept {
    const F highest = all<L>(static_cast<float>(largest) + 0.5F);
    for (std::size_t at = 0; at < x.size(); at += 32) {
      const float* values = x.data() + at;
      const Ends ends = ends_of_block(values);
      const float range = ends.max - ends.min;
      const float scale = range / static_cast<float>(largest);
      const float inverse = 1.0F / scale;
      // The sign of a minimum of 0 is that of the first zero, so zeros are left to the plain form, too.
      if (ends.min == 0 || is_infinite(inverse) || is_infinite(range)) {
        kPlainKernels.code_affine({values, 32}, largest, found + at / 32, codes + at);
        continue;
      }
      found[at / 32] = {scale, ends.min};
      const F factor = all<L>(inverse);
      const F min = all<L>(ends.min);
      store_codes(32, codes + at, [&](std::size_t i) REGAUGE_INLINE_LAMBDA {
        const F sum = (loaded<F>(values + i) - min) * factor + 0.5F;
        return __builtin_convertvector(sum > highest ? highest : sum, I);
      });
    }
  }

  REGAUGE_LANES_TARGET static void code_signed(std::span<const float> x, float* scales, std::uint8_t* codes) noexcept {
    for (std::size_t at = 0; at < x.size(); at += 32) {
      const float* values = x.data() + at;
      F largest{};
      for (std::size_t i = 0; i < 32; i += kLanes) {
        const F v = magnitudes<L>(loaded<F>(values + i));
        largest = v > largest ? v : largest;
      }
      const float scale = L::largest(largest) / 127.0F;
      float inverse = 1.0F / scale;
      // No scale, or none with an inverse: all codes are 0.
      if (is_infinite(inverse)) inverse = 0;
      scales[at / 32] = scale;
      round_values(values, 32, inverse, codes + at);
    }
  }

  REGAUGE_LANES_TARGET static void round_scaled(std::span<const float> x, float inverse, std::uint8_t* codes) noexcept {
    round_values(x.data(), x.size(), inverse, codes);
  }

  REGAUGE_INLINE static void round_values(const float* values, std::size_t count, float inverse,
                                          std::uint8_t* codes) noexcept {
    const F factor = all<L>(inverse);
    store_codes(count, codes, [&](std::size_t i) REGAUGE_INLINE_LAMBDA {
      return rounded_half_away<L>(loaded<F>(values + i) * factor);
    });
  }

  REGAUGE_LANES_TARGET static void code_e2m1(std::span<const float> x, float scale, std::uint8_t* codes) noexcept {
    // Of levels with the other sign none is nearer than zero, also as distances round, and those with the same sign are as
    // far away as their magnitudes are from that of the value: eight levels will do.
    constexpr float kLevels[] = {0, 1, 2, 3, 4, 6, 8, 12};
    F levels[8];
    for (std::size_t code = 0; code < 8; ++code) levels[code] = all<L>(kLevels[code] * scale);
    const float* values = x.data();
    store_codes(x.size(), codes, [&](std::size_t at) REGAUGE_INLINE_LAMBDA {
      const F value = loaded<F>(values + at);
      const F size = magnitudes<L>(value);
      F least = magnitudes<L>(levels[0] - size);
      I best{};
      I code{};
      for (std::size_t i = 1; i < 8; ++i) {
        code = code + 1;
        const F distance = magnitudes<L>(levels[i] - size);
        const I nearer = distance < least;
        least = nearer ? distance : least;
        best = nearer ? code : best;
      }
      return best | ((value < 0) & (best != 0) & 8);
    });
  }

  static constexpr Kernels table(std::string_view name) noexcept {
    return {name,           all_finite,  search_scale_min, search_scale, code_by_steps,
            code_symmetric, code_affine, code_signed,      round_scaled, code_e2m1};
  }
};

}  // namespace regauge::ggml_encode::REGAUGE_LANES_NAMESPACE
