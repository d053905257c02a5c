#include "formats/gptq/rules.h"

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <utility>

#include "base/error.h"
#include "base/pattern.h"
#include "base/text.h"

namespace regauge::gptq {
namespace {

constexpr std::size_t kMaxSteps = 32;           // of a module's name; the deepest published has 9
constexpr std::size_t kMaxPatternBytes = 4096;  // beyond that modules are named one by one

/// One step of the modules' names, and everything below it.
struct Node {
  bool is_module = false;
  bool is_selected = false;
  std::size_t below = 0;     // modules below this step, itself not counted
  std::size_t selected = 0;  // of these
  std::map<std::string, std::unique_ptr<Node>> children;
};

/// What vLLM makes of several projections. Its rules are matched against the fused name, so one that names the parts would
/// miss. Source: vllm-project/vllm vllm/model_executor/layers/quantization/utils/gptq_utils.py, get_dynamic_override.
struct Fused {
  std::string_view name;
  std::array<std::string_view, 3> parts;
};
constexpr std::array kFused{
    Fused{"qkv_proj", {"q_proj", "k_proj", "v_proj"}},
    Fused{"gate_up_proj", {"gate_proj", "up_proj", "up_proj"}},
    Fused{"in_proj_qkvz", {"in_proj_qkv", "in_proj_z", "in_proj_z"}},
    Fused{"in_proj_ba", {"in_proj_b", "in_proj_a", "in_proj_a"}},
};

bool is_number(std::string_view step) {
  return !step.empty() && step.find_first_not_of("0123456789") == std::string_view::npos;
}

std::string escaped(std::string_view text) {
  constexpr std::string_view kSpecial = R"(\^$.|?*+()[]{})";
  std::string out;
  for (const char c : text) {
    if (kSpecial.find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

std::string any_of(const std::vector<std::string>& alternatives) {
  if (alternatives.size() == 1) return alternatives.front();
  std::string out;
  for (const std::string& alternative : alternatives) out += (out.empty() ? "(?:" : "|") + alternative;
  return out + ')';
}

void add(Node& root, const RuleSubject& subject) {
  Node* at = &root;
  std::size_t steps = 0;
  for (std::size_t begin = 0; begin <= subject.name.size();) {
    if (++steps > kMaxSteps) {
      throw Error(ErrorCode::unsupported, "the module's name has more than {} steps", kMaxSteps)
          .tensor(excerpt(subject.name));
    }
    ++at->below;
    at->selected += subject.is_selected ? 1 : 0;
    const std::size_t end = std::min(subject.name.find('.', begin), subject.name.size());
    auto& child = at->children[std::string(subject.name.substr(begin, end - begin))];
    if (!child) child = std::make_unique<Node>();
    at = child.get();
    begin = end + 1;
  }
  if (at->is_module) throw Error(ErrorCode::invalid, "two modules have this name").tensor(excerpt(subject.name));
  at->is_module = true;
  at->is_selected = subject.is_selected;
}

/// Children that the same expressions may follow.
struct Group {
  std::vector<std::string> names;
  std::vector<std::string> tails;
};

class PatternMaker {
 public:
  /// Expressions for what is selected below `node`, relative to it.
  std::vector<std::string> below(const Node& node) {
    std::vector<std::string> out;
    for (const Group& group : groups_of(node, true)) {
      out.push_back(number(node, group) + any_of(group.tails));
    }
    for (const Group& group : groups_of(node, false)) {
      std::vector<std::string> names;
      for (const std::string& name : group.names) names.push_back(escaped(name));
      if (group.tails.front().empty()) add_fused(node, group.names, names);
      for (const std::string& tail : group.tails) out.push_back(any_of(names) + tail);
    }
    return out;
  }

 private:
  std::vector<Group> groups_of(const Node& node, bool numbers) {
    std::vector<Group> groups;
    for (const auto& [name, child] : node.children) {
      if (is_number(name) != numbers) continue;
      std::vector<std::string> tails = tails_of(*child);
      if (tails.empty()) continue;
      const auto same = std::ranges::find(groups, tails, &Group::tails);
      if (same != groups.end()) {
        same->names.push_back(name);
      } else {
        groups.push_back({{name}, std::move(tails)});
      }
    }
    if (!numbers) return groups;
    for (Group& group : groups) {
      std::ranges::sort(group.names, {}, [](const std::string& name) { return std::pair(name.size(), name); });
    }
    return groups;
  }

  /// What may follow a child's own name.
  std::vector<std::string> tails_of(const Node& child) {
    std::vector<std::string> tails;
    if (child.is_selected) tails.emplace_back();
    if (child.selected > 0 && child.selected == child.below) {
      tails.emplace_back(R"(\..*)");
    } else if (child.selected > 0) {
      for (const std::string& alternative : below(child)) tails.push_back(R"(\.)" + alternative);
    }
    return tails;
  }

  /// The group's numbers: any, unless that would match below another number what is not selected there.
  std::string number(const Node& node, const Group& group) {
    const Pattern tail(any_of(group.tails) + '$');
    std::string path;
    for (const auto& [name, child] : node.children) {
      if (!is_number(name) || std::ranges::find(group.names, name) != group.names.end()) continue;
      if (matches_unselected(*child, tail, path)) return any_of(group.names);
    }
    return R"(\d+)";
  }

  bool matches_unselected(const Node& node, const Pattern& tail, std::string& path) {
    if (node.is_module && !node.is_selected && tail.matches(path, budget_)) return true;
    if (node.selected == node.below) return false;
    for (const auto& [name, child] : node.children) {
      const std::size_t length = path.size();
      path += '.';
      path += name;
      const bool found = matches_unselected(*child, tail, path);
      path.resize(length);
      if (found) return true;
    }
    return false;
  }

  static void add_fused(const Node& node, const std::vector<std::string>& names, std::vector<std::string>& out) {
    for (const Fused& fused : kFused) {
      const bool whole = std::ranges::all_of(
          fused.parts, [&](std::string_view part) { return std::ranges::find(names, part) != names.end(); });
      if (whole && !node.children.contains(std::string(fused.name))) out.emplace_back(fused.name);
    }
  }

  MatchBudget budget_;
};

/// Takes out expressions whose subjects all match another one. Layers of different kinds give expressions of different lengths, and
/// the longer may say it all; loaders and people take a rule that catches nothing for a mistake.
void drop_covered(const std::vector<RuleSubject>& subjects, std::vector<std::string>& patterns) {
  if (patterns.size() < 2) return;
  MatchBudget budget;
  std::vector<std::vector<bool>> matched;
  for (const std::string& text : patterns) {
    const Pattern pattern(text);
    std::vector<bool>& own = matched.emplace_back();
    for (const RuleSubject& subject : subjects)
      own.push_back(subject.is_selected && pattern.matches(subject.name, budget));
  }
  const auto covers = [](const std::vector<bool>& all, const std::vector<bool>& some) {
    for (std::size_t i = 0; i < some.size(); ++i) {
      if (some[i] && !all[i]) return false;
    }
    return true;
  };
  for (std::size_t i = patterns.size(); i-- > 0;) {
    bool covered = false;
    for (std::size_t j = 0; j < patterns.size(); ++j) covered = covered || (j != i && covers(matched[j], matched[i]));
    if (!covered) continue;
    patterns.erase(patterns.begin() + static_cast<std::ptrdiff_t>(i));
    matched.erase(matched.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

}  // namespace

std::vector<std::string> patterns_for(const std::vector<RuleSubject>& subjects) {
  Node root;
  for (const RuleSubject& subject : subjects) add(root, subject);
  std::vector<std::string> patterns;
  for (const std::string& relative : PatternMaker().below(root)) patterns.push_back('^' + relative + '$');
  const auto is_long = [](const std::string& pattern) { return pattern.size() > kMaxPatternBytes; };
  if (std::ranges::none_of(patterns, is_long)) {
    drop_covered(subjects, patterns);
    return patterns;
  }
  // What has no order to speak of is named module by module, before expressions get too long for their readers.
  patterns.clear();
  for (const RuleSubject& subject : subjects) {
    if (subject.is_selected) patterns.push_back('^' + escaped(subject.name) + '$');
  }
  return patterns;
}

}  // namespace regauge::gptq
