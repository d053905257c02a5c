#include "formats/gptq/config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/text.h"

namespace regauge::gptq {
namespace {

// Rules are walked for every module; the largest published mixed recipe has one per projection of every layer.
constexpr std::size_t kMaxRules = 20'000;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return out;
}

struct Key {
  std::string_view spelling;
  std::string_view meaning;
};

// A key under its own name wins over an alias, so the aliases come last.
// Source: ModelCloud/GPTQModel gptqmodel/quantization/config.py, from_quant_config and its *_COMPAT tables.
constexpr std::array kKeys = {
    Key{"bits", "bits"},
    Key{"group_size", "group_size"},
    Key{"sym", "sym"},
    Key{"desc_act", "desc_act"},
    Key{"format", "format"},
    Key{"method", "method"},
    Key{"dynamic", "dynamic"},
    Key{"pack_dtype", "pack_dtype"},
    Key{"lm_head", "lm_head"},
    Key{"meta", "meta"},
    Key{"rotation", "rotation"},
    Key{"is_marlin_format", "is_marlin_format"},
    Key{"w_bit", "bits"},
    Key{"wbits", "bits"},
    Key{"q_group_size", "group_size"},
    Key{"version", "format"},
    Key{"quant_method", "method"},
    Key{"checkpoint_format", "format"},
    Key{"zero_point", "zero_point"},
};

/// The keys that are of interest, under their own names in lower case; what is null is left out.
Json normalised(const Json& section, std::string_view file) {
  if (!section.is_object()) throw Error(ErrorCode::malformed, "the quantization config is no object").at(file);
  std::array<const Json*, kKeys.size()> found{};
  for (const auto& [key, value] : section.items()) {
    if (value.is_null()) continue;
    const auto known = std::ranges::find(kKeys, lower(key), &Key::spelling);
    if (known != kKeys.end()) found.at(static_cast<std::size_t>(known - kKeys.begin())) = &value;
  }
  Json out = Json::object();
  for (std::size_t i = 0; i < kKeys.size(); ++i) {
    const std::string meaning(kKeys.at(i).meaning);
    if (found.at(i) != nullptr && !out.contains(meaning)) out[meaning] = *found.at(i);
  }
  // AutoAWQ's spelling, which GPTQModel reads as the opposite of sym.
  if (const Json* zero_point = find(out, "zero_point"); zero_point != nullptr && !out.contains("sym")) {
    if (zero_point->is_boolean()) out["sym"] = !zero_point->get<bool>();
  }
  return out;
}

std::string lower_string(const Json& section, std::string_view key) {
  const Json* value = find(section, key);
  return value != nullptr && value->is_string() ? lower(value->get_ref<const std::string&>()) : std::string();
}

std::optional<bool> boolean(const Json& section, std::string_view key, std::string_view what, std::string_view file) {
  const Json* value = find(section, key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) throw Error(ErrorCode::malformed, "'{}' is no boolean", key).tensor(excerpt(what)).at(file);
  return value->get<bool>();
}

std::optional<std::int64_t> integer(const Json& section, std::string_view key, std::string_view what,
                                    std::string_view file) {
  try {
    return get_int(section, key);
  } catch (Error& error) {
    throw Error(ErrorCode::malformed, "'{}' is no whole number", key).tensor(excerpt(what)).at(file);
  }
}

/// `what` is the rule that the settings are of, or empty for the defaults.
Settings parse_settings(const Json& section, std::string_view what, std::string_view file) {
  Settings settings;
  settings.bits = integer(section, "bits", what, file);
  settings.group_size = integer(section, "group_size", what, file);
  settings.sym = boolean(section, "sym", what, file);
  settings.desc_act = boolean(section, "desc_act", what, file);
  // Source: ModelCloud/GPTQModel gptqmodel/quantization/config.py, QuantizeConfig (bits 2 to 8); group sizes other than
  // its own are believed, because the reader only divides by them.
  if (settings.bits && (*settings.bits < 2 || *settings.bits > 8)) {
    throw Error(ErrorCode::malformed, "codes of {} bits do not exist in GPTQ, 2 to 8 do", *settings.bits)
        .tensor(excerpt(what))
        .at(file);
  }
  if (settings.group_size && *settings.group_size != -1 && *settings.group_size < 1) {
    throw Error(ErrorCode::malformed, "group size {} is neither -1 (all of a row) nor positive", *settings.group_size)
        .tensor(excerpt(what))
        .at(file);
  }
  if (const Json* pack = find(section, "pack_dtype"); pack != nullptr && (!pack->is_string() || *pack != "int32")) {
    throw Error(ErrorCode::unsupported, "codes packed into {} are not read, only int32 is in use",
                excerpt(pack->dump()))
        .tensor(excerpt(what))
        .at(file);
  }
  return settings;
}

bool planar_only(const Settings& settings) {
  return settings.bits && (*settings.bits == 5 || *settings.bits == 6 || *settings.bits == 7);
}

WordFormat parse_format(const Json& section, std::string_view file) {
  const std::string format = lower_string(section, "format");
  const std::string method = lower_string(section, "method");
  const Json* flag = find(section, "is_marlin_format");
  const bool flagged = flag != nullptr && flag->is_boolean() && flag->get<bool>();
  if (format == "marlin" || (format.empty() && (method == "marlin" || flagged))) return WordFormat::marlin;
  if (flagged && format == "gptq") return WordFormat::marlin;
  if (format.empty() || format == "gptq") return WordFormat::v1;
  if (format == "gptq_v2") return WordFormat::v2;
  if (format == "gptq_p") return WordFormat::planar;
  throw Error(ErrorCode::unsupported, "GPTQ checkpoints in the format '{}' are not read", excerpt(format)).at(file);
}

std::vector<DynamicRule> parse_rules(const Json& section, std::string_view file) {
  std::vector<DynamicRule> rules;
  const Json* dynamic = find(section, "dynamic");
  if (dynamic == nullptr) return rules;
  if (!dynamic->is_object()) throw Error(ErrorCode::malformed, "'dynamic' is no object").at(file);
  if (dynamic->size() > kMaxRules) {
    throw Error(ErrorCode::malformed, "'dynamic' has {} rules", dynamic->size()).at(file);
  }
  for (const auto& [key, value] : dynamic->items()) {
    const bool excludes = key.starts_with("-:");
    const std::string_view text = excludes || key.starts_with("+:") ? std::string_view(key).substr(2) : key;
    Settings settings;
    if (value.is_object()) {
      settings = parse_settings(value, key, file);
    } else if (!value.is_null() && !excludes) {
      throw Error(ErrorCode::malformed, "this rule of 'dynamic' is no object").tensor(excerpt(key)).at(file);
    }
    try {
      rules.push_back({key, Pattern(text), excludes, settings});
    } catch (Error& error) {
      throw std::move(error.tensor(excerpt(key)).at(file));
    }
  }
  // GPTQModel tries the rules that exclude first. Source: gptqmodel/quantization/config.py, BaseQuantizeConfig.__post_init__.
  std::stable_partition(rules.begin(), rules.end(), [](const DynamicRule& rule) { return rule.key.starts_with('-'); });
  return rules;
}

/// The strings of meta.quantizer, in lower case.
std::vector<std::string> quantizers(const Json& section) {
  const Json* meta = find(section, "meta");
  const Json* quantizer = meta != nullptr && meta->is_object() ? find(*meta, "quantizer") : nullptr;
  std::vector<std::string> names;
  if (quantizer == nullptr || !(quantizer->is_array() || quantizer->is_string())) return names;
  for (const Json& entry : quantizer->is_array() ? *quantizer : Json::array({*quantizer})) {
    if (entry.is_string()) names.push_back(lower(entry.get_ref<const std::string&>()));
  }
  return names;
}

/// "gptqmodel:7.3.4" among them.
std::optional<std::pair<int, int>> parse_version(const std::vector<std::string>& quantizers) {
  constexpr std::string_view kPrefix = "gptqmodel:";
  for (const std::string& text : quantizers) {
    if (!text.starts_with(kPrefix)) continue;
    const char* const end = text.data() + text.size();
    std::pair<int, int> version{};
    const auto major = std::from_chars(text.data() + kPrefix.size(), end, version.first);
    if (major.ec != std::errc() || major.ptr == end || *major.ptr != '.') return std::nullopt;
    if (std::from_chars(major.ptr + 1, end, version.second).ec != std::errc()) return std::nullopt;
    return version;
  }
  return std::nullopt;
}

Json read_json(const Folder& folder, const std::string& file) {
  return parse_json(folder.read_text(file, kMaxConfigBytes), folder.path_of(file),
                    {.duplicates = JsonDuplicates::keep_last});
}

/// quantization_config of a config.json, at the top or in text_config.
const Json* nested_section(const Json& config) {
  if (!config.is_object()) return nullptr;
  if (const Json* section = find(config, "quantization_config")) return section;
  const Json* text = find(config, "text_config");
  return text != nullptr && text->is_object() ? find(*text, "quantization_config") : nullptr;
}

}  // namespace

std::string_view name(WordFormat format) {
  constexpr std::array<std::string_view, 4> kNames{"gptq", "gptq_v2", "gptq_p", "marlin"};
  return kNames.at(static_cast<std::size_t>(format));
}

const DynamicRule* Config::rule_for(std::string_view module, MatchBudget& budget) const {
  for (const DynamicRule& rule : rules) {
    try {
      if (rule.pattern.matches(module, budget)) return &rule;
    } catch (Error& error) {
      throw std::move(error.tensor(excerpt(rule.key)).at(path));
    }
  }
  return nullptr;
}

Settings Config::settings_for(const DynamicRule* rule) const {
  if (rule == nullptr || rule->excludes) return defaults;
  Settings settings = rule->settings;
  if (!settings.bits) settings.bits = defaults.bits;
  if (!settings.group_size) settings.group_size = defaults.group_size;
  if (!settings.sym) settings.sym = defaults.sym;
  if (!settings.desc_act) settings.desc_act = defaults.desc_act;
  return settings;
}

std::optional<Section> find_section(const Folder& folder, const std::optional<Json>& config) {
  for (const std::string file : {"quantize_config.json", "quant_config.json"}) {
    if (folder.has_file(file)) return Section{folder.path_of(file), read_json(folder, file)};
  }
  const std::string file = "config.json";
  std::optional<Json> own;
  if (!config && folder.has_file(file)) own = read_json(folder, file);
  const std::optional<Json>& seen = config ? config : own;
  const Json* section = seen ? nested_section(*seen) : nullptr;
  return section != nullptr ? std::optional(Section{folder.path_of(file), *section}) : std::nullopt;
}

bool is_foreign(const Json& section) {
  if (!section.is_object()) return false;
  const Json keys = normalised(section, {});
  const std::string method = lower_string(keys, "method");
  const std::string format = lower_string(keys, "format");
  if (!method.empty()) return method != "gptq" && method != "marlin";
  // AutoAWQ's quant_config.json has no method, but a version that GPTQ has not. Source: casper-hansen/AutoAWQ
  // awq/models/_config.py.
  return format.starts_with("gemm") || format.starts_with("gemv") || format == "llm-awq";
}

bool is_ours(const Json& section) {
  if (!section.is_object() || is_foreign(section)) return false;
  const Json keys = normalised(section, {});
  const std::string format = lower_string(keys, "format");
  return !lower_string(keys, "method").empty() || format.starts_with("gptq") || format.starts_with("marlin");
}

Config parse_config(const Section& section, Findings& findings) {
  const std::string& path = section.path;
  const Json keys = normalised(section.json, path);
  Config config;
  config.path = path;
  config.section = section.json;
  config.format = parse_format(keys, path);
  config.defaults = parse_settings(keys, {}, path);
  config.lm_head = boolean(keys, "lm_head", {}, path).value_or(false);
  config.rules = parse_rules(keys, path);
  const auto writers = quantizers(keys);
  config.gptqmodel = parse_version(writers);
  config.by_regauge =
      std::ranges::any_of(writers, [](const std::string& name) { return name.starts_with("regauge:"); });
  const std::string file = std::filesystem::path(path).filename().native();

  if (config.format == WordFormat::marlin && config.defaults.bits && *config.defaults.bits != 4) {
    throw Error(ErrorCode::malformed, "serialised Marlin has 4 bits, not {}", *config.defaults.bits).at(path);
  }
  if (config.format == WordFormat::v1 || config.format == WordFormat::v2) {
    if (planar_only(config.defaults)) {
      throw Error(ErrorCode::malformed, "codes of {} bits exist in the format gptq_p only, not in {}",
                  *config.defaults.bits, name(config.format))
          .at(path);
    }
    // One such rule makes GPTQModel write all modules planar. Source: gptqmodel/quantization/config.py,
    // BaseQuantizeConfig.__post_init__.
    const auto planar =
        std::ranges::find_if(config.rules, [](const DynamicRule& r) { return planar_only(r.settings); });
    if (planar != config.rules.end()) {
      findings.push_back(
          {Severity::warning, "gptq-format-planar",
           fmt::format("a rule with {} bits makes the whole checkpoint gptq_p, though the config says {}",
                       *planar->settings.bits, name(config.format)),
           file, excerpt(planar->key)});
      config.format = WordFormat::planar;
    }
  }
  if (const Json* rotation = find(keys, "rotation")) {
    findings.push_back(
        {Severity::warning,
         "gptq-rotated",
         fmt::format("the weights were rotated ({}) before quantization: values are not in the base model's basis",
                     excerpt(rotation->dump())),
         file,
         {}});
  }
  return config;
}

}  // namespace regauge::gptq
