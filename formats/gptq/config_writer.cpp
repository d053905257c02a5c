#include "formats/gptq/config_writer.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/text.h"
#include "formats/gptq/rules.h"
#include "formats/safetensors/config_text.h"

namespace regauge::gptq {
namespace {

/// Settings and how many modules have them, in the order of their first module.
using Census = std::vector<std::pair<ModuleSettings, std::size_t>>;

Census count_settings(std::span<const LinearModule> modules) {
  Census census;
  for (const LinearModule& module : modules) {
    if (!module.settings) continue;
    const auto known = std::ranges::find(census, *module.settings, &Census::value_type::first);
    if (known != census.end()) {
      ++known->second;
    } else {
      census.emplace_back(*module.settings, 1);
    }
  }
  return census;
}

bool is_lm_head(std::string_view name) { return name == "lm_head" || name.ends_with(".lm_head"); }

void check_widths(std::span<const LinearModule> modules, WordFormat format) {
  for (const LinearModule& module : modules) {
    if (!module.settings) continue;
    const std::int64_t bits = module.settings->bits;
    const bool planar_only = bits >= 5 && bits <= 7;
    const bool known = bits >= 2 && bits <= 8 && (!planar_only || format == WordFormat::planar) &&
                       (bits == 4 || format != WordFormat::marlin);
    if (!known) {
      throw Error(ErrorCode::unsupported, "the format {} has no codes of {} bits", name(format), bits)
          .tensor(excerpt(module.name));
    }
  }
}

template <typename Predicate>
std::vector<std::string> patterns_where(std::span<const LinearModule> modules, Predicate selected) {
  std::vector<RuleSubject> subjects;
  for (const LinearModule& module : modules) subjects.push_back({module.name, selected(module)});
  return patterns_for(subjects);
}

/// What `settings` says that `defaults` does not.
Json difference(const ModuleSettings& settings, const ModuleSettings& defaults) {
  Json out = Json::object();
  if (settings.bits != defaults.bits) out["bits"] = settings.bits;
  if (settings.group_size != defaults.group_size) out["group_size"] = settings.group_size;
  if (settings.desc_act != defaults.desc_act) out["desc_act"] = settings.desc_act;
  if (settings.sym != defaults.sym) out["sym"] = settings.sym;
  return out;
}

Json make_rules(std::span<const LinearModule> modules, const Census& census, const ModuleSettings& defaults) {
  Json rules = Json::object();
  // Those that exclude come first: GPTQModel tries them first wherever they stand, vLLM goes by the order.
  const auto needs_exclusion = [](const LinearModule& m) { return !m.settings && !is_lm_head(m.name); };
  for (const std::string& pattern : patterns_where(modules, needs_exclusion)) rules["-:" + pattern] = Json::object();
  for (const auto& entry : census) {
    const ModuleSettings& settings = entry.first;
    if (settings == defaults) continue;
    const auto has_them = [&settings](const LinearModule& m) { return m.settings == settings; };
    for (const std::string& pattern : patterns_where(modules, has_them)) {
      rules["+:" + pattern] = difference(settings, defaults);
    }
  }
  return rules;
}

/// Whether a config describes the module as it is.
bool says_of(const Config& config, const LinearModule& module, MatchBudget& budget) {
  const DynamicRule* rule = config.rule_for(module.name, budget);
  const bool dense = (rule != nullptr && rule->excludes) || (is_lm_head(module.name) && !config.lm_head);
  const Settings read = config.settings_for(rule);
  if (!module.settings) return dense;
  return !dense && read.bits == module.settings->bits && read.group_size == module.settings->group_size &&
         read.sym == module.settings->sym && read.desc_act == module.settings->desc_act;
}

/// Reads the section back and holds it against the modules: a rule that catches too much would break a model in silence.
void check_meaning(const Json& section, std::span<const LinearModule> modules) {
  Findings ignored;
  const Config config = parse_config({"quantize_config.json", section}, ignored);
  MatchBudget budget;
  for (const LinearModule& module : modules) {
    if (!says_of(config, module, budget)) {
      throw Error(ErrorCode::internal, "the quantization config that was made says something else")
          .tensor(excerpt(module.name));
    }
  }
}

}  // namespace

Json make_config(std::span<const LinearModule> modules, WordFormat format, std::string_view writer) {
  check_widths(modules, format);
  const Census census = count_settings(modules);
  if (census.empty()) throw Error(ErrorCode::invalid, "no module is quantized, so there is no config to write");
  // Where several are as common, those of fewest bits: wider ones are what recipes make exceptions for.
  const ModuleSettings& defaults = std::ranges::max_element(census, {}, [](const auto& entry) {
                                     return std::pair(entry.second, -entry.first.bits);
                                   })->first;
  const bool lm_head = std::ranges::any_of(
      modules, [](const LinearModule& module) { return module.settings.has_value() && is_lm_head(module.name); });
  // Keys and their order: ModelCloud/GPTQModel gptqmodel/quantization/config.py, to_dict, which leaves out an empty dynamic.
  Json section = Json::object();
  section["bits"] = defaults.bits;
  if (Json rules = make_rules(modules, census, defaults); !rules.empty()) section["dynamic"] = std::move(rules);
  section["group_size"] = defaults.group_size;
  section["desc_act"] = defaults.desc_act;
  section["lm_head"] = lm_head;
  section["method"] = "gptq";
  section["quant_method"] = "gptq";
  section["format"] = name(format);
  section["checkpoint_format"] = name(format);
  section["pack_dtype"] = "int32";
  section["meta"]["quantizer"] = Json::array({std::string(writer)});
  section["sym"] = defaults.sym;
  check_meaning(section, modules);
  return section;
}

Json with_modules(const Json& section, std::span<const std::string> existing, std::span<const LinearModule> added) {
  Findings ignored;
  const Config config = parse_config({"quantize_config.json", section}, ignored);
  MatchBudget budget;
  std::vector<LinearModule> all;
  for (const std::string& name : existing) all.push_back({name, ModuleSettings{}});
  const std::size_t first_added = all.size();
  std::vector<LinearModule> misread;
  for (const LinearModule& module : added) {
    all.push_back(module);
    if (says_of(config, module, budget)) continue;
    misread.push_back(module);
  }
  if (misread.empty()) return section;
  const Census census = count_settings(misread);
  const auto among = [&](const std::optional<ModuleSettings>& settings) {
    std::vector<RuleSubject> subjects;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const bool wanted = i >= first_added && all[i].settings == settings &&
                          std::ranges::any_of(misread, [&](const LinearModule& m) { return m.name == all[i].name; });
      subjects.push_back({all[i].name, wanted});
    }
    return patterns_for(subjects);
  };
  Json rules = Json::object();
  for (const std::string& pattern : among(std::nullopt)) rules["-:" + pattern] = Json::object();
  for (const auto& entry : census) {
    const ModuleSettings& settings = entry.first;
    Json values = Json::object();  // all of them: which are the defaults is the other writer's affair
    values["bits"] = settings.bits;
    values["group_size"] = settings.group_size;
    values["desc_act"] = settings.desc_act;
    values["sym"] = settings.sym;
    for (const std::string& pattern : among(settings)) rules["+:" + pattern] = values;
  }
  if (const Json* old = get_object(section, "dynamic")) {
    for (const auto& [key, value] : old->items()) rules[key] = value;
  }
  Json out = section;
  out["dynamic"] = std::move(rules);
  const Config read = parse_config({"quantize_config.json", out}, ignored);
  for (const LinearModule& module : added) {
    if (!says_of(read, module, budget))
      throw Error(ErrorCode::internal, "the quantization config that was made says something else")
          .tensor(excerpt(module.name));
  }
  return out;
}

Json with_quantization(const Json& config, const Json& section) {
  Json out = safetensors::without_quantization(config);
  safetensors::set_sorted(out, "quantization_config", section);
  return out;
}

}  // namespace regauge::gptq
