#include "convert/render.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <tuple>

#include <fmt/format.h>

#include "base/render.h"
#include "base/text.h"
#include "convert/render_loss.h"

namespace regauge {
namespace {

std::string counts_by_fidelity(const std::map<Fidelity, std::uint64_t>& counts) {
  std::string out;
  for (const auto& [fidelity, count] : counts) {
    out += fmt::format("{}{} {}", out.empty() ? "" : ", ", format_count(count), name(fidelity));
  }
  return out;
}

std::string source_line(const Checkpoint& source) {
  return fmt::format("{} ({}{}{}, {} tensors, {})", printable(source.path), source.format,
                     source.format_version.empty() ? "" : " ", source.format_version,
                     format_count(source.tensors.size()), format_bytes(source.file_bytes()));
}

/// What the low-rank factors that are left out were worth, the most first.
std::string corrections_text(const std::vector<LeftOut>& left_out) {
  std::vector<const LeftOut*> measured;
  for (const LeftOut& left : left_out) {
    if (left.norm) measured.push_back(&left);
  }
  if (measured.empty()) return "";
  std::ranges::stable_sort(measured, std::greater(), [](const LeftOut* left) { return left->norm->relative(); });
  TextTable table;
  table.add({"without its factors", "|B*A|", "|W|", "share"});
  for (const LeftOut* left : measured) {
    table.add({printable(left->name), fmt::format("{:.4g}", left->norm->correction),
               fmt::format("{:.4g}", left->norm->weight), fmt::format("{:.2f} %", 100 * left->norm->relative())});
  }
  return table.text(2);
}

/// Files that an output takes over.
std::string kept_text(const PlannedOutput& output) {
  std::string out;
  for (const KeptFile& kept : output.kept) {
    out += fmt::format("  kept as it is: {} ({} arrays, {})\n", printable(kept.name), format_count(kept.arrays.size()),
                       format_bytes(kept.file->size()));
  }
  return out;
}

std::string left_out_text(const std::vector<LeftOut>& left_out) {
  std::map<std::string, std::vector<std::string>> by_reason;
  for (const LeftOut& left : left_out) by_reason[left.reason].push_back(left.name);
  std::string out;
  for (const auto& [reason, names] : by_reason) {
    out += fmt::format("left out: {} tensors ({}), such as {}\n", names.size(), reason, printable(names.front()));
  }
  return out + corrections_text(left_out);
}

/// "12 s", "3 min 20 s", "1 h 05 min"
std::string duration_text(double seconds) {
  constexpr double kMostSeconds = 1000.0 * 3600;
  if (!(seconds < kMostSeconds)) return "over 1000 h";
  const auto whole = static_cast<std::uint64_t>(std::llround(seconds));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

std::string worst_text(const StepResult& result) {
  return result.fidelity <= Fidelity::values ? "0" : fmt::format("{:.3g}", result.loss.worst);
}

/// Every tensor with what became of it.
std::string tensors_text(const PlannedOutput& output, const OutputResult& result) {
  TextTable table;
  table.add({"tensor", "from", "to", "route", "fidelity", "worst error", "reason"});
  for (std::size_t s = 0; s < output.steps.size(); ++s) {
    const Step& step = output.steps[s];
    table.add({printable(step.name), step.source_encoding, step.encoding, std::string(name(step.route)),
               std::string(name(result.steps[s].fidelity)), worst_text(result.steps[s]), step.reason});
  }
  return table.text(2);
}

/// "verified 320 tensors in 1,204 bands, 2 tensors by their bytes alone"; empty when nothing was asked.
std::string checked_text(const Report& report) {
  std::uint64_t tensors = 0;
  std::uint64_t without_values = 0;
  for (const OutputResult& output : report.outputs) {
    for (const StepResult& step : output.steps) {
      tensors += step.checked != Checked::no ? 1 : 0;
      without_values += step.checked == Checked::bytes ? 1 : 0;
    }
  }
  if (tensors == 0) return "";
  std::string out =
      fmt::format("verified {} tensors, {} bands", format_count(tensors), format_count(report.checked_bands));
  if (without_values != 0) out += fmt::format("; {} of them by their bytes alone", format_count(without_values));
  return out + "\n";
}

Json checked_to_json(Checked checked) {
  switch (checked) {
    case Checked::no: return {};
    case Checked::bytes: return "bytes";
    case Checked::values: return "values";
  }
  return {};
}

Json step_to_json(const Step& step, const StepResult* result) {
  Json out;
  out["tensor"] = step.name;
  out["component"] = name(step.component);
  out["shape"] = step.shape.dims;
  out["from"] = step.source_encoding;
  out["to"] = step.encoding;
  out["bytes"] = step.bytes();
  out["route"] = name(step.route);
  out["fidelity"] = name(result == nullptr ? step.fidelity : result->fidelity);
  out["reversible"] = result == nullptr ? Json() : Json(result->loss.irreversible == 0);
  if (result != nullptr) {
    out["loss"] = loss_to_json(result->loss);
    out["verified"] = checked_to_json(result->checked);
  }
  if (!step.reason.empty()) out["reason"] = step.reason;
  return out;
}

}  // namespace

std::string render_findings(const Findings& findings) {
  std::string out;
  for (const Finding& finding : findings) out += fmt::format("{}\n", to_string(finding));
  return out;
}

std::string render_progress(const Progress& progress, double seconds, std::size_t width) {
  const auto made = static_cast<double>(progress.bytes_done - progress.bytes_skipped);
  const double rate = made / std::max(seconds, 1e-3);
  const auto bytes_left = static_cast<double>(progress.bytes_total - progress.bytes_done);
  const std::string left = made > 0 ? ", " + duration_text(bytes_left / rate) + " left" : "";
  std::string line = fmt::format("{} of {}, {:.0f} MB/s{}", format_bytes(progress.bytes_done),
                                 format_bytes(progress.bytes_total), rate / 1e6, left);
  if (line.size() > width) return line.substr(0, width);
  // Counted in bytes: a name in another script takes fewer columns, and the line gets shorter than it might.
  constexpr std::size_t kBetween = 2;
  constexpr std::size_t kLeastName = 12;
  const std::string tensor = printable(excerpt(progress.tensor));
  if (line.size() + kBetween + std::min(tensor.size(), kLeastName) > width) return line;
  const std::size_t room = width - line.size() - kBetween;
  return line + "  " + (tensor.size() <= room ? tensor : excerpt(tensor, room - 3));
}

std::string render_plan(const Checkpoint& source, const Plan& plan) {
  std::string out = source_line(source) + "\n";
  for (const PlannedOutput& output : plan.outputs) {
    out += fmt::format("\n{} -> {} ({} tensors, {})\n", name(output.kind), printable(output.path.string()),
                       format_count(output.steps.size()), format_bytes(output.data_bytes()));
    TextTable table;
    table.add({"tensor", "shape", "from", "to", "route", "fidelity", "reason"});
    std::map<Fidelity, std::uint64_t> counts;
    for (const Step& step : output.steps) {
      ++counts[step.fidelity];
      table.add({printable(step.name), to_string(step.shape), step.source_encoding, step.encoding,
                 std::string(name(step.route)), std::string(name(step.fidelity)), step.reason});
    }
    out += table.text() +
           fmt::format("{}; {:.3f} bits per weight\n", counts_by_fidelity(counts), bits_per_weight(output)) +
           kept_text(output);
  }
  return out + left_out_text(plan.left_out);
}

std::string render_report(const Checkpoint& source, const Plan& plan, const Report& report) {
  std::string out = source_line(source) + "\n";
  for (std::size_t o = 0; o < plan.outputs.size(); ++o) {
    const PlannedOutput& output = plan.outputs[o];
    const OutputResult& result = report.outputs[o];
    out += fmt::format("{} -> {} ({} tensors, {})\n", name(output.kind), printable(output.path.string()),
                       format_count(output.steps.size()), format_bytes(result.file_bytes));
    std::map<std::tuple<Route, std::string, std::string, Fidelity>, std::uint64_t> groups;
    std::uint64_t irreversible = 0;
    std::uint64_t irreversible_tensors = 0;
    for (std::size_t s = 0; s < output.steps.size(); ++s) {
      const Step& step = output.steps[s];
      ++groups[{step.route, step.source_encoding, step.encoding, result.steps[s].fidelity}];
      irreversible += result.steps[s].loss.irreversible;
      irreversible_tensors += result.steps[s].loss.irreversible != 0 ? 1 : 0;
    }
    TextTable table({TextTable::Align::right});
    table.add({"tensors", "from", "to", "route", "fidelity"});
    for (const auto& [group, count] : groups) {
      const auto& [route, from, to, fidelity] = group;
      table.add({format_count(count), from, to, std::string(name(route)), std::string(name(fidelity))});
    }
    out += table.text(2) + kept_text(output);
    if (std::ranges::any_of(result.steps, [](const StepResult& s) { return s.checked != Checked::no; })) {
      out += tensors_text(output, result);
    }
    out += render_losses(output, result);
    if (irreversible != 0) {
      out += fmt::format(
          "  {} elements of {} tensors cannot be turned back to the source's bits (1 + w and -exp(w) in F32)\n",
          format_count(irreversible), irreversible_tensors);
    }
  }
  out += left_out_text(plan.left_out) + checked_text(report);
  if (report.skipped_bytes != 0) {
    out += fmt::format("{} were there already, from a run that did not finish\n", format_bytes(report.skipped_bytes));
  }
  const double megabytes = static_cast<double>(report.file_bytes()) / 1e6;
  out += fmt::format("{} written in {:.2f} s, {:.0f} MB/s\n", format_bytes(report.file_bytes()), report.seconds,
                     report.seconds > 0 ? megabytes / report.seconds : 0.0);
  return out;
}

Json convert_to_json(const Checkpoint& source, const Plan& plan, const Report* report) {
  Json out;
  out["schema"] = "regauge.convert/1";
  out["dry_run"] = report == nullptr;
  out["source"] = {{"path", json_text(source.path)},
                   {"format", source.format},
                   {"format_version", source.format_version},
                   {"bytes", source.file_bytes()}};
  out["format"] = plan.format;
  out["outputs"] = Json::array();
  for (std::size_t o = 0; o < plan.outputs.size(); ++o) {
    const PlannedOutput& output = plan.outputs[o];
    Json entry;
    entry["kind"] = name(output.kind);
    entry["path"] = json_text(output.path.string());
    entry["data_bytes"] = output.data_bytes();
    entry["bits_per_weight"] = bits_per_weight(output);
    if (report != nullptr) entry["file_bytes"] = report->outputs[o].file_bytes;
    if (!output.kept.empty()) {
      entry["kept"] = Json::array();
      for (const KeptFile& kept : output.kept) {
        entry["kept"].push_back(
            {{"file", json_text(kept.name)}, {"arrays", kept.arrays.size()}, {"bytes", kept.file->size()}});
      }
    }
    entry["tensors"] = Json::array();
    for (std::size_t s = 0; s < output.steps.size(); ++s) {
      entry["tensors"].push_back(
          step_to_json(output.steps[s], report == nullptr ? nullptr : &report->outputs[o].steps[s]));
    }
    out["outputs"].push_back(std::move(entry));
  }
  out["left_out"] = Json::array();
  for (const LeftOut& left : plan.left_out) {
    Json entry{{"tensor", json_text(left.name)}, {"reason", left.reason}};
    if (left.norm) {
      entry["correction_norm"] = left.norm->correction;
      entry["weight_norm"] = left.norm->weight;
      entry["correction_share"] = left.norm->relative();
    }
    out["left_out"].push_back(std::move(entry));
  }
  out["findings"] = Json::array();
  for (const Findings* list : {&source.findings, &plan.findings}) {
    for (const Finding& finding : *list) out["findings"].push_back(to_json(finding));
  }
  if (report != nullptr) {
    out["verified_bands"] = report->checked_bands;
    out["resumed_bytes"] = report->skipped_bytes;
    out["seconds"] = report->seconds;
  }
  return out;
}

}  // namespace regauge
