#include "formats/mlx/config_writer.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/text.h"
#include "formats/safetensors/config_text.h"

namespace regauge::mlx {
namespace {

/// The settings that most modules have; where several do, those of fewest bits, and the first of these: wider ones are
/// what recipes make exceptions for.
std::optional<Settings> most_common(std::span<const QuantizableModule> modules) {
  std::vector<std::pair<Settings, std::size_t>> census;
  for (const QuantizableModule& module : modules) {
    if (!module.settings) continue;
    const auto known = std::ranges::find_if(census, [&](const auto& entry) { return entry.first == *module.settings; });
    if (known != census.end()) {
      ++known->second;
    } else {
      census.emplace_back(*module.settings, 1);
    }
  }
  const auto most = std::ranges::max_element(
      census, {}, [](const auto& entry) { return std::pair(entry.second, -entry.first.bits); });
  return most == census.end() ? std::nullopt : std::optional(most->first);
}

Json parameters(const Settings& settings, bool with_mode) {
  Json out = Json::object();
  out["group_size"] = settings.group_size;
  out["bits"] = settings.bits;
  if (with_mode) out["mode"] = name(settings.mode);
  return out;
}

/// Reads the section back and holds it against the modules.
void check_meaning(const Json& section, std::span<const QuantizableModule> modules) {
  std::optional<Config> config;
  try {
    config.emplace(section, "config.json");
  } catch (const Error& error) {
    throw Error(ErrorCode::invalid, "{}", error.message()).tensor(error.tensor_name());
  }
  for (const QuantizableModule& module : modules) {
    if (!module.settings) continue;
    bool renamed = false;
    const Override* override = config->find(module.path, renamed);
    const auto& read = override != nullptr ? override->settings : config->global();
    if (renamed && override != nullptr) {
      throw Error(ErrorCode::invalid, "is no name in the tree of mlx-lm").tensor(excerpt(module.path));
    }
    if (read != module.settings) {
      throw Error(ErrorCode::internal, "the quantization config that was made says something else")
          .tensor(excerpt(module.path));
    }
  }
}

}  // namespace

std::optional<Json> make_config(std::span<const QuantizableModule> modules) {
  const auto global = most_common(modules);
  if (!global) return std::nullopt;
  Json section = parameters(*global, true);
  Json::object_t overrides;  // appended to, because each look-up of Json is linear
  std::set<std::string_view> seen;
  for (const QuantizableModule& module : modules) {
    if (!seen.insert(module.path).second) {
      throw Error(ErrorCode::invalid, "two modules have this name").tensor(excerpt(module.path));
    }
    if (section.contains(module.path) || module.path == "quantize_activations") {
      throw Error(ErrorCode::invalid, "the module's name is a key of the config itself").tensor(excerpt(module.path));
    }
    if (!module.settings || module.settings == global) continue;
    overrides.emplace_back(module.path, parameters(*module.settings, module.settings->mode != Mode::affine));
  }
  auto& object = section.get_ref<Json::object_t&>();
  for (auto& [path, value] : overrides) object.emplace_back(path, std::move(value));
  check_meaning(section, modules);
  return section;
}

Json with_modules(const Json& section, std::span<const QuantizableModule> added) {
  const Config config(section, "config.json");
  Json out = section;
  for (const QuantizableModule& module : added) {
    if (!module.settings) continue;
    bool renamed = false;
    const Override* override = config.find(module.path, renamed);
    const auto& read = override != nullptr ? override->settings : config.global();
    if (read != module.settings) out[module.path] = parameters(*module.settings, true);
  }
  check_meaning(out, added);
  return out;
}

Json with_quantization(const Json& config, const std::optional<Json>& section) {
  Json out = safetensors::without_quantization(config);
  if (!section) return out;
  safetensors::set_sorted(out, "quantization", *section);
  safetensors::set_sorted(out, "quantization_config", *section);
  return out;
}

}  // namespace regauge::mlx
