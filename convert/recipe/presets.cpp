#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "base/text.h"
#include "convert/recipe/recipe.h"

namespace regauge {
namespace {

constexpr std::string_view kMlx = "mlx-";
// What GPTQModel's module tree takes of a DeltaNet mixer: in_proj_a and in_proj_b stay dense.
// Source: ModelCloud/GPTQModel gptqmodel/models/definitions/qwen3_5.py.
constexpr std::string_view kGptqDeltanet = R"(linear_attn\.(in_proj_qkv|in_proj_z|out_proj)\.)";

Rule rule(Component component, const Wish& wish, std::string_view canonical = {}) {
  Rule made;
  made.component = component;
  made.canonical = canonical;
  made.wish = wish;
  made.text = fmt::format("@{}{}={}", name(component), canonical, to_string(wish));
  return made;
}

/// Every matrix that mlx-lm's converter quantizes: those of linear modules and the embedding, which serves as head where the
/// two are tied; routers with 8 bits. Source: ml-explore/mlx-lm mlx_lm/utils.py and models/qwen3_5.py, quant_predicate.
Recipe mlx_preset(std::string name, const Wish& wish) {
  Recipe recipe;
  recipe.name = std::move(name);
  for (const Component part : {Component::embedding, Component::head, Component::attention, Component::deltanet,
                               Component::mlp, Component::experts}) {
    recipe.rules.push_back(rule(part, wish));
  }
  recipe.rules.insert(recipe.rules.begin(),
                      rule(Component::mlp, AffineWish{.bits = 8, .group = 64}, R"(\.shared_expert_gate\.)"));
  recipe.rules.push_back(rule(Component::router, AffineWish{.bits = 8, .group = 64}));
  return recipe;
}

/// Every module that GPTQModel quantizes. MTP layers and the head stay as they are.
Recipe gptq_preset(std::string name, const Wish& attention, const Wish& rest) {
  Recipe recipe;
  recipe.name = std::move(name);
  recipe.rules = {rule(Component::attention, attention), rule(Component::deltanet, rest, kGptqDeltanet),
                  rule(Component::mlp, rest), rule(Component::experts, rest)};
  return recipe;
}

/// 8-bit embedding, head, attention and DeltaNet output, 6-bit DeltaNet inputs, 5-bit MLP, groups of 64: a published MLX
/// mix of Qwen3.5-27B.
Recipe proposal_c() {
  const auto codes = [](int bits) { return AffineWish{.bits = bits, .group = 64}; };
  Recipe recipe;
  recipe.name = "proposal-c";
  recipe.rules = {
      rule(Component::embedding, codes(8)), rule(Component::head, codes(8)),
      rule(Component::attention, codes(8)), rule(Component::deltanet, codes(8), R"(linear_attn\.out_proj\.)"),
      rule(Component::deltanet, codes(6)),  rule(Component::mlp, codes(5)),
      rule(Component::experts, codes(5))};
  return recipe;
}

/// "4bit", "4bit-g32", "mxfp4": what follows "mlx-".
std::optional<Wish> mlx_wish(std::string_view text) {
  constexpr std::string_view kBit = "bit";
  if (const std::size_t at = text.find(kBit); at != std::string_view::npos)
    return wish_from_text(fmt::format("int{}{}", text.substr(0, at), text.substr(at + kBit.size())));
  const auto wish = wish_from_text(text);
  return wish && std::holds_alternative<FloatBlocks>(*wish) ? wish : std::nullopt;
}

}  // namespace

std::vector<std::string> preset_names() {
  std::vector<std::string> names{"exact", "proposal-c", "int8-attention-int4", "int4-g64"};
  for (const char* mode : {"2bit", "3bit", "4bit", "5bit", "6bit", "8bit", "mxfp4", "mxfp8", "nvfp4"})
    names.push_back(std::string(kMlx) + mode);
  for (const LlamaFileType& type : llama_file_types()) names.emplace_back(type.name);
  return names;
}

Recipe preset(std::string_view name) {
  if (name == "exact") return {};
  if (name == "proposal-c") return proposal_c();
  if (name == "int8-attention-int4")
    return gptq_preset(std::string(name), AffineWish{.bits = 8, .group = 128}, AffineWish{.bits = 4, .group = 128});
  if (name.starts_with(kMlx)) {
    if (const auto wish = mlx_wish(name.substr(kMlx.size()))) return mlx_preset(std::string(name), *wish);
  }
  if (const LlamaFileType* type = find_llama_file_type(name)) {
    Recipe recipe;
    recipe.name = type->name;
    recipe.mixture = type;
    return recipe;
  }
  if (const auto wish = wish_from_text(name); wish && std::holds_alternative<AffineWish>(*wish))
    return gptq_preset(std::string(name), *wish, *wish);
  throw Error(ErrorCode::not_found, "there is no recipe '{}': a file ends in .json, and presets are {}",
              printable(excerpt(name)), fmt::join(preset_names(), ", "));
}

}  // namespace regauge
