#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace regauge::gptq {

/// A module of a model, and whether a rule is to apply to it.
struct RuleSubject {
  std::string_view name;
  bool is_selected = false;
};

/// Regular expressions, each from ^ to $, that match exactly the selected ones of `subjects`: few, and such as a person would
/// write. Numbers become \d+ where every number means the same, what is selected as a whole becomes .*, and where all parts
/// of a matrix that vLLM fuses are selected, its fused name is matched too. Names must differ. Throws Error{unsupported}
/// for names of more steps than any model has.
std::vector<std::string> patterns_for(const std::vector<RuleSubject>& subjects);

}  // namespace regauge::gptq
