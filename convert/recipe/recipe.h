#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "convert/recipe/llama_mixture.h"
#include "convert/recipe/wish.h"
#include "ir/checkpoint.h"
#include "ir/slot.h"
#include "models/architecture.h"

namespace regauge {

/// What may become of values that no encoding asked for holds. Nothing, unless somebody says so.
struct Losses {
  bool dense = false;        ///< F32 where no encoding holds them (exact, larger)
  bool rounded = false;      ///< codes kept, scales or offsets rounded
  bool requantized = false;  ///< quantized again, at the source's width or above
  bool operator==(const Losses&) const = default;
};

/// One line of a recipe: which tensors, and as what. All that is given must hold. The vision tower is reached by its
/// component only.
struct Rule {
  std::string text;                    ///< as a person would write it, for messages: "ffn_down=Q6_K"
  std::string pattern;                 ///< regular expression, found anywhere in the target's name; empty: every name
  std::string canonical;               ///< the same over Hugging Face's name; empty: every name
  std::optional<Component> component;  ///< MTP layers are "mtp", whatever their matrices do
  Wish wish;
  Losses allow;         ///< with an exact wish
  bool strict = false;  ///< somebody named these tensors: an encoding that cannot hold them is an error
};

/// Ordered rules, of which the first that matches counts; a mixture for tensors that none names; exact for the rest.
struct Recipe {
  std::string name = "exact";
  std::vector<Rule> rules;
  const LlamaFileType* mixture = nullptr;
  std::map<std::string, Wish> layout;  ///< by canonical name, before the mixture: what another checkpoint has
  Losses allow;                        ///< of tensors that come to exact

  bool is_exact() const { return rules.empty() && mixture == nullptr && layout.empty(); }
};

/// The mixture that `recipe`, which may be null, has for an output; null when it has none. llama-quantize's rules speak of
/// models: a vision tower stays as it is unless a rule names it.
const LlamaFileType* mixture_for(const Recipe* recipe, OutputKind kind);

/// "PATTERN=TYPE", or "@COMPONENT=TYPE" (@attention, @mlp, @embedding ...). Throws Error{invalid}.
Rule rule_from_text(std::string_view text);

/// A preset by name: "exact", a type of llama-quantize ("Q4_K_M"), "mlx-4bit", "mlx-mxfp4" and their like, an encoding for
/// all matrices that quantizers take ("int4-g64"), or a published layout ("proposal-c", "int8-attention-int4"). Throws
/// Error{not_found}, naming them, for another name.
Recipe preset(std::string_view name);

/// Names for help and messages.
std::vector<std::string> preset_names();

/// A recipe file, docs/recipes.md. Throws Error{malformed} naming the rule.
Recipe parse_recipe(const Json& json, const std::string& file);
/// A preset's name or the path of a recipe file. Throws what preset(), parse_recipe() and reading throw.
Recipe load_recipe(const std::string& name_or_path);

/// The layout of another checkpoint as a recipe: each weight as it is there. Takes those that are quantized or dense floats of
/// two dimensions. Throws Error{unsupported} when `other` is of no architecture that we know.
Recipe layout_of(const Checkpoint& other, const Architecture* architecture);

}  // namespace regauge
