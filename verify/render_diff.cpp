#include "verify/render_diff.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "base/render.h"
#include "base/text.h"
#include "inspect/wording.h"

namespace regauge {
namespace {

using Align = TextTable::Align;
using inspect::cell;
using inspect::counted;

constexpr std::size_t kShown = 10;

std::size_t shown_of(std::size_t count, DiffDetail detail) {
  return detail == DiffDetail::all ? count : std::min(count, kShown);
}

std::string more(std::size_t count, std::size_t shown) {
  return count > shown ? fmt::format("  and {} more; --all shows them\n", count - shown) : "";
}

/// Those of which values differ, the worst first.
std::vector<const TensorDiff*> worst_first(const Diff& diff) {
  std::vector<const TensorDiff*> worst;
  for (const TensorDiff& one : diff.tensors) {
    if (one.likeness >= Likeness::dialect) worst.push_back(&one);
  }
  std::ranges::stable_sort(worst, [](const TensorDiff* a, const TensorDiff* b) {
    if (a->likeness != b->likeness) return a->likeness > b->likeness;
    return a->measured.relative_error() > b->measured.relative_error();
  });
  return worst;
}

struct ComponentTally {
  std::map<Likeness, std::uint64_t> counts;
  Measured measured;
};

std::map<Component, ComponentTally> by_component(const Diff& diff) {
  std::map<Component, ComponentTally> tallies;
  for (const TensorDiff& one : diff.tensors) {
    ComponentTally& tally = tallies[one.component];
    ++tally.counts[one.likeness];
    tally.measured.merge(one.measured, 0);
  }
  return tallies;
}

std::string number(double value) { return value == 0 ? "0" : fmt::format("{:.3g}", value); }

std::string names_block(std::string_view title, const std::vector<Alone>& names, DiffDetail detail) {
  if (names.empty()) return "";
  std::map<Component, std::size_t> counts;
  for (const Alone& one : names) ++counts[one.component];
  std::string parts;
  for (const auto& [component, count] : counts)
    parts += fmt::format("{}{} {}", parts.empty() ? "" : ", ", count, name(component));
  std::string out = fmt::format("{}: {} ({})\n", title, counted(names.size(), "tensor"), parts);
  const std::size_t shown = shown_of(names.size(), detail);
  for (std::size_t i = 0; i < shown; ++i) out += fmt::format("  {}\n", cell(names[i].name));
  return out + more(names.size(), shown);
}

std::string structure_block(const Diff& diff, DiffDetail detail) {
  std::string out = fmt::format("{} in both\n", counted(diff.tensors.size(), "tensor"));
  out += names_block("only in A", diff.only_first, detail);
  out += names_block("only in B", diff.only_second, detail);
  if (!diff.renamed.empty()) {
    out += fmt::format("renamed: {}\n", counted(diff.renamed.size(), "tensor"));
    const std::size_t shown = shown_of(diff.renamed.size(), detail);
    for (std::size_t i = 0; i < shown; ++i)
      out += fmt::format("  {} -> {}\n", cell(diff.renamed[i].first), cell(diff.renamed[i].second));
    out += more(diff.renamed.size(), shown);
  }
  if (!diff.reshaped.empty()) {
    out += fmt::format("reshaped: {}\n", counted(diff.reshaped.size(), "tensor"));
    const std::size_t shown = shown_of(diff.reshaped.size(), detail);
    for (std::size_t i = 0; i < shown; ++i)
      out += fmt::format("  {}: {} -> {}\n", cell(diff.reshaped[i].name), to_string(diff.reshaped[i].first),
                         to_string(diff.reshaped[i].second));
    out += more(diff.reshaped.size(), shown);
  }
  return out;
}

std::string dialect_block(const Diff& diff) {
  if (diff.dialect.empty()) return "";
  std::string out = "dialect, not counted:\n";
  for (const DialectNote& note : diff.dialect)
    out += fmt::format("  {} ({}, such as {})\n", note.what, counted(note.tensors, "tensor"), cell(note.example));
  return out;
}

std::string encodings_block(const Diff& diff) {
  std::map<std::tuple<std::string, std::string, Likeness>, std::uint64_t> counts;
  for (const TensorDiff& one : diff.tensors) {
    if (!one.same_encoding) ++counts[{one.first_encoding, one.second_encoding, one.likeness}];
  }
  if (counts.empty()) return "";
  TextTable table({Align::right});
  table.add({"tensors", "in A", "in B", "likeness"});
  for (const auto& [key, count] : counts)
    table.add(
        {format_count(count), cell(std::get<0>(key)), cell(std::get<1>(key)), std::string(name(std::get<2>(key)))});
  return "re-encoded:\n" + table.text(2);
}

std::string components_block(const Diff& diff) {
  TextTable table({Align::left, Align::right, Align::right, Align::right, Align::right, Align::right, Align::right});
  table.add({"component", "bytes", "values", "dialect", "different", "max |d|", "rel error"});
  for (const auto& [component, tally] : by_component(diff)) {
    std::vector<std::string> cells{std::string(name(component))};
    for (const Likeness likeness : {Likeness::bytes, Likeness::values, Likeness::dialect, Likeness::different}) {
      const auto found = tally.counts.find(likeness);
      cells.push_back(found == tally.counts.end() ? "-" : format_count(found->second));
    }
    cells.push_back(number(tally.measured.worst));
    cells.push_back(number(tally.measured.relative_error()));
    table.add(std::move(cells));
  }
  return "likeness of the tensors in both:\n" + table.text(2);
}

std::string worst_block(const Diff& diff, DiffDetail detail) {
  const auto worst = worst_first(diff);
  if (worst.empty()) return "";
  TextTable table({Align::left, Align::right, Align::right, Align::right, Align::right});
  table.add({"tensor", "differ", "of", "rel error", "max |d|", "at", "A", "B"});
  const std::size_t shown = shown_of(worst.size(), detail);
  for (std::size_t i = 0; i < shown; ++i) {
    const TensorDiff& one = *worst[i];
    const Measured& measured = one.measured;
    const bool known = measured.different != 0;
    table.add({cell(one.name), known ? format_count(measured.different) : "?", format_count(measured.elements),
               number(measured.relative_error()), number(measured.worst),
               known ? position(one.shape, measured.worst_at) : "",
               known ? fmt::format("{:.9g}", measured.worst_first) : "",
               known ? fmt::format("{:.9g}", measured.worst_second) : ""});
  }
  return "worst tensors:\n" + table.text(2) + more(worst.size(), shown);
}

/// The same encoding and other bytes of equal values: signed zeros, bits that no value depends on.
std::string bytes_block(const Diff& diff, DiffDetail detail) {
  std::vector<const TensorDiff*> some;
  for (const TensorDiff& one : diff.tensors) {
    if (one.likeness == Likeness::values && one.bytes_differ) some.push_back(&one);
  }
  if (some.empty()) return "";
  std::string out = fmt::format("other bytes of equal values: {}\n", counted(some.size(), "tensor"));
  const std::size_t shown = shown_of(some.size(), detail);
  for (std::size_t i = 0; i < shown; ++i) {
    const std::uint64_t zeros = some[i]->measured.signed_zeros;
    out += fmt::format("  {}{}\n", cell(some[i]->name),
                       zeros == 0 ? "" : fmt::format(" ({} of another sign)", counted(zeros, "zero")));
  }
  return out + more(some.size(), shown);
}

std::string keys_block(const Diff& diff, DiffDetail detail) {
  if (diff.keys.empty()) return "";
  std::string out;
  for (const bool is_counted : {true, false}) {
    std::vector<const KeyDiff*> some;
    for (const KeyDiff& key : diff.keys) {
      if (key.counted == is_counted) some.push_back(&key);
    }
    if (some.empty()) continue;
    out += is_counted ? "metadata and configuration:\n" : "about packaging and storage, not counted:\n";
    const std::size_t shown = shown_of(some.size(), detail);
    for (std::size_t i = 0; i < shown; ++i) {
      const KeyDiff& key = *some[i];
      out += fmt::format("  {}{}{}: {} -> {}\n", cell(key.where), key.key.empty() ? "" : " ", cell(key.key),
                         key.first.value_or("absent"), key.second.value_or("absent"));
    }
    out += more(some.size(), shown);
  }
  return out;
}

std::string verdict_line(const Diff& diff) {
  switch (diff.sense()) {
    case Likeness::bytes: return "equal: bytes\n";
    case Likeness::values: return "equal: values\n";
    case Likeness::dialect: return "equal: values, within 2 units in the last place of A_log, which another exp made\n";
    case Likeness::different: break;
  }
  const auto different = std::ranges::count(diff.tensors, Likeness::different, &TensorDiff::likeness);
  std::string out = "different:";
  const auto add = [&out](std::size_t count, std::string_view what) {
    if (count != 0) out += fmt::format("{} {} {}", out.back() == ':' ? "" : ",", count, what);
  };
  add(static_cast<std::size_t>(different), "in values");
  add(diff.only_first.size(), "only in A");
  add(diff.only_second.size(), "only in B");
  add(diff.renamed.size(), "renamed");
  add(diff.reshaped.size(), "reshaped");
  add(static_cast<std::size_t>(std::ranges::count_if(diff.keys, &KeyDiff::counted)), "keys");
  add(diff.unread.size(), "not compared");
  return out + "\n";
}

Json number_json(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json tensor_json(const TensorDiff& one) {
  Json json;
  json["tensor"] = json_text(one.name);
  json["component"] = name(one.component);
  json["shape"] = one.shape.dims;
  json["encodings"] = {json_text(one.first_encoding), json_text(one.second_encoding)};
  json["likeness"] = name(one.likeness);
  json["elements"] = one.measured.elements;
  json["different"] = one.measured.different;
  json["signed_zeros"] = one.measured.signed_zeros;
  json["bytes_differ"] = one.bytes_differ;
  if (one.measured.different == 0) return json;
  json["max_error"] = number_json(one.measured.worst);
  json["max_error_at"] = one.measured.worst_at;
  json["max_error_values"] = {number_json(one.measured.worst_first), number_json(one.measured.worst_second)};
  json["max_ulps"] = one.measured.worst_ulps;
  json["rmse"] = number_json(one.measured.rmse());
  json["relative_error"] = number_json(one.measured.relative_error());
  return json;
}

Json names_json(const std::vector<Alone>& names) {
  Json list = Json::array();
  for (const Alone& one : names) list.push_back(json_text(one.name));
  return list;
}

Json structure_json(const Diff& diff) {
  Json json;
  json["only_a"] = names_json(diff.only_first);
  json["only_b"] = names_json(diff.only_second);
  json["renamed"] = Json::array();
  for (const auto& [first, second] : diff.renamed) json["renamed"].push_back({json_text(first), json_text(second)});
  json["reshaped"] = Json::array();
  for (const Reshaped& one : diff.reshaped) {
    Json entry;
    entry["tensor"] = json_text(one.name);
    entry["shapes"] = {one.first.dims, one.second.dims};
    json["reshaped"].push_back(std::move(entry));
  }
  return json;
}

Json keys_json(const Diff& diff) {
  Json list = Json::array();
  for (const KeyDiff& key : diff.keys) {
    Json one;
    one["where"] = json_text(key.where);
    one["key"] = json_text(key.key);
    one["a"] = key.first ? json_text(*key.first) : Json(nullptr);
    one["b"] = key.second ? json_text(*key.second) : Json(nullptr);
    one["counted"] = key.counted;
    list.push_back(std::move(one));
  }
  return list;
}

}  // namespace

std::string position(const Shape& shape, std::uint64_t at) {
  Shape index = shape;
  for (std::size_t d = index.dims.size(); d-- > 0;) {
    const auto size = static_cast<std::uint64_t>(std::max<std::int64_t>(shape.dims[d], 1));
    index.dims[d] = static_cast<std::int64_t>(at % size);
    at /= size;
  }
  return to_string(index);
}

std::string render_diff(const Diff& diff, DiffDetail detail) {
  std::string out = structure_block(diff, detail) + dialect_block(diff) + encodings_block(diff);
  if (!diff.tensors.empty()) out += components_block(diff);
  out += worst_block(diff, detail) + bytes_block(diff, detail) + keys_block(diff, detail);
  for (const std::string& line : diff.unread) out += "not compared: " + cell(line) + "\n";
  return out + verdict_line(diff);
}

Json diff_to_json(const Diff& diff, const std::string& first, const std::string& second) {
  Json json;
  json["schema"] = "regauge.diff/1";
  json["a"] = json_text(first);
  json["b"] = json_text(second);
  json["equal"] = diff.equal();
  json["sense"] = diff.equal() ? Json(name(diff.sense())) : Json(nullptr);
  json["structure"] = structure_json(diff);
  json["dialect"] = Json::array();
  for (const DialectNote& note : diff.dialect) {
    Json one;
    one["what"] = note.what;
    one["tensors"] = note.tensors;
    one["example"] = json_text(note.example);
    json["dialect"].push_back(std::move(one));
  }
  json["tensors"] = Json::array();
  for (const TensorDiff& one : diff.tensors) json["tensors"].push_back(tensor_json(one));
  json["keys"] = keys_json(diff);
  json["not_compared"] = Json::array();
  for (const std::string& line : diff.unread) json["not_compared"].push_back(json_text(line));
  return json;
}

}  // namespace regauge
