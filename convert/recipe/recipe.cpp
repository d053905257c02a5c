#include "convert/recipe/recipe.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/error.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/pattern.h"
#include "base/text.h"

namespace regauge {
namespace {

constexpr std::array<Component, 12> kComponents{Component::embedding, Component::attention, Component::deltanet,
                                                Component::mlp,       Component::experts,   Component::router,
                                                Component::norm,      Component::head,      Component::mtp,
                                                Component::vision,    Component::adapter,   Component::other};

std::optional<Component> component_from_name(std::string_view text) {
  const auto found = std::ranges::find(kComponents, text, [](Component c) { return name(c); });
  return found == kComponents.end() ? std::nullopt : std::optional(*found);
}

Wish wish_or_throw(std::string_view text, std::string_view where) {
  if (const auto wish = wish_from_text(text)) return *wish;
  throw Error(ErrorCode::invalid,
              "{}: '{}' is no encoding such as Q6_K, bf16, int4-g128, int4-g64-asym, mxfp4 or exact", where,
              printable(excerpt(text)));
}

/// Compiles it, for the sake of the message.
void check_pattern(const std::string& pattern, std::string_view where) {
  try {
    (void)Pattern(pattern, PatternAnchor::anywhere);
  } catch (const Error& error) {
    throw Error(ErrorCode::invalid, "{}: {}", where, error.message());
  }
}

Losses losses_from(const Json& object, std::string_view where) {
  Losses allow;
  const Json* list = get_array(object, "allow");
  if (list == nullptr) return allow;
  for (const Json& entry : *list) {
    const std::string word = entry.is_string() ? entry.get<std::string>() : std::string();
    if (word == "dense") {
      allow.dense = true;
    } else if (word == "rounded") {
      allow.rounded = true;
    } else if (word == "requantized") {
      allow.requantized = true;
    } else {
      throw Error(ErrorCode::malformed, "{}: allow takes dense, rounded and requantized", where);
    }
  }
  return allow;
}

void check_keys(const Json& object, std::span<const std::string_view> known, std::string_view where) {
  for (const auto& [key, value] : object.items()) {
    if (std::ranges::find(known, key) == known.end())
      throw Error(ErrorCode::malformed, "{}: '{}' is no key of a recipe", where, printable(excerpt(key)));
  }
}

Rule rule_from_json(const Json& json, std::size_t number) {
  static constexpr std::array<std::string_view, 5> kKeys{"pattern", "canonical", "component", "type", "allow"};
  const std::string where = fmt::format("rule {}", number + 1);
  if (!json.is_object()) throw Error(ErrorCode::malformed, "{} is no object", where);
  check_keys(json, kKeys, where);
  Rule rule;
  rule.strict = true;
  rule.pattern = get_string(json, "pattern").value_or("");
  rule.canonical = get_string(json, "canonical").value_or("");
  for (const std::string* pattern : {&rule.pattern, &rule.canonical}) check_pattern(*pattern, where);
  if (const auto component = get_string(json, "component")) {
    rule.component = component_from_name(*component);
    if (!rule.component)
      throw Error(ErrorCode::malformed, "{}: '{}' is no component", where, printable(excerpt(*component)));
  }
  const auto type = get_string(json, "type");
  if (!type) throw Error(ErrorCode::malformed, "{} has no type", where);
  rule.wish = wish_or_throw(*type, where);
  rule.allow = losses_from(json, where);
  const std::string component = rule.component ? fmt::format("@{}", name(*rule.component)) : "";
  rule.text = fmt::format("{}{}{}={}", component, rule.pattern, rule.canonical, *type);
  return rule;
}

}  // namespace

const LlamaFileType* mixture_for(const Recipe* recipe, OutputKind kind) {
  const bool is_model = kind == OutputKind::model || kind == OutputKind::mtp;
  return recipe != nullptr && is_model ? recipe->mixture : nullptr;
}

Rule rule_from_text(std::string_view text) {
  // A pattern may hold '=' itself, an encoding never does.
  const std::size_t equals = text.rfind('=');
  if (equals == std::string_view::npos || equals == 0)
    throw Error(ErrorCode::invalid, "'{}' is not PATTERN=TYPE", printable(excerpt(text)));
  Rule rule;
  rule.text = text;
  rule.strict = true;
  const std::string_view which = text.substr(0, equals);
  if (which.starts_with('@')) {
    rule.component = component_from_name(which.substr(1));
    if (!rule.component) {
      throw Error(ErrorCode::invalid,
                  "'{}' is no component: @embedding, @attention, @deltanet, @mlp, @experts, @router, @head, @mtp or "
                  "@vision",
                  printable(excerpt(which)));
    }
  } else {
    rule.pattern = which;
    check_pattern(rule.pattern, rule.text);
  }
  rule.wish = wish_or_throw(text.substr(equals + 1), printable(excerpt(text)));
  return rule;
}

Recipe parse_recipe(const Json& json, const std::string& file) {
  static constexpr std::array<std::string_view, 5> kKeys{"schema", "name", "base", "rules", "allow"};
  try {
    if (!json.is_object()) throw Error(ErrorCode::malformed, "a recipe is a JSON object");
    check_keys(json, kKeys, "recipe");
    if (const auto schema = get_string(json, "schema"); schema && *schema != "regauge.recipe/1")
      throw Error(ErrorCode::unsupported, "schema '{}' is not regauge.recipe/1", printable(excerpt(*schema)));
    Recipe recipe = preset(get_string(json, "base").value_or("exact"));
    recipe.name = get_string(json, "name").value_or(std::filesystem::path(file).stem().string());
    std::vector<Rule> rules;
    if (const Json* list = get_array(json, "rules")) {
      for (std::size_t i = 0; i < list->size(); ++i) rules.push_back(rule_from_json((*list)[i], i));
    }
    recipe.rules.insert(recipe.rules.begin(), rules.begin(), rules.end());
    recipe.allow = losses_from(json, "recipe");
    return recipe;
  } catch (Error& error) {
    error.at(file);
    throw;
  }
}

Recipe load_recipe(const std::string& name_or_path) {
  const std::filesystem::path path(name_or_path);
  if (path.extension() == ".json" || path.has_parent_path())
    return parse_recipe(parse_json(read_text_file(path, kMaxConfigBytes), name_or_path), name_or_path);
  return preset(name_or_path);
}

}  // namespace regauge
