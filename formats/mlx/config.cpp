#include "formats/mlx/config.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/text.h"

namespace regauge::mlx {
namespace {

struct ModeRow {
  std::string_view name;
  Mode mode;
  Settings defaults;
};

// Defaults where bits or group_size are absent or null. Source: ml-explore/mlx mlx/ops.cpp, quantization_params_from_mode.
constexpr std::array kModes = {
    ModeRow{"affine", Mode::affine, {Mode::affine, 4, 64}},
    ModeRow{"mxfp4", Mode::mxfp4, {Mode::mxfp4, 4, 32}},
    ModeRow{"mxfp8", Mode::mxfp8, {Mode::mxfp8, 8, 32}},
    ModeRow{"nvfp4", Mode::nvfp4, {Mode::nvfp4, 4, 16}},
};

// Source: ml-explore/mlx mlx/ops.cpp, validate_quantized_input and affine_quantize; the 1-bit extension is Blaizzy/mlx-vlm
// mlx_vlm/quantization/one_bit.py.
constexpr std::array kAffineBits{2, 3, 4, 5, 6, 8};
constexpr std::array<std::int64_t, 3> kAffineGroups{32, 64, 128};

bool is_legal(const Settings& settings) {
  if (settings.mode != Mode::affine) return std::ranges::find(kModes, settings, &ModeRow::defaults) != kModes.end();
  const bool width = settings.bits == 1 || std::ranges::find(kAffineBits, settings.bits) != kAffineBits.end();
  return width && std::ranges::find(kAffineGroups, settings.group_size) != kAffineGroups.end();
}

/// Parameters of the global entry or of one module: what is missing or null is the mode's own default, a missing mode is
/// affine. Source: ml-explore/mlx python/mlx/nn/layers/quantized.py, QuantizedLinear.__init__.
Settings parse_settings(const Json& object, std::string_view key, std::string_view path) {
  try {
    const std::string mode = get_string(object, "mode").value_or("affine");
    const auto row = std::ranges::find(kModes, mode, &ModeRow::name);
    if (row == kModes.end()) throw Error(ErrorCode::malformed, "quantization mode '{}' is not known", excerpt(mode));
    const auto bits = get_int(object, "bits");
    const auto group_size = get_int(object, "group_size");
    Settings settings = row->defaults;
    // Out of int's range is out of every mode's; the message shows the number as it stands in the file.
    const bool wide = bits && (*bits < 0 || *bits > 64);
    if (bits && !wide) settings.bits = static_cast<int>(*bits);
    if (group_size) settings.group_size = *group_size;
    if (wide || !is_legal(settings)) {
      throw Error(ErrorCode::malformed, "mode {} has no {} bits in groups of {}", mode, bits.value_or(settings.bits),
                  settings.group_size);
    }
    return settings;
  } catch (Error& error) {
    throw std::move(error.tensor(excerpt(key)).at(path));
  }
}

bool is_parameter(std::string_view key) { return key == "bits" || key == "group_size" || key == "mode"; }

bool starts_with_number(std::string_view text) {
  const auto end = text.find_first_not_of("0123456789");
  return end != 0 && end != std::string_view::npos && text[end] == '.';
}

std::string renamed(std::string_view path) {
  struct Rename {
    std::string_view from;
    std::string_view to;
  };
  // The longer prefix first.
  constexpr std::array kRenames = {
      Rename{"model.language_model.visual.", "vision_tower."},
      Rename{"model.visual.", "vision_tower."},
      Rename{"model.language_model.", "language_model.model."},
      Rename{"model.", "language_model.model."},
  };
  for (const Rename& rename : kRenames) {
    if (path.starts_with(rename.from)) return std::string(rename.to) + std::string(path.substr(rename.from.size()));
  }
  return path == "lm_head" ? "language_model.lm_head" : std::string(path);
}

}  // namespace

std::string_view name(Mode mode) { return std::ranges::find(kModes, mode, &ModeRow::mode)->name; }

std::vector<std::string> normalised_names(std::string_view path) {
  constexpr std::string_view kExperts = ".mlp.experts.";
  const std::string name = renamed(path);
  const auto at = name.find(kExperts);
  if (at == std::string::npos) return {name};
  const std::string stem = name.substr(0, at) + ".mlp.switch_mlp.";
  const std::string leaf = name.substr(at + kExperts.size());
  if (leaf == "gate_up_proj") return {stem + "gate_proj", stem + "up_proj"};
  if (starts_with_number(leaf)) return {stem + leaf.substr(leaf.find('.') + 1)};
  return {stem + leaf};
}

std::optional<Settings> settings_by_shape(std::int64_t words, std::int64_t groups, bool byte_scales) {
  if (byte_scales) {
    for (const ModeRow& row : kModes) {
      const std::int64_t words_per_group = row.defaults.group_size * row.defaults.bits / 32;
      if (row.mode != Mode::affine && words % words_per_group == 0 && words / words_per_group == groups)
        return row.defaults;
    }
    return std::nullopt;
  }
  std::optional<Settings> found;
  for (const int bits : kAffineBits) {
    for (const std::int64_t group_size : kAffineGroups) {
      const std::int64_t words_per_group = group_size * bits / 32;
      if (words % words_per_group != 0 || words / words_per_group != groups) continue;
      if (found) return std::nullopt;
      found = Settings{Mode::affine, bits, group_size};
    }
  }
  return found;
}

std::optional<Settings> settings_by_columns(std::int64_t words, std::int64_t groups, bool byte_scales,
                                            std::int64_t columns) {
  if (groups < 1 || columns < 1 || columns % groups != 0 || columns % 32 != 0 || words % (columns / 32) != 0)
    return std::nullopt;
  const std::int64_t bits = words / (columns / 32);
  const std::int64_t group_size = columns / groups;
  if (bits > 8) return std::nullopt;
  for (const ModeRow& row : kModes) {
    const Settings settings{row.mode, static_cast<int>(bits), group_size};
    if ((row.mode != Mode::affine) == byte_scales && is_legal(settings)) return settings;
  }
  return std::nullopt;
}

const Json* find_section(const Json& config) {
  if (!config.is_object()) return nullptr;
  if (const Json* section = regauge::find(config, "quantization"); section != nullptr && section->is_object())
    return section;
  const Json* copy = regauge::find(config, "quantization_config");
  const bool own = copy != nullptr && copy->is_object() && regauge::find(*copy, "quant_method") == nullptr &&
                   regauge::find(*copy, "group_size") != nullptr && regauge::find(*copy, "bits") != nullptr;
  return own ? copy : nullptr;
}

Config::Config(const Json& section, std::string_view path) : section_(section), path_(path) {
  global_ = parse_settings(section, {}, path);
  for (const auto& [key, value] : section.items()) {
    if (is_parameter(key)) continue;
    if (key == "quantize_activations") {
      quantizes_activations_ = value.is_boolean() && value.get<bool>();
    } else if (value.is_boolean()) {
      add_override({key, std::nullopt, !value.get<bool>()});
    } else if (value.is_object()) {
      add_override({key, parse_settings(value, key, path), false});
    }
  }
}

void Config::add_override(Override override) {
  const std::size_t index = overrides_.size();
  exact_.emplace(override.key, index);
  for (std::string& name : normalised_names(override.key)) {
    const auto [place, is_new] = normalised_.emplace(std::move(name), index);
    if (is_new) continue;
    const Override& other = overrides_[place->second];
    if (other.settings != override.settings || other.is_dense != override.is_dense) {
      throw Error(ErrorCode::malformed, "means the same module as '{}' and says something else", excerpt(other.key))
          .tensor(excerpt(override.key))
          .at(path_);
    }
  }
  overrides_.push_back(std::move(override));
}

const Override* Config::find(const std::string& module, bool& renamed) const {
  renamed = false;
  if (const auto found = exact_.find(module); found != exact_.end()) return &overrides_[found->second];
  renamed = true;
  for (const std::string& name : normalised_names(module)) {
    if (const auto found = normalised_.find(name); found != normalised_.end()) return &overrides_[found->second];
  }
  return nullptr;
}

}  // namespace regauge::mlx
