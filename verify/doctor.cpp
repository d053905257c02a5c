#include "verify/doctor.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "formats/format.h"
#include "verify/doctor/chart.h"
#include "verify/sound.h"

namespace regauge {
namespace {

/// The small tensors whose numbers say by which rules the others were made.
inspect::ScanReport scan_vectors(const Checkpoint& checkpoint, const inspect::Report& report) {
  inspect::Catalog vectors;
  for (const inspect::Entry& entry : report.catalog.entries) {
    const Tensor& tensor = checkpoint.tensors[entry.tensor];
    if (tensor.shape.rank() == 1 || tensor.find(PartId::group_index) != nullptr) vectors.entries.push_back(entry);
  }
  return inspect::scan(checkpoint, report.architecture.get(), vectors);
}

Diagnosis examine(const Checkpoint& checkpoint, const DoctorOptions& options) {
  Soundness soundness = examine_soundness(checkpoint, options.threads, options.progress, options.cancel);
  const inspect::Report report = inspect::examine(checkpoint);
  const inspect::ScanReport vectors = scan_vectors(checkpoint, report);
  const doctor::Patient patient{checkpoint, report, vectors};
  doctor::Chart chart(checkpoint.path, checkpoint.array_format(), checkpoint.array_version(),
                      checkpoint.is_directory());

  Diagnosis diagnosis;
  diagnosis.path = checkpoint.path;
  diagnosis.format = checkpoint.array_format();
  diagnosis.tensors = soundness.tensors;
  diagnosis.values = soundness.values;
  diagnosis.remarks = std::move(soundness.findings);
  doctor::examine_towers(patient, diagnosis.remarks, chart);
  doctor::examine_conventions(patient, diagnosis.remarks, chart);
  doctor::examine_gptq(patient, diagnosis.remarks, chart);
  doctor::examine_fusions(patient, diagnosis.remarks, chart);
  doctor::examine_mlx(patient, diagnosis.remarks, chart);
  doctor::examine_gguf(patient, diagnosis.remarks, chart);
  doctor::examine_sidecars(patient, diagnosis.remarks, chart);
  doctor::examine_tokenizer(patient, diagnosis.remarks, chart);
  doctor::judge_findings(patient, diagnosis.remarks, chart);
  diagnosis.ailments = chart.take();
  // Faults first; within them the order in which they were found.
  std::ranges::stable_sort(diagnosis.ailments, {},
                           [](const Ailment& ailment) { return ailment.finding.severity != Severity::fault; });
  return diagnosis;
}

}  // namespace

std::string_view name(Loader loader) {
  switch (loader) {
    case Loader::llama_cpp: return "llama.cpp";
    case Loader::vllm: return "vLLM";
    case Loader::mlx_lm: return "mlx-lm";
    case Loader::gptqmodel: return "GPTQModel";
  }
  return "";
}

bool Diagnosis::healthy() const {
  return std::ranges::none_of(ailments,
                              [](const Ailment& ailment) { return ailment.finding.severity == Severity::fault; });
}

Diagnosis diagnose(const std::filesystem::path& path, const DoctorOptions& options) {
  std::optional<Checkpoint> checkpoint;
  try {
    checkpoint = open_checkpoint(path);
  } catch (const Error& error) {
    return doctor::diagnose_unopened(path, error);
  }
  return examine(*checkpoint, options);
}

}  // namespace regauge
