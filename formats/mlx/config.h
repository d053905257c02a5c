#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/finding.h"
#include "base/json.h"

namespace regauge::mlx {

/// How codes and scales are to be read. Source: ml-explore/mlx mlx/ops.cpp, string_to_quantization_mode.
enum class Mode : std::uint8_t { affine, mxfp4, mxfp8, nvfp4 };

std::string_view name(Mode mode);

/// The parameters of one quantized module; together they are legal.
struct Settings {
  Mode mode = Mode::affine;
  int bits = 4;
  std::int64_t group_size = 64;

  bool operator==(const Settings&) const = default;
};

/// What the config says about one module.
struct Override {
  std::string key;                   ///< as the config spells it
  std::optional<Settings> settings;  ///< absent: true (as the rest) or false (dense)
  bool is_dense = false;             ///< false was written
};

/// The `quantization` section of an MLX config.json.
class Config {
 public:
  /// Without a section: nothing is known.
  Config() = default;
  /// Parses the section found in `path`. Throws Error{malformed} for an unknown mode, widths and group sizes that the mode has
  /// not, two keys that mean one module and disagree; file and key are named.
  Config(const Json& section, std::string_view path);

  const std::optional<Json>& section() const noexcept { return section_; }
  const std::string& path() const noexcept { return path_; }
  const std::optional<Settings>& global() const noexcept { return global_; }
  bool quantizes_activations() const noexcept { return quantizes_activations_; }

  /// The override of a module, by its own name or, where that is not listed, by the names that other dialects give it; null
  /// when there is none. `renamed` is set when it was another name.
  const Override* find(const std::string& module, bool& renamed) const;

  /// All overrides, in file order.
  const std::vector<Override>& overrides() const noexcept { return overrides_; }

 private:
  void add_override(Override override);

  std::optional<Json> section_;
  std::string path_;
  std::optional<Settings> global_;
  bool quantizes_activations_ = false;
  std::vector<Override> overrides_;
  std::map<std::string, std::size_t, std::less<>> exact_;
  std::map<std::string, std::size_t, std::less<>> normalised_;
};

/// The section that makes a config.json an MLX one: `quantization`, or `quantization_config` without a quant_method; null
/// when there is none.
const Json* find_section(const Json& config);

/// Module names that mean `path` in the tree of mlx-lm and mlx-vlm: `path` itself when it is such a name, else what their
/// converters rename it to; a fused gate_up_proj is two modules. Works on names of any architecture, but only Qwen-like
/// prefixes change. Sources: ml-explore/mlx-lm mlx_lm/models/qwen3_5.py and qwen3_5_moe.py, sanitize; Blaizzy/mlx-vlm
/// mlx_vlm/models/qwen3_5.
std::vector<std::string> normalised_names(std::string_view path);

/// Bits and group size of an affine module from the ratio bits * group_size alone, or of a float mode from the words per
/// scale; nothing when several fit.
std::optional<Settings> settings_by_shape(std::int64_t words, std::int64_t groups, bool byte_scales);

/// The settings of a module with that many input columns; nothing when there are none.
std::optional<Settings> settings_by_columns(std::int64_t words, std::int64_t groups, bool byte_scales,
                                            std::int64_t columns);

}  // namespace regauge::mlx
