#include "verify/faithful.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "base/error.h"
#include "base/render.h"
#include "base/text.h"
#include "inspect/wording.h"
#include "verify/render_diff.h"

namespace regauge {
namespace {

using Align = TextTable::Align;
using inspect::cell;

constexpr std::string_view kModel = "model";
constexpr std::string_view kTensor = "tensor";
constexpr std::string_view kText = "text";

double value_of(Gate::Bound bound, const Measured& measured) {
  return bound == Gate::Bound::max_relative_error ? measured.relative_error() : measured.signal_to_noise();
}

bool holds(const Gate& gate, double measured) {
  return gate.bound == Gate::Bound::max_relative_error ? measured <= gate.limit : measured >= gate.limit;
}

std::string_view option_of(Gate::Bound bound) {
  return bound == Gate::Bound::max_relative_error ? "--max-rel" : "--min-snr";
}

bool is_scope(std::string_view text) {
  if (text == kModel || text == kTensor || text == kText) return true;
  for (int i = 0; i <= static_cast<int>(Component::other); ++i) {
    if (name(static_cast<Component>(i)) == text) return true;
  }
  return false;
}

/// Holds `gates` against what was measured.
class Judging {
 public:
  Judging(Faithfulness& result, const std::vector<Gate>& gates) : result_(result) {
    for (const Gate& gate : gates) {
      any_ = false;
      apply(gate);
      if (!any_) result_.idle.push_back(gate.scope);
    }
  }

 private:
  void apply(const Gate& gate) {
    if (gate.scope == kModel) hold(gate, gate.scope, result_.whole);
    if (gate.scope == kTensor) {
      for (const TensorDiff& one : result_.diff.tensors) hold(gate, one.name, one.measured);
    }
    for (const auto& [root, measured] : result_.roots) {
      if (gate.scope == kText && root == kText) hold(gate, gate.scope, measured);
    }
    for (const auto& [component, measured] : result_.components) {
      if (gate.scope == name(component)) hold(gate, gate.scope, measured);
    }
  }

  void hold(const Gate& gate, const std::string& where, const Measured& measured) {
    any_ = true;
    const double value = value_of(gate.bound, measured);
    if (!holds(gate, value)) result_.broken.push_back({gate, where, value});
  }

  Faithfulness& result_;
  bool any_ = false;
};

std::string number(double value) { return value == 0 ? "0" : fmt::format("{:.3g}", value); }

std::string decibels(double value) {
  if (std::isinf(value)) return value > 0 ? "exact" : "-inf";
  return fmt::format("{:.2f}", value);
}

std::string share(const Measured& measured) {
  if (measured.different == 0) return "100%";
  const double equal = 1.0 - static_cast<double>(measured.different) / static_cast<double>(measured.elements);
  // One in a billion is not all of them.
  return fmt::format("{:.2f}%", std::min(equal * 100, 99.99));
}

std::vector<std::string> cells(std::string title, const Measured& measured) {
  return {std::move(title),
          format_count(measured.elements),
          share(measured),
          number(measured.worst),
          measured.stepped == 0 ? "-" : fmt::format("{:.2f}", measured.worst_steps),
          number(measured.rmse()),
          number(measured.relative_error()),
          decibels(measured.signal_to_noise()),
          fmt::format("{:.6f}", measured.cosine())};
}

TextTable metrics_table(std::string first) {
  std::vector<Align> columns(9, Align::right);
  columns.front() = Align::left;
  TextTable table(std::move(columns));
  table.add({std::move(first), "values", "exact", "max |d|", "in steps", "rmse", "rel error", "snr dB", "cosine"});
  return table;
}

/// Where each of the worst tensors is furthest off, and what is there.
std::string places_table(const std::vector<const TensorDiff*>& tensors, std::size_t most) {
  TextTable table({Align::left, Align::right, Align::right, Align::right});
  table.add({"furthest off", "at", "here", "reference"});
  for (std::size_t i = 0; i < std::min(most, tensors.size()); ++i) {
    const Measured& measured = tensors[i]->measured;
    table.add({cell(tensors[i]->name), position(tensors[i]->shape, measured.worst_at),
               fmt::format("{:.9g}", measured.worst_first), fmt::format("{:.9g}", measured.worst_second)});
  }
  return table.text();
}

/// A line with the count for each component, and the first names.
std::string alone_lines(std::string_view what, const std::vector<Alone>& names, std::size_t most) {
  if (names.empty()) return "";
  std::string out = fmt::format("{}: {}\n", what, inspect::counted(names.size(), "tensor"));
  const std::size_t shown = std::min(most, names.size());
  for (std::size_t i = 0; i < shown; ++i) out += fmt::format("  {}\n", cell(names[i].name));
  if (shown < names.size()) out += fmt::format("  and {} more; --all shows them\n", names.size() - shown);
  return out;
}

Json number_json(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json measured_json(const Measured& measured) {
  Json json;
  json["values"] = measured.elements;
  json["different"] = measured.different;
  json["unmatched"] = measured.unmatched;
  json["max_error"] = number_json(measured.worst);
  json["max_error_in_steps"] = measured.stepped == 0 ? Json(nullptr) : Json(measured.worst_steps);
  json["rms_error_in_steps"] = measured.stepped == 0 ? Json(nullptr) : Json(measured.rms_steps());
  json["rmse"] = number_json(measured.rmse());
  json["relative_error"] = number_json(measured.relative_error());
  json["snr_db"] = number_json(measured.signal_to_noise());
  json["cosine"] = measured.cosine();
  return json;
}

}  // namespace

std::vector<const TensorDiff*> worst_first(const Diff& diff) {
  std::vector<const TensorDiff*> worst;
  for (const TensorDiff& one : diff.tensors) {
    if (one.measured.different != 0) worst.push_back(&one);
  }
  std::ranges::stable_sort(worst, [](const TensorDiff* a, const TensorDiff* b) {
    return a->measured.relative_error() > b->measured.relative_error();
  });
  return worst;
}

Gate parse_gate(Gate::Bound bound, std::string_view text) {
  Gate gate{bound, std::string(kModel), 0};
  std::string_view digits = text;
  if (const std::size_t equals = text.find('='); equals != std::string_view::npos) {
    gate.scope = text.substr(0, equals);
    digits = text.substr(equals + 1);
  }
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), gate.limit);
  if (error != std::errc() || end != digits.data() + digits.size() || !std::isfinite(gate.limit) ||
      !is_scope(gate.scope)) {
    throw Error(ErrorCode::invalid, "{} {}: neither a number nor a component or 'tensor', '=' and a number",
                option_of(bound), text);
  }
  return gate;
}

bool Faithfulness::passed() const {
  return broken.empty() && idle.empty() && diff.only_second.empty() && diff.renamed.empty() && diff.reshaped.empty() &&
         diff.unread.empty() && !diff.tensors.empty();
}

Faithfulness judge(Diff diff, const std::vector<Gate>& gates) {
  Faithfulness result;
  result.diff = std::move(diff);
  std::map<Component, Measured> components;
  std::map<std::string_view, Measured> roots;
  for (const TensorDiff& one : result.diff.tensors) {
    components[one.component].merge(one.measured, 0);
    roots[root(one.component)].merge(one.measured, 0);
    result.whole.merge(one.measured, 0);
  }
  result.components.assign(components.begin(), components.end());
  for (const std::string_view name :
       {kText, std::string_view("mtp"), std::string_view("vision"), std::string_view("adapter")}) {
    if (const auto found = roots.find(name); found != roots.end()) result.roots.emplace_back(name, found->second);
  }
  const Judging judging(result, gates);
  return result;
}

std::string render_faithfulness(const Faithfulness& result, std::size_t worst) {
  TextTable table = metrics_table("component");
  for (const auto& [component, measured] : result.components) table.add(cells(std::string(name(component)), measured));
  // The other roots are components, and have their lines.
  if (result.roots.size() > 1 && result.roots.front().first == kText)
    table.add(cells("text", result.roots.front().second));
  table.add(cells("model", result.whole));
  std::string out = table.text();
  const auto tensors = worst_first(result.diff);
  if (!tensors.empty() && worst != 0) {
    TextTable list = metrics_table("worst tensors");
    for (std::size_t i = 0; i < std::min(worst, tensors.size()); ++i)
      list.add(cells(cell(tensors[i]->name), tensors[i]->measured));
    out += "\n" + list.text() + "\n" + places_table(tensors, worst);
  }
  out += "\n" + alone_lines("of the reference and not here", result.diff.only_second, worst);
  out += alone_lines("here and not of the reference", result.diff.only_first, worst);
  if (!result.diff.renamed.empty())
    out += fmt::format("renamed: {}\n", inspect::counted(result.diff.renamed.size(), "tensor"));
  for (const Reshaped& one : result.diff.reshaped)
    out += fmt::format("of another shape: {}: {} and {} in the reference\n", cell(one.name), to_string(one.first),
                       to_string(one.second));
  for (const std::string& line : result.diff.unread) out += "not measured: " + cell(line) + "\n";
  for (const BrokenGate& one : result.broken) {
    out += fmt::format("{} {} broken by {}: {}\n", option_of(one.gate.bound), number(one.gate.limit), cell(one.where),
                       number(one.measured));
  }
  for (const std::string& scope : result.idle) out += fmt::format("nothing here is '{}', which a gate is for\n", scope);
  return out + (result.passed() ? "passed\n" : "failed\n");
}

Json faithfulness_to_json(const Faithfulness& result, const std::string& candidate, const std::string& reference) {
  Json json;
  json["schema"] = "regauge.verify/1";
  json["candidate"] = json_text(candidate);
  json["reference"] = json_text(reference);
  json["passed"] = result.passed();
  json["model"] = measured_json(result.whole);
  json["components"] = Json::array();
  for (const auto& [component, measured] : result.components) {
    Json one;
    one["component"] = name(component);
    one.update(measured_json(measured));
    json["components"].push_back(std::move(one));
  }
  json["roots"] = Json::array();
  for (const auto& [root, measured] : result.roots) {
    Json one;
    one["root"] = root;
    one.update(measured_json(measured));
    json["roots"].push_back(std::move(one));
  }
  json["tensors"] = Json::array();
  for (const TensorDiff& tensor : result.diff.tensors) {
    Json one;
    one["tensor"] = json_text(tensor.name);
    one["component"] = name(tensor.component);
    one["encodings"] = {json_text(tensor.first_encoding), json_text(tensor.second_encoding)};
    one["bits"] = {tensor.first_bits, tensor.second_bits};
    one.update(measured_json(tensor.measured));
    one["max_error_at"] = tensor.measured.worst_at;
    one["max_error_values"] = {number_json(tensor.measured.worst_first), number_json(tensor.measured.worst_second)};
    json["tensors"].push_back(std::move(one));
  }
  const auto names = [&json](const std::string& key, const auto& list) {
    json[key] = Json::array();
    for (const auto& entry : list) json[key].push_back(json_text(entry.name));
  };
  names("missing", result.diff.only_second);
  names("added", result.diff.only_first);
  json["broken_gates"] = Json::array();
  for (const BrokenGate& broken : result.broken) {
    Json one;
    one["gate"] = option_of(broken.gate.bound);
    one["scope"] = broken.gate.scope;
    one["limit"] = broken.gate.limit;
    one["where"] = json_text(broken.where);
    one["measured"] = number_json(broken.measured);
    json["broken_gates"].push_back(std::move(one));
  }
  return json;
}

}  // namespace regauge
