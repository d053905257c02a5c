#pragma once

#include <string_view>

#include "convert/encode/kernels.h"
#include "convert/encode/lane_codes.h"
#include "convert/encode/lane_measure.h"
#include "convert/encode/lane_search.h"

namespace regauge::ggml_encode::REGAUGE_LANES_NAMESPACE {

/// The kernels for vectors of REGAUGE_LANES floats. Only a file that compiles them for a CPU includes this.
constexpr Kernels lane_kernels(std::string_view name) noexcept {
  return {.name = name,
          .all_finite = CodeLoops::all_finite,
          .search_scale_min = SearchLoops::search_scale_min,
          .search_scale = SearchLoops::search_scale,
          .code_by_steps = CodeLoops::code_by_steps,
          .code_symmetric = CodeLoops::code_symmetric,
          .code_affine = CodeLoops::code_affine,
          .code_signed = CodeLoops::code_signed,
          .round_scaled = CodeLoops::round_scaled,
          .code_e2m1 = CodeLoops::code_e2m1,
          .measure = MeasureLoops::measure};
}

}  // namespace regauge::ggml_encode::REGAUGE_LANES_NAMESPACE
