#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/json.h"
#include "formats/gptq/config.h"

namespace regauge::gptq {

/// How one module is quantized.
struct ModuleSettings {
  std::int64_t bits = 4;
  std::int64_t group_size = 128;  ///< -1: all of K
  bool sym = true;
  bool desc_act = false;

  bool operator==(const ModuleSettings&) const = default;
};

/// A Linear module of a model.
struct LinearModule {
  std::string name;                        ///< of its tensors, without ".weight" or ".qweight"
  std::optional<ModuleSettings> settings;  ///< absent: it is dense
};

/// The quantization section as GPTQModel writes it, for quantize_config.json and for quantization_config of config.json:
/// the settings that most modules have, and `dynamic` with the rules for all others, those for dense modules first. A dense
/// lm_head needs no rule. `writer` ("regauge:0.1.0") stands in meta.quantizer. parse_config() of it says of every module
/// what `modules` says. Throws Error{invalid} when no module is quantized or two have one name, Error{unsupported} for widths
/// that the format has not.
Json make_config(std::span<const LinearModule> modules, WordFormat format, std::string_view writer);

/// A section, of any writer, with rules in front of its own for those of `added` about which it would say something else;
/// about `existing`, names of all other Linear modules, it says what it said. Throws Error{unsupported|malformed}.
Json with_modules(const Json& section, std::span<const std::string> existing, std::span<const LinearModule> added);

/// A config.json with that section in the place of any other quantizer's.
Json with_quantization(const Json& config, const Json& section);

}  // namespace regauge::gptq
