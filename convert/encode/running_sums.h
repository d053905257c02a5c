#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "convert/encode/kernels.h"

namespace regauge::ggml_encode {

/// Sixteen sums of each kind: value i of a measured run goes to the (i mod 16)th of them, and at the end they are added one
/// after another. That makes the order of additions one and the same for vectors of every width.
struct RunningSums {
  static constexpr std::size_t kCount = 16;

  float error[kCount] = {};
  float source[kCount] = {};
  float worst[kCount] = {};
  float worst_steps[kCount] = {};
  std::int32_t changed[kCount] = {};

  /// `step` is 0 where there is none.
  void add(std::size_t i, float wanted, float stored, float step) noexcept {
    const std::size_t sum = i % kCount;
    const float difference = stored - wanted;
    const float size = magnitude_of(difference);
    error[sum] += difference * difference;
    source[sum] += wanted * wanted;
    worst[sum] = size > worst[sum] ? size : worst[sum];
    changed[sum] += stored != wanted ? 1 : 0;
    if (step == 0) return;
    const float steps = size / magnitude_of(step);
    worst_steps[sum] = steps > worst_steps[sum] ? steps : worst_steps[sum];
  }

  Differences total() const noexcept {
    Differences total{};
    for (std::size_t i = 0; i < kCount; ++i) {
      total.error += error[i];
      total.source += source[i];
      total.worst = worst[i] > total.worst ? worst[i] : total.worst;
      total.worst_steps = worst_steps[i] > total.worst_steps ? worst_steps[i] : total.worst_steps;
      total.changed += static_cast<std::uint32_t>(changed[i]);
    }
    return total;
  }

 private:
  static float magnitude_of(float value) noexcept {
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) & 0x7FFFFFFFU);
  }
};

}  // namespace regauge::ggml_encode
