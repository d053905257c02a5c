#pragma once

#include <algorithm>
#include <string>
#include <variant>
#include <vector>

#include <gtest/gtest.h>

#include "convert/choose.h"
#include "formats/format.h"

namespace regauge::testing {

inline std::optional<std::string> holds_anything(const ArrayPlan& array) {
  if (std::holds_alternative<BlockType>(array.element)) return "no blocks";
  return std::nullopt;
}

/// A format of that packing, as far as choosing a route asks for one.
inline Format packing_format(Packing packing) {
  return {.name = packing == Packing::gptq ? "gptq" : "mlx",
          .summary = "",
          .bid = nullptr,
          .open = nullptr,
          .can_hold = holds_anything,
          .create = nullptr,
          .packing = packing};
}

struct Repacked {
  Step step;
  std::vector<std::vector<std::byte>> arrays;  ///< of the step, whole
  std::vector<float> values;                   ///< what they stand for
  Loss loss;
};

/// Puts the rows [rows) of an array's band where a file has them.
inline void place_band(const StepArray& array, RowRange rows, std::int64_t target_rows, std::span<const std::byte> band,
                       std::vector<std::byte>& file) {
  if (array.layout == BandLayout::whole) {
    if (rows.begin == 0) file.assign(band.begin(), band.end());
    return;
  }
  file.resize(static_cast<std::size_t>(array.plan.bytes()));
  const auto stored_rows =
      array.layout == BandLayout::rows ? std::size_t{1} : static_cast<std::size_t>(array.plan.shape.rows());
  const std::size_t stride = file.size() / stored_rows;
  const std::size_t begin = stride * static_cast<std::size_t>(rows.begin) / static_cast<std::size_t>(target_rows);
  const std::size_t width = band.size() / stored_rows;
  for (std::size_t r = 0; r < stored_rows; ++r)
    std::copy_n(band.begin() + static_cast<std::ptrdiff_t>(r * width), width,
                file.begin() + static_cast<std::ptrdiff_t>(r * stride + begin));
}

/// Chooses the route for `target` and takes it, in bands of at least `height` rows. Fails the test when there is none.
inline Repacked repack(const Target& target, const Format& format, std::int64_t height,
                       const ConvertOptions& options = {}) {
  auto choice = choose_route(target, format, options);
  if (const auto* offender = std::get_if<Offender>(&choice)) {
    ADD_FAILURE() << target.name << ": " << offender->reason;
    return {};
  }
  Repacked out;
  out.step = std::move(std::get<Step>(choice));
  const Step& step = out.step;
  out.arrays.resize(step.arrays.size());
  out.values.resize(static_cast<std::size_t>(target.rows * target.columns));
  height = std::max<std::int64_t>(height / step.quantum, 1) * step.quantum;
  Scratch scratch;
  for (std::int64_t row = 0; row < target.rows; row += height) {
    const RowRange rows{row, std::min(target.rows, row + height)};
    std::vector<std::vector<std::byte>> bands;
    for (const StepArray& array : step.arrays) {
      const auto whole = static_cast<std::size_t>(array.plan.bytes());
      const std::size_t share = whole * static_cast<std::size_t>(rows.size()) / static_cast<std::size_t>(target.rows);
      bands.emplace_back(array.layout == BandLayout::whole ? (row == 0 ? whole : 0) : share);
    }
    std::vector<std::span<std::byte>> buffers(bands.begin(), bands.end());
    step.maker->make(rows, buffers, scratch, out.loss);
    const std::vector<std::span<const std::byte>> stored(bands.begin(), bands.end());
    step.maker->decode(rows, stored, scratch,
                       std::span(out.values)
                           .subspan(static_cast<std::size_t>(row * target.columns),
                                    static_cast<std::size_t>(rows.size() * target.columns)));
    for (std::size_t a = 0; a < bands.size(); ++a)
      place_band(step.arrays[a], rows, target.rows, bands[a], out.arrays[a]);
  }
  return out;
}

/// Why nothing permitted holds `target`; empty when something does.
inline std::string objection(const Target& target, const Format& format, const ConvertOptions& options = {}) {
  auto choice = choose_route(target, format, options);
  const auto* offender = std::get_if<Offender>(&choice);
  return offender == nullptr ? "" : offender->reason;
}

/// Elements that differ as numbers: -0 equals +0, any NaN any NaN.
inline std::size_t count_value_differences(std::span<const float> a, std::span<const float> b) {
  std::size_t count = a.size() == b.size() ? 0 : a.size() + b.size();
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const bool both_nan = a[i] != a[i] && b[i] != b[i];
    count += a[i] == b[i] || both_nan ? 0 : 1;
  }
  return count;
}

}  // namespace regauge::testing
