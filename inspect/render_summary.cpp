#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "base/render.h"
#include "base/text.h"
#include "inspect/completeness.h"
#include "inspect/render_text.h"
#include "inspect/wording.h"

namespace regauge::inspect {
namespace {

using Align = TextTable::Align;

std::string bits_text(const std::optional<double>& bits) { return bits ? fmt::format("{:.3f}", *bits) : "-"; }

void append(std::string& line, std::string_view separator, const std::string& text) {
  if (!line.empty()) line += separator;
  line += text;
}

std::string format_line(const Summary& summary) {
  std::string line = summary.format;
  if (!summary.format_version.empty()) line += " " + summary.format_version;
  line += fmt::format("; {} in {}, {}", counted(summary.everything.tensors, "tensor"), counted(summary.arrays, "array"),
                      counted(summary.files, "file"));
  switch (summary.dialect) {
    case Dialect::hf: return line + "; Hugging Face names";
    case Dialect::gguf: return line + "; GGUF names";
    case Dialect::mlx: return line + "; MLX names";
  }
  return line;
}

std::string architecture_line(const Summary& summary) {
  if (!summary.architecture) {
    if (summary.claimed_architecture.empty()) return "not said";
    return summary.claimed_architecture +
           (summary.architecture_refused ? " (its configuration cannot be used)" : " (not known to regauge)");
  }
  const ArchitectureFacts& facts = *summary.architecture;
  std::string line = fmt::format("{} ({})", facts.label, facts.family);
  if (facts.layers > 0) {
    const std::size_t full = facts.attention_layers.size();
    line += fmt::format("; {}: {} DeltaNet, {} attention", counted(static_cast<std::uint64_t>(facts.layers), "layer"),
                        static_cast<std::size_t>(facts.layers) - full, full);
  }
  if (facts.tied_head) line += "; tied head";
  return line;
}

std::string parameters_line(const Summary& summary) {
  const std::uint64_t all = summary.everything.parameters;
  const std::string factors = format_count(summary.factors.parameters);
  if (all == 0 && summary.factors.parameters != 0) return factors + " in low-rank factors";
  std::string parts;
  for (const auto& [label, tally] : {std::pair<std::string_view, const Tally&>{"text", summary.text},
                                     {"MTP", summary.mtp},
                                     {"vision", summary.vision}}) {
    if (tally.parameters != 0 && tally.parameters != all)
      append(parts, ", ", fmt::format("{} {}", label, format_count(tally.parameters)));
  }
  std::string line = format_count(all);
  if (!parts.empty()) line += fmt::format(" ({})", parts);
  if (summary.factors.parameters != 0) line += fmt::format("; {} more in low-rank factors", factors);
  return line;
}

std::string size_line(const Summary& summary) {
  std::string line = counted(summary.array_bytes, "byte");
  if (summary.array_bytes >= 1000) line += ", " + both_units(summary.array_bytes);
  return line + "; in files " + format_count(summary.file_bytes);
}

std::string bits_line(const Summary& summary) {
  std::string line;
  if (summary.quantized.parameters != 0) append(line, ", ", bits_text(summary.quantized.bits()) + " quantized weights");
  const bool several = summary.text.bytes != summary.everything.bytes;
  if (several && summary.text.parameters != 0) append(line, ", ", bits_text(summary.text.bits()) + " text model");
  append(line, ", ", bits_text(summary.everything.bits()) + " everything");
  if (summary.factors.parameters != 0) line += " (with factors)";
  return line;
}

std::string sidecar_line(const Summary& summary) {
  constexpr std::size_t kNamed = 6;
  std::string line;
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < summary.sidecars.size(); ++i) {
    bytes += summary.sidecars[i].bytes;
    if (i < kNamed) append(line, ", ", printable(summary.sidecars[i].name));
  }
  if (summary.sidecars.size() > kNamed) line += fmt::format(" and {} more", summary.sidecars.size() - kNamed);
  return fmt::format("{}; {}", line, format_bytes(bytes));
}

std::string facts_block(const Summary& summary, const TextStyle& style) {
  constexpr std::string_view kIndent = "                   ";  // as wide as a label with its margins
  std::string out;
  const auto add = [&](std::string_view label, const std::string& text) {
    const std::string line = fmt::format("  {:<17}{}", label, printable(text));
    out += wrap(line, style.width, kIndent) + "\n";
  };
  add("format", format_line(summary));
  if (!summary.name.empty()) add("name", summary.name);
  add("architecture", architecture_line(summary));
  if (!summary.quantization.empty()) add("quantization", summary.quantization);
  add("parameters", parameters_line(summary));
  if (!summary.keys.empty()) add("metadata", summary.keys);
  add("size", size_line(summary));
  if (summary.everything.parameters != 0) add("bits per weight", bits_line(summary));
  if (!summary.sidecars.empty()) add("beside", sidecar_line(summary));
  return out;
}

std::string table_block(const Summary& summary) {
  TextTable table({Align::left, Align::left, Align::right, Align::right, Align::right, Align::right});
  table.add({"component", "encoding", "tensors", "parameters", "bytes", "bits"});
  Tally total;
  std::string_view component;
  for (const TableRow& row : summary.table) {
    const std::string_view this_one = name(row.component);
    table.add({std::string(this_one == component ? "" : this_one), cell(row.encoding), format_count(row.tally.tensors),
               format_count(row.tally.parameters), format_count(row.tally.bytes), bits_text(row.tally.bits())});
    component = this_one;
    if (row.component != Component::adapter) total.add(row.tally);
  }
  table.add({"total", summary.factors.parameters != 0 ? "without adapter" : "", format_count(total.tensors),
             format_count(total.parameters), format_count(total.bytes), bits_text(total.bits())});
  return table.text(2);
}

std::string_view severity_name(Severity severity) {
  switch (severity) {
    case Severity::note: return "note";
    case Severity::warning: return "warning";
    case Severity::fault: return "fault";
  }
  return "";
}

std::string findings_block(const Findings& findings, const TextStyle& style) {
  constexpr std::size_t kAlike = 3;  // of one code; a thousand modules with one fault are one thing to know
  Findings sorted = findings;
  std::ranges::stable_sort(sorted, std::ranges::greater{}, &Finding::severity);
  std::map<std::pair<Severity, std::string>, std::size_t> totals;
  for (const Finding& finding : sorted) ++totals[{finding.severity, finding.code}];
  std::map<std::pair<Severity, std::string>, std::size_t> shown;
  std::string out = "  findings\n";
  for (const Finding& finding : sorted) {
    const std::pair<Severity, std::string> kind{finding.severity, finding.code};
    const std::size_t nth = ++shown[kind];
    if (nth > kAlike) continue;
    std::string place = finding.file;
    // Many messages quote the tensor or key themselves.
    if (!finding.tensor.empty() && finding.message.find(finding.tensor) == std::string::npos)
      append(place, ": ", finding.tensor);
    std::string line = fmt::format("    {:<8} {}{}{} [{}]", severity_name(finding.severity), printable(place),
                                   place.empty() ? "" : ": ", printable(finding.message), finding.code);
    out += wrap(line, style.width, "             ") + "\n";
    if (nth == kAlike && totals[kind] > kAlike) {
      out += fmt::format("             ... and {} more of this kind; --json lists all\n", totals[kind] - kAlike);
    }
  }
  return out;
}

}  // namespace

std::string render_summary(const Report& report, const TextStyle& style) {
  const Summary& summary = report.summary;
  std::string out = printable(summary.path) + "\n\n" + facts_block(summary, style);
  if (!summary.table.empty()) out += "\n" + table_block(summary);
  if (!report.findings.empty()) out += "\n" + findings_block(report.findings, style);
  return out;
}

}  // namespace regauge::inspect
