#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/text.h"
#include "verify/doctor/chart.h"

namespace regauge::doctor {
namespace {

/// How a finding of a reader, of inspect or of `verify A` is mended.
enum class Way : std::uint8_t {
  rewrite,   ///< the same format written anew
  assets,    ///< configuration and tokenizer from the original
  original,  ///< the numbers are not there; a GGUF file is made of another checkpoint, which has them
  nothing,   ///< nobody has them
};

struct Known {
  std::string_view code;
  Way way;
  std::string_view effect;
};

constexpr std::string_view kNothing = "no command mends this: get the original, or convert it again";

/// Findings that mean a fault. Everything else that readers and inspect say is a remark.
constexpr std::array kKnown{
    Known{"index-wrong-shard", Way::rewrite, "writes an index that is true"},
    Known{"index-tensor-unlisted", Way::rewrite, "writes an index that is true"},
    Known{"shard-unlisted", Way::rewrite, "writes one index over all arrays"},
    Known{"gptq-zeros-mislabelled", Way::rewrite, "stores the zero points as the label says"},
    Known{"gptq-zeros-mixed", Way::rewrite, "stores all zero points by one convention"},
    Known{"gptq-rule-unused", Way::rewrite, "writes rules from the tensors that are there"},
    Known{"gptq-excluded-quantized", Way::rewrite, "writes rules from the tensors that are there"},
    Known{"gptq-bits-mismatch", Way::rewrite, "writes rules from the tensors that are there"},
    Known{"gptq-group-mismatch", Way::rewrite, "writes rules from the tensors that are there"},
    Known{"gptq-format-planar", Way::rewrite, "says gptq_p, which the words are"},
    Known{"gptq-config-missing", Way::rewrite, "writes a quantization config from the shapes"},
    Known{"gptq-head-dense", Way::rewrite, "says that the head is dense"},
    Known{"mlx-quantization-key", Way::rewrite, "writes the section under both keys"},
    Known{"mlx-override-renamed", Way::rewrite, "writes settings under the names that mlx-lm looks for"},
    Known{"mlx-override-dense", Way::rewrite, "writes settings from the modules that are there"},
    Known{"mlx-override-unused", Way::rewrite, "writes settings from the modules that are there"},
    Known{"mlx-config-missing", Way::rewrite, "writes a quantization section from the shapes"},
    Known{"mlx-scales-missing", Way::nothing, kNothing},
    Known{"mlx-width-unknown", Way::nothing, kNothing},
    Known{"alignment-not-32", Way::rewrite, "lays the tensors out at multiples of 32"},
    Known{"config-malformed", Way::assets, "takes config.json from the original"},
    Known{"tensor-missing", Way::original, kNothing},
    Known{"tensor-wrong-shape", Way::original, kNothing},
    Known{"tensor-repeated", Way::original, kNothing},
    Known{"not-finite", Way::nothing, kNothing},
    Known{"data-unread", Way::original, kNothing},
    Known{"container-part-damaged", Way::nothing, kNothing},
};

Cure cure_of(const Known& known, const Chart& chart, bool gguf) {
  std::string effect(known.effect);
  // What everything loads, whichever way the label and the words disagree.
  if (known.code.starts_with("gptq-zeros-")) return chart.rewrite(std::move(effect), {"--layout", "v1"});
  switch (known.way) {
    case Way::rewrite: return chart.rewrite(std::move(effect));
    // The keys of a GGUF file are its configuration.
    case Way::assets:
      return gguf ? chart.convert_original("writes all keys")
                  : chart.rewrite(std::move(effect), {"--assets", "ORIGINAL"});
    case Way::original:
      if (gguf) return chart.convert_original("makes the file from what it was made of");
      break;
    case Way::nothing: break;
  }
  return Chart::no_command(std::move(effect));
}

/// Who minds: most faults are those of whoever loads the format; a few are seen by one alone.
std::vector<Loader> breaks_of(std::string_view code, const Chart& chart) {
  // vLLM's Marlin kernels take the middle for granted and never look at zero points of symmetric models; others do.
  if (code.starts_with("gptq-zeros-")) return {Loader::gptqmodel, Loader::vllm, Loader::llama_cpp};
  return chart.loaders();
}

/// llama.cpp counts: one tensor more than it asked for, and it refuses the file.
void judge_unknown(const Patient& patient, Findings& findings, Chart& chart) {
  const bool gguf = patient.checkpoint.dialect == Dialect::gguf;
  const bool counted = gguf && patient.report.completeness && !patient.report.completeness->unknown.empty();
  if (!counted) return;
  std::vector<std::string> names;
  for (const std::size_t tensor : patient.report.completeness->unknown)
    names.push_back(patient.checkpoint.tensors[tensor].name);
  std::erase_if(findings, [](const Finding& finding) { return finding.code == "tensor-unknown"; });
  const bool mtp =
      std::ranges::any_of(chart.ailments(), [](const Ailment& one) { return one.finding.code == "mtp-undeclared"; });
  if (mtp) return;  // told already
  chart.fault("tensor-extra",
              fmt::format("{} that the architecture does not ask for: {}", count_of(names.size(), "tensor", "tensors"),
                          list_of(names)),
              {Loader::llama_cpp}, {chart.rewrite("leaves them out", {"--drop", "foreign"})});
}

/// What would be a fault elsewhere. A part added in a file of its own is how MLX directories get their MTP layer, and
/// mlx-lm reads every shard.
bool is_usual(std::string_view code, bool mlx) {
  return mlx && (code == "shard-unlisted" || code == "index-tensor-unlisted");
}

}  // namespace

void judge_findings(const Patient& patient, Findings& findings, Chart& chart) {
  judge_unknown(patient, findings, chart);
  const bool mlx = patient.checkpoint.dialect == Dialect::mlx;
  Findings remarks;
  for (Finding& finding : findings) {
    if (is_usual(finding.code, mlx)) finding.severity = Severity::note;
    const auto known = std::ranges::find(kKnown, finding.code, &Known::code);
    const bool wrong =
        finding.severity == Severity::fault || (known != kKnown.end() && finding.severity != Severity::note);
    const bool always = known != kKnown.end() && finding.code == "alignment-not-32";
    if (!wrong && !always) {
      remarks.push_back(std::move(finding));
      continue;
    }
    const Cure cure = known == kKnown.end() ? Chart::no_command(std::string(kNothing))
                                            : cure_of(*known, chart, patient.checkpoint.dialect == Dialect::gguf);
    chart.fault(finding.code, std::move(finding.message), breaks_of(finding.code, chart), {cure},
                std::move(finding.tensor), std::move(finding.file));
  }
  findings = std::move(remarks);
}

}  // namespace regauge::doctor
