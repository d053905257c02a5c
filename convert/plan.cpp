#include "convert/plan.h"

#include <algorithm>
#include <map>

#include <oneapi/tbb/parallel_for.h>

#include "base/error.h"
#include "convert/choose.h"
#include "convert/gguf_keys.h"
#include "convert/refusal.h"
#include "convert/workers.h"

namespace regauge {
namespace {

Dialect dialect_of(const Format& format) { return format.name == "gguf" ? Dialect::gguf : Dialect::hf; }

void plan_steps(PlannedOutput& output, const Format& format, const ConvertOptions& options,
                std::vector<std::string>& offenders) {
  std::vector<std::optional<std::variant<Step, Offender>>> choices(output.targets.size());
  Workers(options.threads).run([&] {
    tbb::parallel_for(std::size_t{0}, choices.size(),
                      [&](std::size_t i) { choices[i] = choose_route(output.targets[i], format, options); });
  });
  for (std::size_t i = 0; i < choices.size(); ++i) {
    if (auto* step = std::get_if<Step>(&*choices[i])) {
      output.steps.push_back(std::move(*step));
    } else {
      offenders.push_back(output.targets[i].name + ": " + std::get<Offender>(*choices[i]).reason);
    }
  }
}

void check_required(const Plan& plan, Fidelity required) {
  std::vector<std::string> offenders;
  for (const PlannedOutput& output : plan.outputs) {
    for (const Step& step : output.steps) {
      if (step.fidelity > required) {
        offenders.push_back(
            fmt::format("{}: {}{}{}", step.name, name(step.fidelity), step.reason.empty() ? "" : ", ", step.reason));
      }
    }
  }
  for (const LeftOut& left : plan.left_out) offenders.push_back(left.name + ": left_out, " + left.reason);
  if (!offenders.empty()) {
    throw refusal(fmt::format("--require {} does not hold", name(required)), offenders, "nothing was written");
  }
}

/// The configuration and the tensors disagree about the MTP layer: what is written goes by the tensors, and says so.
void note_absent_mtp(const Checkpoint& source, const Architecture* architecture, const Adaptation& adapted,
                     const ConvertOptions& options, Findings& findings) {
  if (architecture == nullptr || source.dialect == Dialect::gguf || options.drop_mtp) return;
  const int announced = architecture->announced_mtp_layers();
  if (announced <= adapted.mtp_layers) return;
  findings.push_back(
      {Severity::warning, "mtp-announced-absent",
       fmt::format("the configuration announces {} MTP layer{}, the tensors hold {}: written as the tensors say",
                   announced, announced == 1 ? "" : "s", adapted.mtp_layers),
       "config.json", ""});
}

Metadata metadata_of(const Checkpoint& source, const Architecture* architecture, const PlannedOutput& output,
                     const Adaptation& adapted, const Format& format, const ConvertOptions& options,
                     Findings& findings) {
  if (format.name == "gguf") return gguf_keys(source, architecture, output, adapted.mtp_layers, options, findings);
  Metadata metadata;
  if (source.dialect == Dialect::hf) metadata = source.metadata;
  metadata.set("format", std::string("pt"));
  return metadata;
}

}  // namespace

std::uint64_t Step::bytes() const {
  std::uint64_t total = 0;
  for (const StepArray& array : arrays) total += array.plan.bytes();
  return total;
}

std::uint64_t PlannedOutput::data_bytes() const {
  std::uint64_t total = 0;
  for (const Step& step : steps) total += step.bytes();
  return total;
}

Fidelity Plan::worst() const {
  Fidelity worst = left_out.empty() ? Fidelity::bytes : Fidelity::left_out;
  for (const PlannedOutput& output : outputs) {
    for (const Step& step : output.steps) worst = std::max(worst, step.fidelity);
  }
  return worst;
}

std::uint64_t Plan::data_bytes() const {
  std::uint64_t total = 0;
  for (const PlannedOutput& output : outputs) total += output.data_bytes();
  return total;
}

std::filesystem::path output_path(const std::filesystem::path& target, OutputKind kind) {
  switch (kind) {
    case OutputKind::model: return target;
    case OutputKind::mmproj: return target.parent_path() / ("mmproj-" + target.filename().string());
    case OutputKind::mtp: return target.parent_path() / ("mtp-" + target.filename().string());
    case OutputKind::adapter:
      return target.parent_path() / (target.stem().string() + "-LoRA" + target.extension().string());
  }
  return target;
}

Plan plan_conversion(const Checkpoint& source, const Architecture* architecture, const std::filesystem::path& target,
                     const ConvertOptions& options) {
  const Format* format = find_format(options.format);
  if (format == nullptr) throw Error(ErrorCode::invalid, "there is no format '{}'", options.format);
  if (format->create == nullptr) throw Error(ErrorCode::unsupported, "{} can be read but not written", format->name);

  Adaptation adapted = adapt(source, architecture, dialect_of(*format), options);
  Plan plan;
  plan.format = format->name;
  std::vector<std::string> offenders;
  for (OutputDraft& draft : adapted.outputs) {
    PlannedOutput& output = plan.outputs.emplace_back();
    output.kind = draft.kind;
    output.path = output_path(target, draft.kind);
    output.targets = std::move(draft.targets);
    plan_steps(output, *format, options, offenders);
  }
  if (!offenders.empty()) {
    throw refusal(
        fmt::format("no {} encoding holds these tensors to the bit", format->name), offenders,
        "--allow dense stores them as F32 (exact, larger); --dense f32|bf16|f16 decodes every quantized tensor");
  }
  for (PlannedOutput& output : plan.outputs) {
    output.metadata = metadata_of(source, architecture, output, adapted, *format, options, plan.findings);
  }
  if (format->name == "gguf") note_absent_mtp(source, architecture, adapted, options, plan.findings);
  plan.left_out = std::move(adapted.left_out);
  if (options.require) check_required(plan, *options.require);
  return plan;
}

}  // namespace regauge
