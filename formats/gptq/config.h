#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/finding.h"
#include "base/folder.h"
#include "base/json.h"
#include "base/pattern.h"

namespace regauge::gptq {

/// What a quantization config may say about one module; absent where it says nothing.
struct Settings {
  std::optional<std::int64_t> bits;
  std::optional<std::int64_t> group_size;  ///< -1: all of K
  std::optional<bool> sym;
  std::optional<bool> desc_act;
};

/// How the words are laid out, as `format` or `checkpoint_format` says.
enum class WordFormat : std::uint8_t {
  v1,      ///< "gptq": zero points stored minus one
  v2,      ///< "gptq_v2"
  planar,  ///< "gptq_p": bit planes, zero points as they are
  marlin,  ///< "marlin": the serialised form, `B` and `s`
};

std::string_view name(WordFormat format);

/// One entry of `dynamic`: modules whose name the pattern matches from its start are quantized otherwise, or not at all.
struct DynamicRule {
  std::string key;  ///< as the config spells it, prefix included
  Pattern pattern;
  bool excludes = false;  ///< the prefix was "-:"
  Settings settings;
};

/// A quantization config, parsed and checked; without one, `section` is absent and the rest what GPTQModel assumes.
struct Config {
  std::string path;             ///< of the file that has it, for messages; empty without one
  std::optional<Json> section;  ///< verbatim
  WordFormat format = WordFormat::v1;
  Settings defaults;
  bool lm_head = false;
  std::vector<DynamicRule> rules;  ///< in the order in which they are tried
  /// Version of the GPTQModel that wrote the checkpoint, as {major, minor}, when meta.quantizer tells.
  std::optional<std::pair<int, int>> gptqmodel;
  bool by_regauge = false;  ///< meta.quantizer names us

  /// The first rule that matches `module` (a tensor name without ".weight"), or null. Throws what Pattern::matches throws.
  const DynamicRule* rule_for(std::string_view module, MatchBudget& budget) const;
  /// The settings of a module: those of its rule where it has them, else the defaults.
  Settings settings_for(const DynamicRule* rule) const;
};

/// A quantization section and the path of the file that has it.
struct Section {
  std::string path;
  Json json;
};

/// The quantization section of the checkpoint in `folder`: quantize_config.json, quant_config.json, then config.json (its
/// quantization_config, at the top or in text_config). `config` is config.json where it has been read already. Nothing
/// when there is none. Throws Error{malformed} for broken JSON.
/// Source of the order: ModelCloud/GPTQModel gptqmodel/quantization/config.py, QUANT_CONFIG_FILENAME_COMPAT.
std::optional<Section> find_section(const Folder& folder, const std::optional<Json>& config);

/// Whether a section says that it is not GPTQ: another quant_method, or AWQ's old keys.
bool is_foreign(const Json& section);

/// Whether it says that it is: quant_method gptq or marlin, or a format that only GPTQ has.
bool is_ours(const Json& section);

/// Parses the section. Throws Error{malformed} for values that make no sense (bits 0, group 0, a pattern that is none) and
/// Error{unsupported} for formats and word sizes that are not read here, naming file and key.
Config parse_config(const Section& section, Findings& findings);

}  // namespace regauge::gptq
