#include "convert/recipe/assign.h"

#include <algorithm>
#include <memory>

#include <fmt/format.h>

#include "base/pattern.h"
#include "base/text.h"

namespace regauge {

/// A rule with its patterns compiled.
struct Assigner::Matcher {
  const Rule* rule = nullptr;
  std::unique_ptr<Pattern> pattern;
  std::unique_ptr<Pattern> canonical;
  bool used = false;

  bool takes(const Target& target, MatchBudget& budget) const {
    // Names of vision towers look like those of the model ("v.blk.0.ffn_up"), and nobody who writes "ffn_up" means them.
    if (!rule->component && target.component == Component::vision) return false;
    if (rule->component && *rule->component != target.component) return false;
    if (pattern && !pattern->matches(target.name, budget)) return false;
    return !canonical || canonical->matches(target.pieces.front().canonical, budget);
  }
};

namespace {

std::unique_ptr<Pattern> compiled(const std::string& text) {
  return text.empty() ? nullptr : std::make_unique<Pattern>(text, PatternAnchor::anywhere);
}

bool is_matrix(const Target& target) {
  return target.rows > 1 && target.columns > 1 && target.shape.rank() >= 2 && target.name.ends_with("weight");
}

/// Whether the format's own tools could quantize it at all.
bool is_quantizable(const Target& target, const Format& format) {
  if (target.required) return false;
  switch (format.packing) {
    case Packing::one_array: return mixture_takes(target.name, target.shape);
    case Packing::gptq: return target.is_linear;
    case Packing::mlx: break;
  }
  static constexpr std::string_view kNever[] = {"conv1d", "patch_embed", "pos_embed"};
  return is_matrix(target) && std::ranges::none_of(kNever, [&](std::string_view part) {
           return target.name.find(part) != std::string::npos;
         });
}

bool is_decoded(const Wish& wish) { return std::holds_alternative<DType>(wish); }

/// What the mixture gives each target of a file; nothing where it has nothing to say.
std::vector<std::optional<std::variant<DType, BlockType>>> mixed(const Recipe& recipe, std::span<const Target> targets,
                                                                 const AssignContext& context) {
  const LlamaFileType* mixture = mixture_for(&recipe, context.kind);
  if (mixture == nullptr) return std::vector<std::optional<std::variant<DType, BlockType>>>(targets.size());
  std::vector<MixtureTensor> tensors;
  for (const Target& target : targets) tensors.push_back({target.name, target.shape});
  return mixture_types(*mixture, tensors, context.model);
}

const Wish* laid_out(const Recipe& recipe, const Target& target) {
  if (recipe.layout.empty()) return nullptr;
  const Wish* first = nullptr;
  for (const TargetPiece& piece : target.pieces) {
    const auto found = recipe.layout.find(piece.canonical);
    if (found == recipe.layout.end() || (first != nullptr && *first != found->second)) return nullptr;
    first = &found->second;
  }
  return first;
}

}  // namespace

Assigner::Assigner(const Recipe& recipe) : recipe_(recipe) {
  for (const Rule& rule : recipe.rules) {
    Matcher matcher;
    matcher.rule = &rule;
    matcher.pattern = compiled(rule.pattern);
    matcher.canonical = compiled(rule.canonical);
    matchers_.push_back(std::move(matcher));
  }
}

Assigner::~Assigner() = default;

std::vector<Decision> Assigner::decide(std::span<const Target> targets, const AssignContext& context) {
  const auto mixture = mixed(recipe_, targets, context);
  MatchBudget budget;
  std::vector<Decision> decisions(targets.size());
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const Target& target = targets[i];
    Decision& decision = decisions[i];
    decision.allow = recipe_.allow;
    const bool quantizable = is_quantizable(target, *context.format);
    const auto rule = std::ranges::find_if(matchers_, [&](const Matcher& matcher) {
      const bool applies = quantizable || std::holds_alternative<ExactWish>(matcher.rule->wish) ||
                           (is_decoded(matcher.rule->wish) && !target.required && matcher.rule->strict);
      return applies && matcher.takes(target, budget);
    });
    if (rule != matchers_.end()) {
      rule->used = true;
      // A preset goes by its own name; its rules are nobody's words.
      decision = {rule->rule->wish, rule->rule->strict ? rule->rule->text : recipe_.name, rule->rule->allow,
                  rule->rule->strict};
    } else if (const Wish* wish = laid_out(recipe_, target); wish != nullptr && quantizable) {
      decision = {*wish, recipe_.name, recipe_.allow, false};
    } else if (mixture[i]) {
      decision = {std::visit([](auto type) { return Wish(type); }, *mixture[i]), recipe_.name, recipe_.allow, false};
    }
  }
  return decisions;
}

void Assigner::note_unused(Findings& findings) const {
  for (const Matcher& matcher : matchers_) {
    // A preset's rules are for every model of a family; only what somebody wrote for this one can be a slip.
    if (matcher.used || !matcher.rule->strict) continue;
    findings.push_back(
        {Severity::warning, "recipe-rule-unused",
         fmt::format("the rule '{}' matches no tensor that can be quantized", printable(excerpt(matcher.rule->text))),
         "", ""});
  }
}

}  // namespace regauge
