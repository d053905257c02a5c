#pragma once

#include <string>
#include <string_view>

namespace regauge {

/// Picks tensors by name: `*` and `?` make it a glob over the whole name, otherwise it is any part of the name. Compares
/// bytes; runs in time linear in pattern times name, whatever the pattern.
class NamePattern {
 public:
  explicit NamePattern(std::string_view text)
      : text_(text), glob_(text.find_first_of("*?") != std::string_view::npos) {}

  bool matches(std::string_view name) const noexcept;

 private:
  std::string text_;
  bool glob_;
};

}  // namespace regauge
