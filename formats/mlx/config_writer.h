#pragma once

#include <optional>
#include <span>
#include <string>

#include "base/json.h"
#include "formats/mlx/config.h"

namespace regauge::mlx {

/// A module of an MLX model that could be quantized.
struct QuantizableModule {
  std::string path;                  ///< in the tree of mlx-lm, without ".weight"
  std::optional<Settings> settings;  ///< absent: it is dense
};

/// The quantization section as mlx-lm writes it: the settings that most modules have, then those of every other module. A dense
/// module is not listed: loaders quantize what has scales. `mode` is left out of overrides that are affine: that is what its
/// absence means, and MLX from before August 2025 knows no modes. Nothing when no module is quantized. Config of it says of every
/// quantized module what `modules` says. Throws Error{invalid} for settings that MLX has not and modules that contradict
/// each other. Sources: ml-explore/mlx-lm mlx_lm/utils.py, quantize_model and load_model.
std::optional<Json> make_config(std::span<const QuantizableModule> modules);

/// A section, of any writer, with overrides for those of `added` that it would take for something else; dense modules need
/// none. Throws as make_config().
Json with_modules(const Json& section, std::span<const QuantizableModule> added);

/// A config.json with that section under both of mlx-lm's keys in the place of any other quantizer's; without a section, with
/// neither.
Json with_quantization(const Json& config, const std::optional<Json>& section);

}  // namespace regauge::mlx
