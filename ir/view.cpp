#include "ir/view.h"

#include <cmath>
#include <limits>

#include "base/error.h"

namespace regauge {
namespace {

Elementwise opposite(Elementwise op) {
  switch (op) {
    case Elementwise::none: return Elementwise::none;
    case Elementwise::add_one: return Elementwise::sub_one;
    case Elementwise::sub_one: return Elementwise::add_one;
    case Elementwise::neg_exp: return Elementwise::log_neg;
    case Elementwise::log_neg: return Elementwise::neg_exp;
  }
  return Elementwise::none;
}

Elementwise compose(Elementwise first, Elementwise second) {
  if (first == Elementwise::none) return second;
  if (second == Elementwise::none || opposite(first) == second) {
    return second == Elementwise::none ? first : Elementwise::none;
  }
  throw Error(ErrorCode::unsupported, "cannot apply {} after {}", name(second), name(first));
}

std::optional<AxisMap> compose(const std::optional<AxisMap>& first, const std::optional<AxisMap>& second,
                               std::int64_t size) {
  if (!first && !second) return std::nullopt;
  AxisMap both = first ? (second ? first->then(*second) : *first) : *second;
  if (both.is_identity(size)) return std::nullopt;
  return both;
}

}  // namespace

std::string_view name(Elementwise op) {
  switch (op) {
    case Elementwise::none: return "nothing";
    case Elementwise::add_one: return "w + 1";
    case Elementwise::sub_one: return "w - 1";
    case Elementwise::neg_exp: return "-exp(w)";
    case Elementwise::log_neg: return "log(-w)";
  }
  return "?";
}

View compose(const View& first, const View& second, std::int64_t rows, std::int64_t columns) {
  return {.rows = compose(first.rows, second.rows, rows),
          .columns = compose(first.columns, second.columns, columns),
          .elementwise = compose(first.elementwise, second.elementwise)};
}

std::optional<View> inverse(const View& view) {
  View out{.rows = std::nullopt, .columns = std::nullopt, .elementwise = opposite(view.elementwise)};
  if (view.rows && !(out.rows = view.rows->inverse())) return std::nullopt;
  if (view.columns && !(out.columns = view.columns->inverse())) return std::nullopt;
  return out;
}

namespace {

float negative_exponential(float value) noexcept { return static_cast<float>(-std::exp(static_cast<double>(value))); }

/// The f32 whose -exp is `value`: the nearest to the logarithm, or a neighbour where only that gives `value` back (the
/// logarithm was rounded, and where it is larger than 1 that rounding weighs more than the exponential's).
float inverse_of_exponential(float value) noexcept {
  const auto nearest = static_cast<float>(std::log(-static_cast<double>(value)));
  float below = nearest;
  float above = nearest;
  for (int step = 0; step < 3; ++step) {
    if (negative_exponential(below) == value) return below;
    if (negative_exponential(above) == value) return above;
    below = std::nextafter(below, -std::numeric_limits<float>::infinity());
    above = std::nextafter(above, std::numeric_limits<float>::infinity());
  }
  return nearest;
}

}  // namespace

float apply(Elementwise op, float value) noexcept {
  switch (op) {
    case Elementwise::none: return value;
    case Elementwise::add_one: return value + 1.0F;
    case Elementwise::sub_one: return value - 1.0F;
    case Elementwise::neg_exp: return negative_exponential(value);
    case Elementwise::log_neg: return inverse_of_exponential(value);
  }
  return value;
}

}  // namespace regauge
