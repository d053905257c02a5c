#include "inspect/marlin.h"

#include <algorithm>
#include <array>
#include <map>
#include <string_view>

#include <fmt/format.h>

#include "inspect/quantization.h"

namespace regauge::inspect {
namespace {

std::string config_reason(const QuantizationClaims& claims) {
  if (claims.method != "gptq") {
    return claims.method.empty() ? "the configuration names no quant_method"
                                 : fmt::format("quant_method is '{}'", claims.method);
  }
  if (!claims.bits || !claims.group_size || !claims.sym || !claims.desc_act) {
    return "the configuration does not say all of bits, group_size, sym and desc_act";
  }
  if (!*claims.sym) return "asymmetric";
  if (*claims.bits != 4 && *claims.bits != 8) return fmt::format("{}-bit; Marlin takes 4 and 8", *claims.bits);
  constexpr std::array<std::int64_t, 4> kGroups{-1, 32, 64, 128};
  if (std::ranges::find(kGroups, *claims.group_size) == kGroups.end()) {
    return fmt::format("group size {}; Marlin takes -1, 32, 64 and 128", *claims.group_size);
  }
  return {};
}

struct ModuleShape {
  std::int64_t rows = 0;     ///< outputs, N
  std::int64_t columns = 0;  ///< inputs, K
  std::int64_t group = 0;    ///< columns of a group, at most `columns`
};

/// What both rules ask of a module before any tile is laid.
std::string common_reason(const Grouped& encoding, const ModuleShape& shape) {
  if (encoding.bits != 4 && encoding.bits != 8) return fmt::format("{} bits", encoding.bits);
  if (shape.group < shape.columns && shape.columns % shape.group != 0) {
    return fmt::format("{} inputs are no multiple of the group of {}", shape.columns, shape.group);
  }
  return {};
}

std::string tile_reason(const ModuleShape& shape) {
  if (shape.rows % 64 != 0) return fmt::format("{} outputs are no multiple of 64", shape.rows);
  if (shape.columns % 128 != 0) return fmt::format("{} inputs are no multiple of 128", shape.columns);
  return {};
}

struct Fusion {
  std::string_view fused;
  std::array<std::string_view, 3> leaves;
};

constexpr std::array<Fusion, 3> kFusions{{
    {"qkv_proj", {"q_proj", "k_proj", "v_proj"}},
    {"gate_up_proj", {"gate_proj", "up_proj", ""}},
    {"in_proj_qkvz", {"in_proj_qkv", "in_proj_z", ""}},
}};

const Fusion* find_fusion(std::string_view leaf) {
  for (const Fusion& fusion : kFusions) {
    if (std::ranges::find(fusion.leaves, leaf) != fusion.leaves.end()) return &fusion;
  }
  return nullptr;
}

std::vector<MixedFusion> mixed_fusions(const Checkpoint& checkpoint, const Catalog& catalog) {
  std::map<std::pair<std::string, std::string_view>, std::vector<std::size_t>> groups;
  for (const Entry& entry : catalog.entries) {
    std::string_view module = checkpoint.tensors[entry.tensor].name;
    if (!module.ends_with(".weight")) continue;
    module.remove_suffix(std::string_view(".weight").size());
    const std::size_t dot = module.rfind('.');
    if (dot == std::string_view::npos) continue;
    if (const Fusion* fusion = find_fusion(module.substr(dot + 1))) {
      groups[{std::string(module.substr(0, dot)), fusion->fused}].push_back(entry.tensor);
    }
  }
  std::vector<MixedFusion> mixed;
  for (auto& [key, tensors] : groups) {
    const Encoding& first = checkpoint.tensors[tensors.front()].encoding;
    const bool same =
        std::ranges::all_of(tensors, [&](std::size_t t) { return checkpoint.tensors[t].encoding == first; });
    if (!same) mixed.push_back({key.first, std::string(key.second), std::move(tensors)});
  }
  std::ranges::sort(mixed, {}, [](const MixedFusion& m) { return m.tensors.front(); });
  return mixed;
}

}  // namespace

MarlinVerdict judge_marlin(const Checkpoint& checkpoint, const Catalog& catalog) {
  MarlinVerdict verdict;
  verdict.applies = checkpoint.array_format() == "gptq";
  if (!verdict.applies) return verdict;
  const QuantizationClaims claims = read_claims(checkpoint);
  verdict.config_reason = config_reason(claims);
  // One group for a whole row makes act-order meaningless, and vLLM drops it then.
  const bool act_order = claims.desc_act.value_or(false) && claims.group_size.value_or(0) != -1;
  for (const Entry& entry : catalog.entries) {
    const Tensor& tensor = checkpoint.tensors[entry.tensor];
    const auto* encoding = std::get_if<Grouped>(&tensor.encoding);
    if (encoding == nullptr) continue;
    ++verdict.modules;
    ModuleShape shape{tensor.shape.rows(), tensor.shape.columns(), encoding->group.cols};
    if (shape.group <= 0 || shape.group > shape.columns) shape.group = shape.columns;
    const std::string common = common_reason(*encoding, shape);
    const std::string tile = tile_reason(shape);
    const bool padded = common.empty() && (tile.empty() || !act_order);
    if (common.empty() && tile.empty()) ++verdict.strict;
    if (padded) ++verdict.padded;
    if (!common.empty() || !tile.empty())
      verdict.refusals.push_back({entry.tensor, common.empty() ? tile : common, !padded});
  }
  verdict.mixed = mixed_fusions(checkpoint, catalog);
  return verdict;
}

}  // namespace regauge::inspect
