#include "base/name_pattern.h"

namespace regauge {
namespace {

bool matches_glob(std::string_view pattern, std::string_view name) noexcept {
  std::size_t p = 0;
  std::size_t n = 0;
  // Going back to the last star only is enough: an earlier star could take over nothing that the last one cannot.
  std::size_t star = std::string_view::npos;
  std::size_t star_name = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_name = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++star_name;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

}  // namespace

bool NamePattern::matches(std::string_view name) const noexcept {
  return glob_ ? matches_glob(text_, name) : name.find(text_) != std::string_view::npos;
}

}  // namespace regauge
