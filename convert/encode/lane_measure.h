#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "convert/encode/kernels.h"
#include "convert/encode/lanes.h"
#include "convert/encode/running_sums.h"

namespace regauge::ggml_encode::REGAUGE_LANES_NAMESPACE {

/// Kernels::measure with a running sum in every lane.
struct MeasureLoops {
  using L = Lanes<REGAUGE_LANES>;
  using F = L::F;
  using I = L::I;

  static constexpr std::size_t kLanes = REGAUGE_LANES;
  static constexpr std::size_t kVectors = RunningSums::kCount / kLanes;

  REGAUGE_LANES_TARGET static Differences measure(std::span<const float> wanted, std::span<const float> stored,
                                                  const float* steps, std::size_t width) noexcept {
    F error[kVectors] = {};
    F source[kVectors] = {};
    F worst[kVectors] = {};
    F worst_steps[kVectors] = {};
    I changed[kVectors] = {};
    const std::size_t whole = wanted.size() / RunningSums::kCount * RunningSums::kCount;
    for (std::size_t begin = 0, run = 0; begin < whole; begin += width, ++run) {
      F largest[kVectors] = {};
      for (std::size_t i = begin; i < std::min(begin + width, whole); i += RunningSums::kCount) {
        for (std::size_t v = 0; v < kVectors; ++v) {
          const F from = loaded<F>(wanted.data() + i + v * kLanes);
          const F to = loaded<F>(stored.data() + i + v * kLanes);
          const F difference = to - from;
          error[v] += difference * difference;
          source[v] += from * from;
          const F size = magnitudes<L>(difference);
          largest[v] = size > largest[v] ? size : largest[v];
          changed[v] -= to != from;
        }
      }
      const F step = magnitudes<L>(all<L>(steps == nullptr ? 0.0F : steps[run]));
      for (std::size_t v = 0; v < kVectors; ++v) {
        worst[v] = largest[v] > worst[v] ? largest[v] : worst[v];
        if (step[0] == 0) continue;
        const F share = largest[v] / step;
        worst_steps[v] = share > worst_steps[v] ? share : worst_steps[v];
      }
    }
    RunningSums sums;
    for (std::size_t v = 0; v < kVectors; ++v) {
      store(sums.error + v * kLanes, error[v]);
      store(sums.source + v * kLanes, source[v]);
      store(sums.worst + v * kLanes, worst[v]);
      store(sums.worst_steps + v * kLanes, worst_steps[v]);
      store(sums.changed + v * kLanes, changed[v]);
    }
    for (std::size_t i = whole; i < wanted.size(); ++i)
      sums.add(i, wanted[i], stored[i], steps == nullptr ? 0.0F : steps[i / width]);
    return sums.total();
  }
};

}  // namespace regauge::ggml_encode::REGAUGE_LANES_NAMESPACE
