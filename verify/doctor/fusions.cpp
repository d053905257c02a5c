#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "inspect/quantization.h"
#include "ir/encoding.h"
#include "verify/doctor/chart.h"

namespace regauge::doctor {
namespace {

std::string_view recipe_word(DType dtype) {
  switch (dtype) {
    case DType::f16: return "f16";
    case DType::bf16: return "bf16";
    default: return "f32";
  }
}

/// What a recipe calls the widest encoding of the parts: what has to give way loses least.
std::string widest_of(const Patient& patient, const inspect::MixedFusion& fusion) {
  const Grouped* widest = nullptr;
  for (const std::size_t index : fusion.tensors) {
    const Encoding& encoding = patient.checkpoint.tensors[index].encoding;
    // A dense part stays as it is, and the others are decoded.
    if (const auto* dense = std::get_if<Dense>(&encoding)) return std::string(recipe_word(dense->dtype));
    const auto* grouped = std::get_if<Grouped>(&encoding);
    if (grouped == nullptr) return {};
    const auto rank = [](const Grouped& one) { return std::pair(one.bits, one.group.cols == 0 ? 0 : -one.group.cols); };
    if (widest == nullptr || rank(*grouped) > rank(*widest)) widest = grouped;
  }
  if (widest == nullptr) return {};
  const bool symmetric = inspect::read_claims(patient.checkpoint).sym.value_or(true);
  return fmt::format("int{}-g{}{}", widest->bits, widest->group.cols == 0 ? -1 : widest->group.cols,
                     symmetric ? "" : "-asym");
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == '.' ? "\\." : std::string(1, c);
  return out;
}

/// Modules that differ in their layer's number alone, which become one rule.
struct FusionGroup {
  std::string before;  ///< the number
  std::string after;
  std::string leaves;  ///< "q_proj|k_proj|v_proj"
  std::string type;
  // NOLINTNEXTLINE(modernize-use-nullptr): takes the 0 of a defaulted comparison for a pointer
  auto operator<=>(const FusionGroup&) const = default;
};

FusionGroup group_of(const Patient& patient, const inspect::MixedFusion& fusion, std::string& number) {
  FusionGroup group;
  std::size_t end = fusion.module.size();
  std::size_t begin = end;
  for (std::size_t at = 0; at < fusion.module.size();) {
    const std::size_t dot = std::min(fusion.module.find('.', at), fusion.module.size());
    const std::string_view step = std::string_view(fusion.module).substr(at, dot - at);
    if (!step.empty() && step.find_first_not_of("0123456789") == std::string_view::npos) {
      begin = at;
      end = dot;
      break;
    }
    at = dot + 1;
  }
  number = fusion.module.substr(begin, end - begin);
  group.before = fusion.module.substr(0, begin);
  group.after = fusion.module.substr(end);
  for (const std::size_t index : fusion.tensors) {
    const std::string_view module = module_of(patient.checkpoint.tensors[index]);
    group.leaves += (group.leaves.empty() ? "" : "|") + std::string(module.substr(fusion.module.size() + 1));
  }
  group.type = widest_of(patient, fusion);
  return group;
}

/// --tensor-type PATTERN=TYPE for every kind of mixed fusion, naming the layers; empty when some have no name in recipes.
std::vector<std::string> options_for(const Patient& patient) {
  std::map<FusionGroup, std::string> numbers;
  for (const inspect::MixedFusion& fusion : patient.report.marlin.mixed) {
    std::string number;
    const FusionGroup group = group_of(patient, fusion, number);
    if (group.type.empty()) return {};
    std::string& all = numbers[group];
    all += (all.empty() ? "" : "|") + number;
  }
  std::vector<std::string> options;
  for (const auto& [group, all] : numbers) {
    options.insert(options.end(), {"--tensor-type", fmt::format("^{}({}){}\\.({})\\.={}", escaped(group.before), all,
                                                                escaped(group.after), group.leaves, group.type)});
  }
  return options;
}

}  // namespace

void examine_fusions(const Patient& patient, Findings& findings, Chart& chart) {
  std::erase_if(findings, [](const Finding& finding) { return finding.code == "fusion-mixed"; });
  const std::vector<inspect::MixedFusion>& mixed = patient.report.marlin.mixed;
  if (mixed.empty()) return;
  std::vector<std::string> names;
  for (const inspect::MixedFusion& fusion : mixed) {
    std::string parts;
    for (const std::size_t index : fusion.tensors) {
      const Tensor& tensor = patient.checkpoint.tensors[index];
      parts += fmt::format("{}{} {}", parts.empty() ? "" : ", ", module_of(tensor).substr(fusion.module.size() + 1),
                           to_string(tensor.encoding));
    }
    names.push_back(fmt::format("{}.{} ({})", fusion.module, fusion.fused, parts));
  }
  const std::vector<std::string> options = options_for(patient);
  chart.fault("fusion-mixed",
              fmt::format("{} that vLLM runs as one matrix and whose parts are stored in different encodings: {}",
                          count_of(mixed.size(), "group of projections", "groups of projections"), list_of(names)),
              {Loader::vllm},
              {options.empty() ? Chart::no_command("no command mends this: quantize the original again")
                               : chart.rewrite("gives the parts the widest of their encodings, with new codes where "
                                               "they had another",
                                               options)});
}

}  // namespace regauge::doctor
