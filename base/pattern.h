#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace regauge {

/// How much work all patterns of one checkpoint or recipe may cause together, in steps of the matcher: some seconds. A published
/// config takes some ten thousand.
struct MatchBudget {
  std::uint64_t steps = 1'000'000'000;
};

/// Where in a subject a pattern may match.
enum class PatternAnchor : std::uint8_t {
  start,     ///< from the first character, like Python's re.match
  anywhere,  ///< like std::regex_search
};

/// One regular expression of a user or a config, in PCRE2 syntax. Used by one thread at a time.
class Pattern {
 public:
  /// Throws Error{malformed} for a pattern that does not compile or is longer or deeper than any sensible one.
  explicit Pattern(std::string_view text, PatternAnchor anchor = PatternAnchor::start);

  const std::string& text() const noexcept { return text_; }

  /// Whether `subject` matches, its end left open. Throws Error{malformed} when that takes more steps than one match or `budget`
  /// allows.
  bool matches(std::string_view subject, MatchBudget& budget) const;

 private:
  struct Compiled;
  struct Free {
    void operator()(Compiled* compiled) const noexcept;
  };

  std::string text_;
  std::unique_ptr<Compiled, Free> compiled_;
};

}  // namespace regauge
