#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>

#include "convert/encode/kernels.h"
#include "convert/encode/lanes.h"

namespace regauge::ggml_encode::REGAUGE_LANES_NAMESPACE {

/// The kernels in which every lane is a value of its own; plain_kernels.cpp says what each does.
struct CodeLoops {
  using L = Lanes<REGAUGE_LANES>;
  using F = L::F;
  using I = L::I;

  static constexpr std::size_t kLanes = REGAUGE_LANES;

  REGAUGE_LANES_TARGET static bool all_finite(std::span<const float> values) noexcept {
    const float* x = values.data();
    const auto below = [x](std::size_t at) REGAUGE_INLINE_LAMBDA {
      // Negative as long as the exponent is not full.
      return (loaded<I>(x + at) & 0x7FFFFFFF) - 0x7F800000;
    };
    I all = ~I{};
    I all_too = ~I{};
    std::size_t i = 0;
    for (; i + 4 * kLanes <= values.size(); i += 4 * kLanes) {
      all &= below(i) & below(i + kLanes);
      all_too &= below(i + 2 * kLanes) & below(i + 3 * kLanes);
    }
    all &= all_too;
    std::uint32_t rest = 0;
    for (; i < values.size(); ++i) rest |= (std::bit_cast<std::uint32_t>(x[i]) & 0x7FFFFFFFU) + 0x00800000U;
    return !any<L>(all >= 0) && rest < 0x80000000U;
  }

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
};

}  // namespace regauge::ggml_encode::REGAUGE_LANES_NAMESPACE
