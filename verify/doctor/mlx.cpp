#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/json.h"
#include "base/text.h"
#include "verify/doctor/chart.h"

namespace regauge::doctor {
namespace {

/// mlx-lm reads every file called model*.safetensors, whatever an index says, and its versions before August 2026 took an MTP weight
/// for the sign of an unconverted checkpoint: they added one to norms that have it already. Source: ml-explore/mlx-lm
/// mlx_lm/models/qwen3_5.py, sanitize, and pull request 1623.
void examine_mtp_place(const Patient& patient, Chart& chart) {
  std::vector<std::string> names;
  std::set<std::string> files;
  for (const inspect::Entry& entry : patient.report.catalog.entries) {
    if (entry.component != Component::mtp) continue;
    const Tensor& tensor = patient.checkpoint.tensors[entry.tensor];
    for (const std::size_t array : tensor.arrays) {
      const std::string& file = patient.checkpoint.files[patient.checkpoint.arrays[array].file].name;
      if (!file.starts_with("model")) continue;
      files.insert(file);
      if (names.empty() || names.back() != tensor.name) names.push_back(tensor.name);
    }
  }
  if (names.empty()) return;
  chart.fault(
      "mlx-mtp-in-model",
      fmt::format("{} of the MTP layer among the model's in {}, which makes loaders add one to all norms again: {}",
                  count_of(names.size(), "tensor", "tensors"), list_of({files.begin(), files.end()}), list_of(names)),
      {Loader::mlx_lm}, {chart.rewrite("puts the MTP layer into mtp.safetensors, which mlx-lm does not open")});
}

/// mlx-lm reads bits and group_size of the section before it looks at any module. Source: ml-explore/mlx-lm mlx_lm/utils.py,
/// load_model.
void examine_section(const Patient& patient, Chart& chart) {
  if (!patient.checkpoint.quantization || !patient.checkpoint.quantization->is_object()) return;
  std::vector<std::string> absent;
  for (const char* key : {"group_size", "bits"}) {
    if (!get_int(*patient.checkpoint.quantization, key)) absent.emplace_back(key);
  }
  if (absent.empty()) return;
  chart.fault("mlx-defaults-missing", fmt::format("the quantization section has no {}", list_of(absent)),
              {Loader::mlx_lm}, {chart.rewrite("writes a section with the settings that most modules have")}, {},
              "config.json");
}

/// A head beside tied embeddings is one parameter more than the model has, and the load is strict. Source: ml-explore/mlx-lm
/// mlx_lm/models/qwen3_5.py, sanitize, which looks for the name before its renaming.
void examine_head(Findings& findings, Chart& chart) {
  std::erase_if(findings, [&](const Finding& finding) {
    if (finding.code != "head-tied-but-stored") return false;
    chart.fault("mlx-head-tied-but-stored", finding.message, {Loader::mlx_lm},
                {chart.rewrite("leaves the copy out", {"--drop", "foreign"})});
    return true;
  });
}

}  // namespace

void examine_mlx(const Patient& patient, Findings& findings, Chart& chart) {
  if (patient.checkpoint.array_format() != "mlx") return;
  examine_section(patient, chart);
  if (patient.report.architecture == nullptr) return;
  examine_mtp_place(patient, chart);
  examine_head(findings, chart);
}

}  // namespace regauge::doctor
