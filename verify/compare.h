#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "convert/adapt.h"

namespace regauge {

/// How two tensors of one name differ, as numbers: -0 equals +0, any NaN any NaN.
struct TensorDifference {
  std::string name;
  Component component = Component::other;
  std::uint64_t elements = 0;
  std::uint64_t different = 0;
  std::uint64_t signed_zeros = 0;  ///< equal as numbers, zeros of different sign
  double worst = 0.0;              ///< largest absolute difference
  std::uint64_t worst_ulps = 0;    ///< largest distance in steps of f32, where both are finite
};

struct Comparison {
  std::vector<TensorDifference> tensors;  ///< those that both have, by name
  std::vector<std::string> only_first;
  std::vector<std::string> only_second;
  std::vector<std::string> other_shape;  ///< both have it, in different sizes
};

/// Compares two models in effective form (verify/effective.h), band by band through the dequant reference.
Comparison compare_values(const std::map<std::string, Target>& first, const std::map<std::string, Target>& second);

}  // namespace regauge
