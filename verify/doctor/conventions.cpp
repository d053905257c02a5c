#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "ir/encoding.h"
#include "models/norm_shift.h"
#include "verify/doctor/chart.h"

namespace regauge::doctor {
namespace {

/// Means of norms that are stored by one rule: those of the model, or of its MTP layers, which may come from elsewhere.
struct NormGroup {
  std::string_view what;
  std::vector<double> means;
  bool stored_shifted = false;  ///< what dialect and shapes say
};

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

std::string_view words_of(int shift, bool stored_shifted) {
  if (shift < 0) return "one was never added";
  if (stored_shifted) return "one was added twice";
  return shift == 1 ? "one was added, and loaders will add it once more" : "one was added twice";
}

void judge(const NormGroup& group, const Checkpoint& checkpoint, Chart& chart) {
  if (group.means.empty()) return;
  const int shift = norm_shift(group.means, group.stored_shifted);
  if (shift == 0) return;
  const auto [least, most] = std::ranges::minmax(group.means);
  std::vector<Cure> cures{chart.convert_original("makes them from the original, by the rules of this format")};
  const int stored = (group.stored_shifted ? 1 : 0) + shift;
  if (checkpoint.array_format() != "gguf") {
    cures.front() =
        stored == 0 || stored == 1
            ? chart.rewrite("stores them as this format has them; what adding one has rounded stays rounded")
            : Chart::no_command(
                  "no command mends this: adding and subtracting one rounded the numbers; get the original");
  }
  chart.fault(
      shift > 0 ? "norms-shifted-twice" : "norms-not-shifted",
      fmt::format("{} of the {} have a median mean of {:.3f}, from {:.3f} to {:.3f}, where this dialect stores {}: {}",
                  count_of(group.means.size(), "norm", "norms"), group.what, median(group.means), least, most,
                  group.stored_shifted ? "1 + w, around 1" : "w, around 0", words_of(shift, group.stored_shifted)),
      chart.loaders(), std::move(cures));
}

void examine_norms(const Patient& patient, Findings& findings, Chart& chart) {
  NormGroup text{"model", {}, false};
  NormGroup mtp{"MTP layers", {}, false};
  for (const inspect::NormMean& norm : patient.vectors.norms) {
    const auto entry = std::ranges::find(patient.report.catalog.entries, norm.tensor, &inspect::Entry::tensor);
    NormGroup& group = entry->component == Component::mtp ? mtp : text;
    group.means.push_back(norm.mean);
    group.stored_shifted = norm.stored_shifted;
  }
  const std::size_t before = chart.ailments().size();
  judge(text, patient.checkpoint, chart);
  judge(mtp, patient.checkpoint, chart);
  if (chart.ailments().size() != before)
    std::erase_if(findings, [](const Finding& finding) { return finding.code == "norm-convention-contradicted"; });
}

/// mlx-lm decides by the first convolution that it meets whether norms were shifted. Source: ml-explore/mlx-lm
/// mlx_lm/models/qwen3_5.py, sanitize.
void examine_convolutions(const Patient& patient, Chart& chart) {
  if (patient.checkpoint.dialect == Dialect::gguf) return;
  std::vector<std::string> converted;
  std::vector<std::string> raw;
  for (const inspect::Entry& entry : patient.report.catalog.entries) {
    if (entry.role != "linear_attn.conv1d.weight") continue;
    const Tensor& tensor = patient.checkpoint.tensors[entry.tensor];
    if (tensor.shape.rank() != 3 || tensor.shape.dims[1] == tensor.shape.dims[2]) continue;
    (tensor.shape.dims[2] == 1 ? converted : raw).push_back(tensor.name);
  }
  const bool mlx = patient.checkpoint.dialect == Dialect::mlx;
  if (!converted.empty() && raw.empty() && !mlx) {
    chart.fault("conv-layout-mlx",
                fmt::format("{} [channels, width, 1], as MLX has it and those who load this format do not: {}",
                            count_of(converted.size(), "convolution is", "convolutions are"), list_of(converted)),
                chart.loaders(), {chart.rewrite("writes them as this format has them, and norms with them")});
  }
  if (converted.empty() || raw.empty()) return;
  chart.fault(
      "conv-layout-mixed",
      fmt::format("{} [channels, width, 1] as MLX has it, and {} [channels, 1, width] as Hugging Face has it: {}",
                  count_of(converted.size(), "convolution is", "convolutions are"), count_of(raw.size(), "is", "are"),
                  list_of(mlx ? raw : converted)),
      {mlx ? Loader::mlx_lm : Loader::vllm}, {chart.rewrite("writes all of them as this format has them")});
}

/// Which is a fault only where one kind of tensor comes in both types: nobody publishes that.
void examine_f32_pair(const Patient& patient, Findings& findings, Chart& chart) {
  if (patient.checkpoint.dialect == Dialect::gguf) return;
  std::map<std::string, std::map<std::string, std::size_t>> stored;
  for (const inspect::Entry& entry : patient.report.catalog.entries) {
    if (entry.role == "linear_attn.A_log" || entry.role == "linear_attn.norm.weight")
      ++stored[entry.role][entry.encoding];
  }
  std::string mixed;
  for (const auto& [role, encodings] : stored) {
    if (encodings.size() < 2) continue;
    mixed += (mixed.empty() ? "" : "; ") + role;
    for (const auto& [encoding, count] : encodings) mixed += fmt::format(" {} ({})", encoding, count);
  }
  if (mixed.empty()) {
    std::erase_if(findings, [&](const Finding& finding) {
      if (finding.code != "f32-pair-cast") return false;
      chart.note("f32-pair-cast", finding.message, {},
                 {Chart::no_command("no command mends this where the bits are gone; get the original")});
      return true;
    });
    return;
  }
  std::erase_if(findings, [](const Finding& finding) { return finding.code == "f32-pair-cast"; });
  chart.fault("f32-pair-half-cast", mixed + ": a cast of some has lost bits of theirs", chart.loaders(),
              {Chart::no_command("no command mends this: the bits are gone; get the original")});
}

}  // namespace

void examine_conventions(const Patient& patient, Findings& findings, Chart& chart) {
  if (patient.report.architecture == nullptr) return;
  examine_norms(patient, findings, chart);
  examine_convolutions(patient, chart);
  examine_f32_pair(patient, findings, chart);
}

}  // namespace regauge::doctor
