#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "convert/encode/scale_search.h"

namespace regauge::ggml_encode {

/// `count` groups of `size` values (16 or 32) that follow one another in memory, and their weights likewise.
struct Groups {
  const float* x;
  const float* w;
  std::size_t size;
  std::size_t count;
};

/// How finished groups are coded: code i of a group is nearest_int((x[i] + its offset) / its step), limited to
/// [low, high], less `low`.
struct Steps {
  const float* steps;    ///< one per group; groups whose step is 0 keep the codes that they have
  const float* offsets;  ///< one per group, or null for none
  std::int32_t low;
  std::int32_t high;
};

/// How values as they were stored differ from those that were wanted, in f32.
struct Differences {
  float error = 0;            ///< sum of the squared differences
  float source = 0;           ///< sum of the squares of what was wanted
  float worst = 0;            ///< the largest difference
  float worst_steps = 0;      ///< the largest share of a difference in the step of its run
  std::uint32_t changed = 0;  ///< values that differ, NaN from NaN too
};

/// What takes the encoders' time, as loops that a CPU may have a better form of. Every form gives the same bits for finite
/// values: lanes of a vector are groups of values, or running sums, that do not know of each other, so that no sum changes
/// its order.
struct Kernels {
  std::string_view name;
  bool (*all_finite)(std::span<const float> values) noexcept;
  /// search_scale_min and search_scale of scale_search.h for every group.
  void (*search_scale_min)(const Groups& groups, int largest, const ScaleSteps& steps, ErrorNorm norm, ScaleMin* found,
                           std::uint8_t* codes) noexcept;
  void (*search_scale)(const Groups& groups, int half, float* scales, std::uint8_t* codes) noexcept;
  void (*code_by_steps)(const Groups& groups, const Steps& steps, std::uint8_t* codes) noexcept;
  /// Blocks of 32 values as Q4_0 and Q5_0 code them: the extreme of a block becomes -half, codes have `half` added.
  void (*code_symmetric)(std::span<const float> x, int half, float* scales, std::uint8_t* codes) noexcept;
  /// As Q4_1 and Q5_1 do: codes 0..largest from the smallest value on, which goes to `found` as it is.
  void (*code_affine)(std::span<const float> x, int largest, ScaleMin* found, std::uint8_t* codes) noexcept;
  /// As Q8_0 does: the largest magnitude of a block becomes 127 or -127; codes are signed.
  void (*code_signed)(std::span<const float> x, float* scales, std::uint8_t* codes) noexcept;
  /// round(x * inverse) as signed bytes, ties away from zero; `x` has a multiple of 32 values, and no product is above 127.
  void (*round_scaled)(std::span<const float> x, float inverse, std::uint8_t* codes) noexcept;
  /// The first of the sixteen doubled e2m1 values times `scale` that is nearest; `x` has 16 or 32 values.
  void (*code_e2m1)(std::span<const float> x, float scale, std::uint8_t* codes) noexcept;
  /// Holds as many stored values against those wanted. Each run of `width` values, a multiple of 16 but in the plain form,
  /// has its step in `steps`, unless that is null; steps of 0 do not count. A NaN is in the sums and in no largest one.
  /// RunningSums says in which order sums are taken.
  Differences (*measure)(std::span<const float> wanted, std::span<const float> stored, const float* steps,
                         std::size_t width) noexcept;
};

/// The loops that follow the reference one value at a time: what the others must equal.
extern const Kernels kPlainKernels;
/// Vectors of four floats, which every CPU has in some form.
extern const Kernels kFourLaneKernels;
/// Vectors of eight floats, on x86-64 alone.
extern const Kernels kAvx2Kernels;

/// The forms that this CPU can run, the fastest first and the plain one last.
std::span<const Kernels* const> kernels_here() noexcept;

}  // namespace regauge::ggml_encode
