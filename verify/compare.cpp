#include "verify/compare.h"

#include "verify/measure.h"

namespace regauge {

Comparison compare_values(const std::map<std::string, Target>& first, const std::map<std::string, Target>& second) {
  Comparison comparison;
  std::vector<TargetPair> pairs;
  for (const auto& [name, target] : first) {
    const auto found = second.find(name);
    if (found == second.end()) {
      comparison.only_first.push_back(name);
    } else if (found->second.rows != target.rows || found->second.columns != target.columns) {
      comparison.other_shape.push_back(name);
    } else {
      pairs.push_back({&target, &found->second});
    }
  }
  for (const auto& [name, target] : second) {
    if (!first.contains(name)) comparison.only_second.push_back(name);
  }
  const std::vector<Measured> measured = measure(pairs);
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const Measured& one = measured[i];
    comparison.tensors.push_back({pairs[i].first->name, pairs[i].first->component, one.elements, one.different,
                                  one.signed_zeros, one.worst, one.worst_ulps});
  }
  return comparison;
}

}  // namespace regauge
