#include <algorithm>

#include <fmt/format.h>

#include "base/text.h"
#include "verify/doctor/chart.h"

namespace regauge::doctor {
namespace {

bool remove(Findings& findings, std::string_view code) {
  return std::erase_if(findings, [&](const Finding& finding) { return finding.code == code; }) != 0;
}

/// What each loader does about MTP layers that a configuration announces. Sources: vllm-project/vllm
/// vllm/model_executor/models/qwen3_5_mtp.py; ggml-org/llama.cpp src/models/qwen35.cpp and conversion/qwen.py, which
/// counts blocks by the configuration, so that the GGUF file that it writes does not load.
void examine_mtp(const Patient& patient, Findings& findings, Chart& chart) {
  const Checkpoint& checkpoint = patient.checkpoint;
  const Architecture& architecture = *patient.report.architecture;
  const bool has_mtp = patient.report.completeness->has_mtp;
  const int announced = architecture.announced_mtp_layers();
  // mlx-lm throws MTP weights away and leaves the configuration as it is; nobody who reads MLX looks there.
  if (checkpoint.dialect == Dialect::mlx) {
    const auto found = std::ranges::find(findings, "mtp-announced-absent", &Finding::code);
    if (found != findings.end()) found->severity = Severity::note;
    return;
  }
  const bool gguf = checkpoint.dialect == Dialect::gguf;
  const auto breaks = gguf ? std::vector{Loader::llama_cpp} : std::vector{Loader::vllm, Loader::llama_cpp};
  const std::string where = gguf ? "nextn_predict_layers" : "mtp_num_hidden_layers of config.json";
  if (announced > 0 && !has_mtp) {
    remove(findings, "mtp-announced-absent");
    chart.fault("mtp-announced-absent",
                fmt::format("{} is {}, and none of the {} tensors is of an MTP layer", where, announced,
                            format_count(checkpoint.tensors.size())),
                breaks,
                {chart.graft("mtp", "takes the MTP layer from another checkpoint of this model, such as the base"),
                 chart.rewrite("announces none", {"--drop", "mtp"})});
  } else if (announced == 0 && has_mtp) {
    remove(findings, "mtp-undeclared");
    chart.fault(
        "mtp-undeclared", fmt::format("MTP tensors are here, and {} is 0", where), breaks,
        {chart.rewrite("announces as many layers as are there"), chart.rewrite("leaves them out", {"--drop", "mtp"})});
  }
}

/// A GGUF file whose keys say nothing of MTP blocks that are there: their names mean nothing then.
void examine_undeclared_blocks(const Patient& patient, Chart& chart) {
  const Checkpoint& checkpoint = patient.checkpoint;
  if (checkpoint.dialect != Dialect::gguf || patient.report.architecture->announced_mtp_layers() > 0) return;
  std::vector<std::string> names;
  for (const Tensor& tensor : checkpoint.tensors) {
    if (tensor.name.find(".nextn.") != std::string::npos) names.push_back(tensor.name);
  }
  if (names.empty()) return;
  std::vector<Cure> cures;
  // Counted as a layer the block is taken for a linear one, and nothing tells where the model ends.
  if (inspect::split_block_name(names.front()).layer >= patient.report.architecture->layers())
    cures.push_back(chart.rewrite("leaves the block out, and the rest loads", {"--drop", "foreign"}));
  cures.push_back(chart.convert_original("writes the block and its keys"));
  chart.fault("mtp-undeclared",
              fmt::format("{} of an MTP block, and nextn_predict_layers is 0 or absent: {}",
                          count_of(names.size(), "tensor", "tensors"), list_of(names)),
              {Loader::llama_cpp}, std::move(cures));
}

void examine_vision(const Patient& patient, Findings& findings, Chart& chart) {
  const Checkpoint& checkpoint = patient.checkpoint;
  if (checkpoint.dialect == Dialect::gguf) return;
  if (remove(findings, "vision-announced-absent")) {
    chart.fault("vision-announced-absent",
                fmt::format("config.json has a vision_config, and none of the {} tensors is of the tower",
                            format_count(checkpoint.tensors.size())),
                chart.loaders(),
                {chart.graft("vision", "takes the tower from another checkpoint of this model"),
                 chart.rewrite("says that it is a language model only", {"--drop", "vision"})});
  }
  // Without sizes their names mean nothing to the architecture.
  std::vector<std::string> names;
  for (const Tensor& tensor : checkpoint.tensors) {
    if (tensor.name.find("visual.") != std::string::npos || tensor.name.starts_with("vision_tower."))
      names.push_back(tensor.name);
  }
  if (patient.report.architecture->has_vision() || names.empty()) return;
  remove(findings, "tensor-unknown");
  chart.fault("vision-undeclared",
              fmt::format("{} of a vision tower, and config.json has no vision_config: {}",
                          count_of(names.size(), "tensor", "tensors"), list_of(names)),
              chart.loaders(),
              {chart.rewrite("takes config.json from the original", {"--assets", "ORIGINAL"}),
               chart.rewrite("leaves the tower out", {"--drop", "foreign"})});
}

/// llama.cpp's own converter writes a file of keys alone when the names of a checkpoint have an unknown prefix.
void examine_mmproj(const Patient& patient, Findings& findings, Chart& chart) {
  const Checkpoint& checkpoint = patient.checkpoint;
  std::size_t expected = 0;
  for (const ExpectedSlot& slot : patient.report.architecture->expected())
    expected += slot.slot.component == Component::vision ? 1 : 0;
  const std::size_t missing =
      patient.report.completeness->has_vision ? patient.report.completeness->missing.size() : expected;
  if (missing == 0) return;
  remove(findings, "tensor-missing");
  chart.fault("mmproj-empty",
              fmt::format("{} of {} of the vision tower are not here; the file has {}", missing,
                          count_of(expected, "weight", "weights"), format_bytes(checkpoint.file_bytes())),
              {Loader::llama_cpp},
              {chart.convert_original("writes model and mmproj anew; what is wrong with the source is an error then")});
}

}  // namespace

void examine_towers(const Patient& patient, Findings& findings, Chart& chart) {
  if (patient.report.architecture == nullptr || !patient.report.completeness) return;
  if (patient.checkpoint.metadata.find("clip.projector_type") != nullptr)
    return examine_mmproj(patient, findings, chart);
  if (patient.report.architecture->layers() == 0) return;
  examine_mtp(patient, findings, chart);
  examine_undeclared_blocks(patient, chart);
  examine_vision(patient, findings, chart);
}

}  // namespace regauge::doctor
