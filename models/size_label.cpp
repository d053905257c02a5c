#include "models/size_label.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace regauge {

std::string size_label(std::int64_t parameters) {
  const auto count = static_cast<double>(parameters);
  double scaled = count * 1e-3;
  char unit = 'K';
  if (count > 1e12) {
    scaled = count * 1e-12;
    unit = 'T';
  } else if (count > 1e9) {
    scaled = count * 1e-9;
    unit = 'B';
  } else if (count > 1e6) {
    scaled = count * 1e-6;
    unit = 'M';
  }
  // Digits of the number rounded to the nearest even whole one; a zero counts as none.
  const double whole = std::nearbyint(scaled);
  const int digits = whole == 0 ? 0 : static_cast<int>(fmt::formatted_size("{:.0f}", whole));
  return fmt::format("{:.{}f}{}", scaled, std::max(2 - digits, 0), unit);
}

std::string size_label(std::int64_t experts, std::int64_t shared, std::int64_t one_expert) {
  return fmt::format("{}x{}", experts, size_label(shared + one_expert));
}

}  // namespace regauge
