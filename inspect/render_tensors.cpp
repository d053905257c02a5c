#include <algorithm>

#include <fmt/format.h>

#include "base/render.h"
#include "base/text.h"
#include "inspect/pattern.h"
#include "inspect/render_text.h"
#include "inspect/wording.h"

namespace regauge::inspect {
namespace {

using Align = TextTable::Align;

/// "lora_A" of "base_model.model.layers.3.self_attn.o_proj.lora_A.weight".
std::string_view factor_leaf(std::string_view name) {
  if (name.ends_with(".weight")) name.remove_suffix(std::string_view(".weight").size());
  return name.substr(name.rfind('.') + 1);
}

/// "qweight I32, scales F16": the arrays of a module by their leaf names, or the type alone for the array of the same name.
std::string arrays_of(const Checkpoint& checkpoint, const Tensor& tensor) {
  std::string text;
  for (const std::size_t index : tensor.arrays) {
    const StoredArray& array = checkpoint.arrays[index];
    if (!text.empty()) text += ", ";
    if (array.name == tensor.name) {
      text += element_name(array);
      continue;
    }
    if (is_factor_name(array.name)) {
      text += fmt::format("{} {}", factor_leaf(array.name), element_name(array));
      continue;
    }
    const std::size_t dot = tensor.name.rfind('.');
    const bool sibling = dot != std::string::npos && array.name.starts_with(tensor.name.substr(0, dot + 1));
    text += sibling ? array.name.substr(dot + 1) : array.name;
    text += " " + element_name(array);
  }
  return text;
}

std::string encoding_of(const Entry& entry) {
  return entry.rank == 0 ? entry.encoding : fmt::format("{} + rank {}", entry.encoding, entry.rank);
}

std::string files_of(const Checkpoint& checkpoint, const Tensor& tensor) {
  std::vector<std::size_t> files;
  for (const std::size_t index : tensor.arrays) files.push_back(checkpoint.arrays[index].file);
  std::ranges::sort(files);
  files.erase(std::unique(files.begin(), files.end()), files.end());
  std::string text;
  for (const std::size_t file : files) {
    if (!text.empty()) text += ", ";
    text += checkpoint.files[file].name;
  }
  return text;
}

}  // namespace

std::uint64_t count_matches(const Checkpoint& checkpoint, std::string_view pattern) {
  const NamePattern wanted(pattern);
  return static_cast<std::uint64_t>(
      std::ranges::count_if(checkpoint.tensors, [&](const Tensor& tensor) { return wanted.matches(tensor.name); }));
}

std::string render_tensors(const Checkpoint& checkpoint, const Report& report, std::string_view pattern) {
  const NamePattern wanted(pattern);
  // One file needs no column of its own.
  const bool with_files = checkpoint.files.size() > 1;
  std::vector<Align> columns{Align::left, Align::left, Align::left, Align::right, Align::right, Align::left};
  std::vector<std::string> heads{"tensor", "shape", "encoding", "bytes", "bits", "arrays"};
  if (with_files) {
    columns.push_back(Align::left);
    heads.emplace_back("file");
  }
  TextTable table(std::move(columns));
  table.add(std::move(heads));
  Tally sum;
  for (const Entry& entry : report.catalog.entries) {
    const Tensor& tensor = checkpoint.tensors[entry.tensor];
    if (!wanted.matches(tensor.name)) continue;
    const Tally tally{1, entry.parameters, entry.bytes};
    sum.add(tally);
    const auto bits = tally.bits();
    std::vector<std::string> cells{cell(tensor.name),
                                   to_string(tensor.shape),
                                   cell(encoding_of(entry)),
                                   format_count(tally.bytes),
                                   bits ? fmt::format("{:.3f}", *bits) : "-",
                                   cell(arrays_of(checkpoint, tensor))};
    if (with_files) cells.push_back(cell(files_of(checkpoint, tensor)));
    table.add(std::move(cells));
  }
  return table.text() + fmt::format("\n{}, {} parameters, {} bytes\n", counted(sum.tensors, "tensor"),
                                    format_count(sum.parameters), format_count(sum.bytes));
}

}  // namespace regauge::inspect
