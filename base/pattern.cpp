#define PCRE2_CODE_UNIT_WIDTH 8

#include "base/pattern.h"

#include <array>

#include <pcre2.h>

#include "base/error.h"
#include "base/text.h"

namespace regauge {
namespace {

// Limits of one pattern and one match. Module names have under 300 characters, and rules that people write backtrack a few
// hundred times over them.
constexpr std::size_t kMaxPatternBytes = std::size_t{16} * 1024;
constexpr std::uint32_t kMaxParentheses = 50;
constexpr std::uint32_t kMatchLimit = 1'000'000;
constexpr std::uint32_t kDepthLimit = 100'000;
constexpr std::uint32_t kHeapLimitKib = 16 * 1024;
// What a match costs that fails before its first step.
constexpr std::uint64_t kStepsPerMatch = 20;

/// Called before every item of the pattern; a positive answer makes the match fail here, which would only backtrack, so the
/// way out is a negative one, which ends it.
int spend(pcre2_callout_block* /*where*/, void* data) {
  auto& budget = *static_cast<MatchBudget*>(data);
  if (budget.steps == 0) return PCRE2_ERROR_CALLOUT;
  --budget.steps;
  return 0;
}

std::string reason(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

struct Pattern::Compiled {
  pcre2_code* code = nullptr;
  pcre2_match_data* match = nullptr;
  pcre2_match_context* context = nullptr;
};

void Pattern::Free::operator()(Compiled* compiled) const noexcept {
  pcre2_match_context_free(compiled->context);
  pcre2_match_data_free(compiled->match);
  pcre2_code_free(compiled->code);
  delete compiled;
}

Pattern::Pattern(std::string_view text, PatternAnchor anchor) : text_(text), compiled_(new Compiled) {
  struct FreeContext {
    void operator()(pcre2_compile_context* context) const noexcept { pcre2_compile_context_free(context); }
  };
  const std::unique_ptr<pcre2_compile_context, FreeContext> limits(pcre2_compile_context_create(nullptr));
  pcre2_set_max_pattern_length(limits.get(), kMaxPatternBytes);
  pcre2_set_parens_nest_limit(limits.get(), kMaxParentheses);

  int code = 0;
  PCRE2_SIZE at = 0;
  compiled_->code = pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(text_.data()), text_.size(),
      (anchor == PatternAnchor::start ? PCRE2_ANCHORED : 0U) | PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C | PCRE2_AUTO_CALLOUT,
      &code, &at, limits.get());
  if (compiled_->code == nullptr) {
    throw Error(ErrorCode::malformed, "pattern '{}' is no regular expression: {} at character {}", excerpt(text_),
                reason(code), at);
  }
  compiled_->match = pcre2_match_data_create(1, nullptr);  // only whether it matches is of interest
  compiled_->context = pcre2_match_context_create(nullptr);
  if (compiled_->match == nullptr || compiled_->context == nullptr) throw std::bad_alloc();
  pcre2_set_match_limit(compiled_->context, kMatchLimit);
  pcre2_set_depth_limit(compiled_->context, kDepthLimit);
  pcre2_set_heap_limit(compiled_->context, kHeapLimitKib);
}

bool Pattern::matches(std::string_view subject, MatchBudget& budget) const {
  pcre2_set_callout(compiled_->context, spend, &budget);
  const bool affordable = budget.steps >= kStepsPerMatch;
  budget.steps -= affordable ? kStepsPerMatch : 0;
  const int result = !affordable ? PCRE2_ERROR_CALLOUT
                                 : pcre2_match(compiled_->code, reinterpret_cast<PCRE2_SPTR>(subject.data()),
                                               subject.size(), 0, 0, compiled_->match, compiled_->context);
  if (result >= 0) return true;
  if (result == PCRE2_ERROR_NOMATCH) return false;
  throw Error(ErrorCode::malformed, "pattern '{}' cannot be matched against '{}': {}", excerpt(text_), excerpt(subject),
              result == PCRE2_ERROR_CALLOUT ? "it takes too many steps" : reason(result));
}

}  // namespace regauge
