#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "base/pattern.h"
#include "base/text.h"
#include "inspect/quantization.h"
#include "verify/doctor/chart.h"

namespace regauge::doctor {
namespace {

constexpr std::string_view kWeight = ".weight";

/// What rules and defaults say of a name; nothing for a module that is excluded.
struct Claim {
  bool excluded = false;
  std::optional<std::int64_t> bits;
  std::optional<std::int64_t> group_size;
  std::optional<bool> sym;
  std::optional<bool> desc_act;

  bool operator==(const Claim&) const = default;
};

std::string text_of(const Claim& claim) {
  if (claim.excluded) return "dense";
  return fmt::format("{} bits, group {}", claim.bits.value_or(0), claim.group_size.value_or(-1));
}

/// `dynamic` as vLLM reads it: the rules in the order of the file, the first one that matches from the start wins.
/// Source: vllm-project/vllm vllm/model_executor/layers/quantization/utils/gptq_utils.py, get_dynamic_override.
class Rules {
 public:
  explicit Rules(const Checkpoint& checkpoint) {
    const inspect::QuantizationClaims claims = inspect::read_claims(checkpoint);
    defaults_ = {false, claims.bits, claims.group_size, claims.sym, claims.desc_act};
    if (!checkpoint.quantization || !checkpoint.quantization->is_object()) return;
    const Json* dynamic = find(*checkpoint.quantization, "dynamic");
    if (dynamic == nullptr || !dynamic->is_object()) return;
    for (const auto& [key, value] : dynamic->items()) {
      const bool excludes = key.starts_with("-:");
      const std::string_view text = excludes || key.starts_with("+:") ? std::string_view(key).substr(2) : key;
      rules_.push_back({Pattern(text), excludes, value});
    }
  }

  bool empty() const { return rules_.empty(); }

  Claim claim_of(std::string_view module) {
    Claim claim = defaults_;
    for (const Rule& rule : rules_) {
      if (!rule.pattern.matches(module, budget_)) continue;
      claim.excluded = rule.excludes;
      if (rule.excludes || !rule.values.is_object()) return claim;
      if (const auto bits = get_int(rule.values, "bits")) claim.bits = bits;
      if (const auto group = get_int(rule.values, "group_size")) claim.group_size = group;
      if (const auto sym = get_bool(rule.values, "sym")) claim.sym = sym;
      if (const auto act = get_bool(rule.values, "desc_act")) claim.desc_act = act;
      return claim;
    }
    return claim;
  }

 private:
  struct Rule {
    Pattern pattern;
    bool excludes = false;
    Json values;
  };

  Claim defaults_;
  std::vector<Rule> rules_;
  MatchBudget budget_;
};

/// Projections that vLLM holds as one matrix. Source: vllm-project/vllm vllm/model_executor/models/qwen3_5.py,
/// packed_modules_mapping.
struct Fusion {
  std::string_view fused;
  std::array<std::string_view, 3> parts;
};
constexpr std::array<Fusion, 4> kFusions{{{"qkv_proj", {"q_proj", "k_proj", "v_proj"}},
                                          {"gate_up_proj", {"gate_proj", "up_proj", ""}},
                                          {"in_proj_qkvz", {"in_proj_qkv", "in_proj_z", ""}},
                                          {"in_proj_ba", {"in_proj_b", "in_proj_a", ""}}}};

struct Projection {
  std::string module;  ///< name without ".weight"
  bool quantized = false;
};

std::vector<Projection> projections_of(const Patient& patient) {
  std::vector<Projection> all;
  for (const inspect::Entry& entry : patient.report.catalog.entries) {
    const Tensor& tensor = patient.checkpoint.tensors[entry.tensor];
    if (!tensor.name.ends_with(kWeight) || tensor.shape.rank() != 2) continue;
    all.push_back({tensor.name.substr(0, tensor.name.size() - kWeight.size()), entry.quantized});
  }
  return all;
}

/// Rules that say one thing of the parts of a fused matrix and another of its name.
void examine_fused_names(const std::vector<Projection>& projections, Rules& rules, Chart& chart) {
  std::map<std::string, std::vector<const Projection*>> fused;
  for (const Projection& one : projections) {
    const auto dot = one.module.rfind('.');
    if (dot == std::string::npos) continue;
    const std::string_view leaf = std::string_view(one.module).substr(dot + 1);
    for (const Fusion& fusion : kFusions) {
      if (std::ranges::find(fusion.parts, leaf) != fusion.parts.end())
        fused[one.module.substr(0, dot + 1) + std::string(fusion.fused)].push_back(&one);
    }
  }
  std::vector<std::string> missed;
  std::string first;
  for (const auto& [name, parts] : fused) {
    // Parts that all are dense without a rule that says so are left alone by GPTQModel, and vLLM knows them.
    const Claim own = rules.claim_of(parts.front()->module);
    const bool alike =
        std::ranges::all_of(parts, [&](const Projection* part) { return rules.claim_of(part->module) == own; });
    const Claim seen = rules.claim_of(name);
    if (!alike || seen == own) continue;
    if (missed.empty()) first = fmt::format("{} by the rules, its parts {}", text_of(seen), text_of(own));
    missed.push_back(name);
  }
  if (missed.empty()) return;
  chart.fault("gptq-rules-miss-fused",
              fmt::format("{} of vLLM that rules for their parts do not match: {} ({})",
                          count_of(missed.size(), "fused name", "fused names"), list_of(missed), first),
              {Loader::vllm}, {chart.rewrite("writes rules that match the fused names too")});
}

/// Modules that are dense here and quantized elsewhere, without a rule that says so: an MTP layer that was added
/// as it was.
void examine_dense_modules(const Patient& patient, Rules& rules, Chart& chart) {
  std::set<std::string> quantized_roles;
  for (const inspect::Entry& entry : patient.report.catalog.entries) {
    if (entry.quantized && entry.component != Component::head) quantized_roles.insert(entry.role);
  }
  std::vector<std::string> names;
  for (const inspect::Entry& entry : patient.report.catalog.entries) {
    if (entry.quantized || !entry.assembly || !quantized_roles.contains(entry.role)) continue;
    if (!patient.report.architecture->is_linear(entry.assembly->pieces.front().slot)) continue;
    const std::string module(module_of(patient.checkpoint.tensors[entry.tensor]));
    if (!rules.claim_of(module).excluded) names.push_back(module);
  }
  if (names.empty()) return;
  chart.fault("gptq-dense-not-excluded",
              fmt::format("{} dense and excluded by no rule of 'dynamic', where others of that kind are quantized: {}",
                          count_of(names.size(), "module is", "modules are"), list_of(names)),
              {Loader::vllm, Loader::gptqmodel}, {chart.rewrite("writes a rule that excludes them")});
}

void examine_act_order(const Patient& patient, Rules& rules, Findings& findings, Chart& chart) {
  const std::size_t count = patient.vectors.act_order.size();
  std::erase_if(findings, [](const Finding& finding) {
    return finding.code == "act-order" || finding.code == "act-order-absent";
  });
  if (count == 0) return;
  const std::string evidence =
      fmt::format("g_idx of {} of {} is not k / group", count, count_of(patient.vectors.indexed, "module", "modules"));
  std::vector<std::string> undeclared;
  for (const std::size_t tensor : patient.vectors.act_order) {
    const std::string_view module = module_of(patient.checkpoint.tensors[tensor]);
    if (!rules.claim_of(module).desc_act.value_or(true)) undeclared.emplace_back(module);
  }
  if (!undeclared.empty()) {
    chart.fault("act-order-undeclared",
                fmt::format("{}, and desc_act is false for {} of them: kernels that believe it ignore the index: {}",
                            evidence, undeclared.size(), list_of(undeclared)),
                {Loader::vllm, Loader::gptqmodel}, {chart.rewrite("says desc_act true of them")});
    return;
  }
  chart.note(
      "act-order", evidence + ": declared, and right for vLLM and GPTQModel; formats without an index cannot say it",
      {Loader::mlx_lm, Loader::llama_cpp},
      {chart.convert_to("gguf", "keeps what folds into the MLP, and stores the rest as F32", {"--allow", "dense"})});
}

}  // namespace

void examine_gptq(const Patient& patient, Findings& findings, Chart& chart) {
  if (patient.checkpoint.array_format() != "gptq") return;
  Rules rules(patient.checkpoint);
  if (!rules.empty()) examine_fused_names(projections_of(patient), rules, chart);
  if (patient.report.architecture != nullptr) examine_dense_modules(patient, rules, chart);
  examine_act_order(patient, rules, findings, chart);
}

}  // namespace regauge::doctor
