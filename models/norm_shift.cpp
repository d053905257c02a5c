#include "models/norm_shift.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "models/qwen3_5/qwen3_5.h"

namespace regauge {
namespace {

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

}  // namespace

int norm_shift(std::span<const double> means, bool shifted) {
  constexpr double kNear = 0.5;
  std::vector<double> finite(means.begin(), means.end());
  std::erase_if(finite, [](double mean) { return !std::isfinite(mean); });
  if (finite.empty()) return 0;
  const double expected = shifted ? 1 : 0;
  const double shift = std::round(median(finite) - expected);
  if (shift == 0 || std::abs(shift) > 2) return 0;
  const auto agree =
      std::ranges::count_if(finite, [&](double mean) { return std::abs(mean - expected - shift) < kNear; });
  return static_cast<std::size_t>(agree) * 4 >= means.size() * 3 ? static_cast<int>(shift) : 0;
}

std::unique_ptr<const Architecture> recognise_by_data(const Checkpoint& checkpoint, Findings& findings) {
  return qwen3_5::recognise_by_data(checkpoint, findings);
}

}  // namespace regauge
