#include "inspect/render_json.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <utility>
#include <variant>

#include "base/render.h"
#include "inspect/pattern.h"
#include "inspect/quantization.h"

namespace regauge::inspect {
namespace {

template <typename T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json tally_json(const Tally& tally) {
  Json json;
  json["tensors"] = tally.tensors;
  json["parameters"] = tally.parameters;
  json["bytes"] = tally.bytes;
  json["bits_per_weight"] = or_null(tally.bits());
  return json;
}

Json architecture_json(const ArchitectureFacts& facts) {
  Json json;
  json["family"] = facts.family;
  json["label"] = facts.label;
  json["layers"] = facts.layers;
  json["attention_layers"] = facts.attention_layers;
  json["announced_mtp_layers"] = facts.announced_mtp_layers;
  json["announces_vision"] = facts.announces_vision;
  json["tied_head"] = facts.tied_head;
  return json;
}

Json table_json(const std::vector<TableRow>& table) {
  Json list = Json::array();
  for (const TableRow& row : table) {
    Json json;
    json["component"] = name(row.component);
    json["encoding"] = row.encoding;
    json["quantized"] = row.quantized;
    json.update(tally_json(row.tally));
    list.push_back(std::move(json));
  }
  return list;
}

Json layers_json(const std::vector<LayerFacts>& layers) {
  Json list = Json::array();
  for (const LayerFacts& layer : layers) {
    Json json;
    json["layer"] = layer.layer;
    json["kind"] = layer.kind;
    json.update(tally_json(layer.tally));
    list.push_back(std::move(json));
  }
  return list;
}

Json findings_json(const Findings& findings) {
  Json list = Json::array();
  for (const Finding& finding : findings) list.push_back(to_json(finding));
  return list;
}

Json names_json(const Checkpoint& checkpoint, const std::vector<std::size_t>& tensors) {
  Json list = Json::array();
  for (const std::size_t index : tensors) list.push_back(json_text(checkpoint.tensors[index].name));
  return list;
}

Json completeness_json(const Checkpoint& checkpoint, const Report& report) {
  const Completeness& completeness = *report.completeness;
  Json json;
  json["missing"] = Json::array();
  for (const ExpectedSlot& slot : completeness.missing)
    json["missing"].push_back(report.architecture->canonical_name(slot.slot));
  json["unknown"] = names_json(checkpoint, completeness.unknown);
  json["wrong_shape"] = Json::array();
  for (const WrongShape& wrong : completeness.wrong_shapes) {
    Json one;
    one["tensor"] = json_text(checkpoint.tensors[wrong.tensor].name);
    one["shape"] = checkpoint.tensors[wrong.tensor].shape.dims;
    one["expected"] = wrong.expected.dims;
    json["wrong_shape"].push_back(std::move(one));
  }
  json["repeated"] = names_json(checkpoint, completeness.repeated);
  json["has_vision"] = completeness.has_vision;
  json["has_mtp"] = completeness.has_mtp;
  return json;
}

Json marlin_json(const Checkpoint& checkpoint, const MarlinVerdict& marlin) {
  if (!marlin.applies) return nullptr;
  Json json;
  json["compatible"] = marlin.compatible();
  json["config_reason"] = marlin.config_reason.empty() ? Json(nullptr) : Json(marlin.config_reason);
  json["modules"] = marlin.modules;
  json["strict"] = marlin.strict;
  json["padded"] = marlin.padded;
  json["refusals"] = Json::array();
  for (const MarlinRefusal& refusal : marlin.refusals) {
    Json one;
    one["tensor"] = json_text(checkpoint.tensors[refusal.tensor].name);
    one["reason"] = refusal.reason;
    one["padded_too"] = refusal.padded_too;
    json["refusals"].push_back(std::move(one));
  }
  json["mixed_fusions"] = Json::array();
  for (const MixedFusion& mixed : marlin.mixed) {
    Json one;
    one["module"] = json_text(mixed.module);
    one["fused"] = mixed.fused;
    one["tensors"] = names_json(checkpoint, mixed.tensors);
    json["mixed_fusions"].push_back(std::move(one));
  }
  return json;
}

Json scan_json(const Checkpoint& checkpoint, const ScanReport& scan) {
  Json json;
  json["tensors_read"] = scan.tensors_read;
  json["bytes_read"] = scan.bytes_read;
  json["indexed_modules"] = scan.indexed;
  json["act_order_modules"] = names_json(checkpoint, scan.act_order);
  json["modules_with_zeros"] = scan.with_zeros;
  json["asymmetric_modules"] = names_json(checkpoint, scan.asymmetric);
  json["non_finite"] = Json::array();
  for (const NonFinite& found : scan.non_finite) {
    Json one;
    one["tensor"] = json_text(checkpoint.tensors[found.tensor].name);
    one["part"] = found.part;
    one["nan"] = found.nan;
    one["infinite"] = found.infinite;
    json["non_finite"].push_back(std::move(one));
  }
  json["norms"] = Json::array();
  for (const NormMean& norm : scan.norms) {
    Json one;
    one["tensor"] = json_text(checkpoint.tensors[norm.tensor].name);
    one["mean"] = norm.mean;
    one["looks_shifted"] = norm.looks_shifted;
    one["stored_shifted"] = norm.stored_shifted;
    json["norms"].push_back(std::move(one));
  }
  json["opaque"] = names_json(checkpoint, scan.opaque);
  json["unread"] = Json::array();
  for (const std::string& line : scan.unread) json["unread"].push_back(json_text(line));
  return json;
}

Json array_json(const Checkpoint& checkpoint, const StoredArray& array) {
  Json json;
  json["name"] = json_text(array.name);
  json["dtype"] = json_text(element_name(array));
  json["shape"] = array.shape.dims;
  json["file"] = json_text(checkpoint.files[array.file].name);
  json["offset"] = array.offset;
  json["bytes"] = array.bytes;
  return json;
}

Json tensor_json(const Checkpoint& checkpoint, const Report& report, const Entry& entry) {
  const Tensor& tensor = checkpoint.tensors[entry.tensor];
  Json json;
  json["name"] = json_text(tensor.name);
  if (entry.assembly && entry.assembly->pieces.size() == 1) {
    json["canonical_name"] = json_text(report.architecture->canonical_name(entry.assembly->pieces.front().slot));
  }
  json["component"] = name(entry.component);
  json["layer"] = entry.layer < 0 ? Json(nullptr) : Json(entry.layer);
  json["role"] = json_text(entry.role);
  json["shape"] = tensor.shape.dims;
  json["encoding"] = json_text(entry.encoding);
  json["quantized"] = entry.quantized;
  json["parameters"] = entry.parameters;
  json["bytes"] = entry.bytes;
  json["bits_per_weight"] = or_null(Tally{1, entry.parameters, entry.bytes}.bits());
  if (entry.factor_parameters != 0) {
    Json factors;
    factors["rank"] = entry.rank == 0 ? Json(nullptr) : Json(entry.rank);
    factors["parameters"] = entry.factor_parameters;
    factors["bytes"] = entry.factor_bytes;
    json["factors"] = std::move(factors);
  }
  json["arrays"] = Json::array();
  for (const std::size_t index : tensor.arrays)
    json["arrays"].push_back(array_json(checkpoint, checkpoint.arrays[index]));
  return json;
}

/// A double as JSON has it: no NaN and no infinity, so those become text.
Json number_json(double value) {
  if (std::isfinite(value)) return value;
  return std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
}

Json value_json(const MetaValue& value) {
  return std::visit(
      [](const auto& v) -> Json {
        using V = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<V, std::string>) {
          return json_text(v);
        } else if constexpr (std::is_floating_point_v<V>) {
          return number_json(static_cast<double>(v));
        } else if constexpr (std::is_same_v<V, MetaArray>) {
          constexpr std::size_t kShown = 16;  // enough for sections and per-axis sizes; vocabularies are counted only
          Json json;
          json["element"] = name(v.element);
          json["length"] = v.size();
          std::visit(
              [&](const auto& elements) {
                Json first = Json::array();
                for (std::size_t i = 0; i < std::min(elements.size(), kShown); ++i) {
                  using Element = std::decay_t<decltype(elements[i])>;
                  if constexpr (std::is_same_v<Element, std::string>) {
                    first.push_back(json_text(elements[i]));
                  } else if constexpr (std::is_floating_point_v<Element>) {
                    first.push_back(number_json(static_cast<double>(elements[i])));
                  } else if (v.element == MetaType::boolean) {
                    first.push_back(elements[i] != 0);
                  } else {
                    first.push_back(elements[i]);
                  }
                }
                json["first"] = std::move(first);
              },
              v.values);
          return json;
        } else {
          return v;
        }
      },
      value);
}

Json metadata_json(const Metadata& metadata) {
  Json list = Json::array();
  for (const auto& [key, value] : metadata.entries()) {
    Json json;
    json["key"] = json_text(key);
    json["type"] = name(type_of(value));
    json["value"] = value_json(value);
    list.push_back(std::move(json));
  }
  return list;
}

Json rows_json(const std::vector<MapRow>& rows, bool numbered) {
  Json list = Json::array();
  for (const MapRow& row : rows) {
    Json json;
    json["component"] = name(row.component);
    json["label"] = json_text(row.label);
    Json cells = Json::array();
    for (const auto& [block, cell] : row.cells) {
      Json one;
      if (numbered) one["block"] = block;
      one["precision"] = describe_symbol(cell.symbol);
      one["parameters"] = cell.parameters;
      one["bits_per_weight"] = cell.bits();
      cells.push_back(std::move(one));
    }
    json["cells"] = std::move(cells);
    list.push_back(std::move(json));
  }
  return list;
}

Json map_json(const PrecisionMap& map) {
  Json json;
  json["towers"] = Json::array();
  for (const MapTower& tower : map.towers) {
    Json one;
    one["name"] = tower.name;
    one["blocks"] = tower.blocks;
    one["rows"] = rows_json(tower.rows, true);
    json["towers"].push_back(std::move(one));
  }
  json["outside"] = rows_json(map.outside, false);
  return json;
}

Json stats_json(const Checkpoint& checkpoint, const TensorStats& stats) {
  const bool any = stats.finite != 0;
  const auto if_any = [any](double value) { return any ? Json(value) : Json(nullptr); };
  Json json;
  json["tensor"] = json_text(checkpoint.tensors[stats.tensor].name);
  json["count"] = stats.count;
  json["finite"] = stats.finite;
  json["nan"] = stats.nan;
  json["infinite"] = stats.infinite;
  json["zeros"] = stats.zeros;
  json["negative_zeros"] = stats.negative_zeros;
  json["min"] = if_any(stats.min);
  json["max"] = if_any(stats.max);
  json["mean"] = if_any(stats.mean);
  json["deviation"] = if_any(stats.deviation);
  json["histogram"] = stats.histogram;
  json["codes"] = stats.codes.empty() ? Json(nullptr) : Json(stats.codes);
  if (stats.codes.empty()) json["codes_missing"] = stats.codes_missing;
  return json;
}

Json head_json(const Checkpoint& checkpoint, const Report& report) {
  const Summary& summary = report.summary;
  Json json;
  json["schema"] = "regauge.inspect/1";
  json["path"] = json_text(summary.path);
  Json format;
  format["name"] = summary.format;
  format["version"] = json_text(summary.format_version);
  format["dialect"] = name(summary.dialect);
  json["format"] = std::move(format);
  if (!summary.name.empty()) json["name"] = json_text(summary.name);
  json["architecture"] = summary.architecture ? architecture_json(*summary.architecture) : Json(nullptr);
  json["claimed_architecture"] = json_text(summary.claimed_architecture);
  json["quantization"] = json_text(summary.quantization);
  json["quantization_config"] = checkpoint.quantization ? *checkpoint.quantization : Json(nullptr);
  json["files"] = summary.files;
  json["arrays"] = summary.arrays;
  json["array_bytes"] = summary.array_bytes;
  json["file_bytes"] = summary.file_bytes;
  Json totals;
  totals["everything"] = tally_json(summary.everything);
  totals["text"] = tally_json(summary.text);
  totals["mtp"] = tally_json(summary.mtp);
  totals["vision"] = tally_json(summary.vision);
  totals["quantized"] = tally_json(summary.quantized);
  totals["factors"] = tally_json(summary.factors);
  json["totals"] = std::move(totals);
  return json;
}

}  // namespace

std::string render_json(const Checkpoint& checkpoint, const Report& report, const JsonExtras& extras) {
  Json json = head_json(checkpoint, report);
  json["table"] = table_json(report.summary.table);
  json["layers"] = layers_json(report.summary.layers);
  json["completeness"] = report.completeness ? completeness_json(checkpoint, report) : Json(nullptr);
  json["marlin"] = marlin_json(checkpoint, report.marlin);
  json["findings"] = findings_json(report.findings);
  if (report.scan) json["scan"] = scan_json(checkpoint, *report.scan);
  if (extras.map != nullptr) json["map"] = map_json(*extras.map);
  if (extras.stats != nullptr) json["stats"] = stats_json(checkpoint, *extras.stats);

  const NamePattern wanted(extras.pattern);
  Json tensors = Json::array();
  for (const Entry& entry : report.catalog.entries) {
    if (wanted.matches(checkpoint.tensors[entry.tensor].name))
      tensors.push_back(tensor_json(checkpoint, report, entry));
  }
  json["tensors"] = std::move(tensors);
  Json unused = Json::array();
  for (const std::size_t index : report.catalog.unused_arrays)
    unused.push_back(array_json(checkpoint, checkpoint.arrays[index]));
  json["unused_arrays"] = std::move(unused);
  Json files = Json::array();
  for (const SourceFile& file : checkpoint.files) {
    Json one;
    one["name"] = json_text(file.name);
    one["bytes"] = file.file->size();
    one["data_offset"] = file.data_offset;
    files.push_back(std::move(one));
  }
  json["file_list"] = std::move(files);
  Json sidecars = Json::array();
  for (const Sidecar& sidecar : report.summary.sidecars) {
    Json one;
    one["name"] = json_text(sidecar.name);
    one["bytes"] = sidecar.bytes;
    sidecars.push_back(std::move(one));
  }
  json["sidecars"] = std::move(sidecars);
  json["metadata"] = metadata_json(checkpoint.metadata);
  return json.dump(2) + "\n";
}

}  // namespace regauge::inspect
