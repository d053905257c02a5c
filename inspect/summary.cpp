#include "inspect/summary.h"

#include <algorithm>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "inspect/quantization.h"
#include "inspect/wording.h"

namespace regauge::inspect {
namespace {

ArchitectureFacts facts_of(const Architecture& architecture) {
  ArchitectureFacts facts;
  facts.family = architecture.family();
  facts.label = architecture.label();
  facts.layers = architecture.layers();
  for (int layer = 0; layer < facts.layers; ++layer) {
    if (architecture.is_full_attention(layer)) facts.attention_layers.push_back(layer);
  }
  facts.announced_mtp_layers = architecture.announced_mtp_layers();
  facts.announces_vision = architecture.has_vision();
  facts.tied_head = architecture.tied_head();
  return facts;
}

std::string factor_encoding(const Checkpoint& checkpoint, const Entry& entry) {
  const Tensor& tensor = checkpoint.tensors[entry.tensor];
  const Part* part = tensor.find(PartId::lowrank_a);
  return part == nullptr ? entry.encoding : std::string(name(part->dtype));
}

std::vector<TableRow> make_table(const Checkpoint& checkpoint, const Catalog& catalog) {
  std::map<std::pair<Component, std::string>, TableRow> rows;
  const auto add = [&rows](Component component, const std::string& encoding, bool quantized, const Tally& tally) {
    TableRow& row = rows[{component, encoding}];
    row.component = component;
    row.encoding = encoding;
    row.quantized = quantized;
    row.tally.add(tally);
  };
  for (const Entry& entry : catalog.entries) {
    if (entry.component != Component::adapter) {
      add(entry.component, entry.encoding, entry.quantized, {1, entry.parameters, entry.bytes});
    }
    if (entry.factor_parameters != 0 || entry.component == Component::adapter) {
      add(Component::adapter, factor_encoding(checkpoint, entry), false,
          {1, entry.factor_parameters, entry.factor_bytes});
    }
  }
  std::vector<TableRow> table;
  table.reserve(rows.size());
  for (auto& [key, row] : rows) table.push_back(std::move(row));
  std::ranges::stable_sort(table, [](const TableRow& a, const TableRow& b) {
    return a.component != b.component ? a.component < b.component : a.tally.bytes > b.tally.bytes;
  });
  return table;
}

std::string describe_keys(const Checkpoint& checkpoint) {
  const Metadata& metadata = checkpoint.metadata;
  if (checkpoint.dialect != Dialect::gguf || metadata.empty()) return {};
  std::string line = counted(metadata.entries().size(), "key");
  const MetaValue* tokens = metadata.find("tokenizer.ggml.tokens");
  const auto* list = tokens == nullptr ? nullptr : std::get_if<MetaArray>(tokens);
  if (list == nullptr) return line;
  line += fmt::format("; vocabulary of {}", counted(list->size(), "token"));
  const MetaValue* model = metadata.find("tokenizer.ggml.model");
  const auto* text = model == nullptr ? nullptr : std::get_if<std::string>(model);
  return text == nullptr ? line : fmt::format("{} ({})", line, *text);
}

std::vector<LayerFacts> make_layers(const Architecture& architecture, const Catalog& catalog) {
  std::vector<LayerFacts> layers;
  layers.reserve(static_cast<std::size_t>(architecture.layers()));
  for (int layer = 0; layer < architecture.layers(); ++layer) {
    layers.push_back({layer, architecture.is_full_attention(layer) ? "attention" : "deltanet", {}});
  }
  for (const Entry& entry : catalog.entries) {
    if (root(entry.component) != "text" || entry.component == Component::other) continue;
    if (entry.layer < 0 || entry.layer >= architecture.layers()) continue;
    layers[static_cast<std::size_t>(entry.layer)].tally.add({1, entry.parameters, entry.bytes});
  }
  return layers;
}

}  // namespace

void Tally::add(const Tally& other) noexcept {
  tensors += other.tensors;
  parameters += other.parameters;
  bytes += other.bytes;
}

std::optional<double> Tally::bits() const noexcept {
  if (parameters == 0) return std::nullopt;
  return static_cast<double>(bytes) * 8 / static_cast<double>(parameters);
}

std::string claimed_architecture(const Checkpoint& checkpoint) {
  if (const MetaValue* value = checkpoint.metadata.find("general.architecture")) {
    if (const auto* text = std::get_if<std::string>(value)) return *text;
  }
  if (checkpoint.config && checkpoint.config->is_object()) {
    if (const auto found = checkpoint.config->find("architectures"); found != checkpoint.config->end()) {
      if (found->is_array() && !found->empty() && found->front().is_string()) return found->front().get<std::string>();
    }
    if (const auto found = checkpoint.config->find("model_type");
        found != checkpoint.config->end() && found->is_string()) {
      return found->get<std::string>();
    }
  }
  return {};
}

Summary summarise(const Checkpoint& checkpoint, const Architecture* architecture, const Catalog& catalog) {
  Summary summary;
  summary.path = checkpoint.path;
  summary.format = checkpoint.format;
  summary.format_version = checkpoint.format_version;
  summary.dialect = checkpoint.dialect;
  if (const MetaValue* value = checkpoint.metadata.find("general.name")) {
    if (const auto* text = std::get_if<std::string>(value)) summary.name = *text;
  }
  if (architecture != nullptr) summary.architecture = facts_of(*architecture);
  summary.claimed_architecture = claimed_architecture(checkpoint);
  summary.quantization = describe(checkpoint);
  summary.keys = describe_keys(checkpoint);

  summary.files = checkpoint.files.size();
  summary.arrays = checkpoint.arrays.size();
  summary.unused_arrays = catalog.unused_arrays.size();
  for (const StoredArray& array : checkpoint.arrays) summary.array_bytes += array.bytes;
  summary.file_bytes = checkpoint.file_bytes();

  for (const Entry& entry : catalog.entries) {
    const Tally tally{1, entry.parameters, entry.bytes};
    const std::string_view part = root(entry.component);
    if (entry.quantized) summary.quantized.add(tally);
    if (part == "mtp") summary.mtp.add(tally);
    if (part == "vision") summary.vision.add(tally);
    if (part == "text") summary.text.add(tally);
    if (entry.factor_parameters != 0) summary.factors.add({1, entry.factor_parameters, entry.factor_bytes});
    summary.everything.parameters += entry.parameters;
  }
  summary.everything.tensors = catalog.entries.size();
  summary.everything.bytes = summary.array_bytes;

  summary.table = make_table(checkpoint, catalog);
  if (architecture != nullptr) summary.layers = make_layers(*architecture, catalog);
  summary.sidecars = checkpoint.sidecars;
  return summary;
}

}  // namespace regauge::inspect
