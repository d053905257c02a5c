#include "verify/round_trip.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "base/error.h"
#include "base/render.h"
#include "base/text.h"
#include "convert/route/affine_facts.h"
#include "convert/route/affine_rows.h"
#include "convert/workers.h"
#include "inspect/wording.h"
#include "verify/effective.h"

namespace regauge {
namespace {

using Align = TextTable::Align;
using inspect::cell;
using inspect::counted;

constexpr std::int64_t kBandElements = std::int64_t{1} << 20;

std::map<std::string, const Leaf*> by_name(const EffectiveModel& model) {
  std::map<std::string, const Leaf*> leaves;
  for (const Leaf& leaf : model.leaves) leaves.emplace(leaf.target.name, &leaf);
  return leaves;
}

std::optional<AffineSource> codes_of(const Leaf& leaf) {
  auto source = AffineSource::of(leaf.target);
  auto* affine = std::get_if<AffineSource>(&source);
  return affine == nullptr ? std::nullopt : std::optional(std::move(*affine));
}

/// The codes of some rows, in the order of the effective form.
void read_codes(const AffineSource& source, RowRange rows, Scratch& scratch, std::vector<std::uint8_t>& out) {
  const auto columns = static_cast<std::size_t>(source.target().columns);
  out.resize(static_cast<std::size_t>(rows.size()) * columns);
  GroupMap groups;  // codes are wanted, whatever groups they are in
  groups.source_group.resize(source.tensors().size());
  for_each_affine_row(source, groups, rows, scratch, [&](const AffineRow& row, std::size_t at) {
    std::ranges::copy(row.codes, out.begin() + static_cast<std::ptrdiff_t>(at * columns));
  });
}

/// What a worker uses again.
struct Buffers {
  Scratch first_scratch;
  Scratch second_scratch;
  std::vector<std::uint8_t> first;
  std::vector<std::uint8_t> second;
};

bool same_codes(const AffineSource& first, const AffineSource& second, Buffers& own, const std::atomic<bool>* cancel) {
  const auto bits = [](const AffineSource& source) { return source.tensors().front().bits(); };
  if (bits(first) != bits(second)) return false;
  const Target& target = first.target();
  const std::int64_t wide =
      std::max(first.tensors().front().preferred_rows(), second.tensors().front().preferred_rows());
  const std::int64_t height =
      std::max({kBandElements / std::max<std::int64_t>(target.columns, 1), wide, std::int64_t{1}});
  for (std::int64_t row = 0; row < target.rows; row += height) {
    if (cancel != nullptr && cancel->load()) throw Error(ErrorCode::io, "interrupted");
    const RowRange rows{row, std::min(target.rows, row + height)};
    read_codes(first, rows, own.first_scratch, own.first);
    read_codes(second, rows, own.second_scratch, own.second);
    if (own.first != own.second) return false;
  }
  return true;
}

Returned returned_of(const TensorDiff& diff, const Leaf& first, const Leaf& second, Buffers& own,
                     const std::atomic<bool>* cancel) {
  Returned one;
  one.bytes = diff.likeness == Likeness::bytes;
  one.values = diff.likeness <= Likeness::values;
  if (const auto source = codes_of(first)) {
    const auto other = one.bytes ? std::nullopt : codes_of(second);
    one.codes = one.bytes || (other && same_codes(*source, *other, own, cancel));
  }
  return one;
}

void sum_up(RoundTrip& result, std::span<const Component> dropped) {
  std::map<Component, Survival> components;
  const auto add = [&](Component component, const Returned& one) {
    components[component].add(one);
    result.whole.add(one);
  };
  for (std::size_t i = 0; i < result.tensors.size(); ++i) add(result.diff.tensors[i].component, result.tensors[i]);
  const auto add_missing = [&](Component component) {
    add(component, {});
    ++components[component].missing;
    ++result.whole.missing;
  };
  std::erase_if(result.diff.only_first, [&](const Alone& one) {
    const bool on_purpose = std::ranges::find(dropped, one.component) != dropped.end();
    if (on_purpose) result.left_out.push_back(one.name);
    return on_purpose;
  });
  for (const Alone& one : result.diff.only_first) add_missing(one.component);
  for (const Reshaped& one : result.diff.reshaped) add_missing(one.component);
  for (std::size_t i = 0; i < result.diff.renamed.size(); ++i) add_missing(Component::other);
  result.components.assign(components.begin(), components.end());
}

std::string joined(std::span<const std::string> way) {
  std::string out;
  for (const std::string& format : way) out += (out.empty() ? "" : " -> ") + format;
  return out;
}

std::vector<std::string> survival_cells(std::string title, const Survival& survival) {
  return {
      std::move(title),
      format_count(survival.tensors),
      format_count(survival.bytes),
      survival.coded == 0 ? "-" : fmt::format("{} of {}", format_count(survival.codes), format_count(survival.coded)),
      format_count(survival.values),
      format_count(survival.lost())};
}

std::string number(double value) { return value == 0 ? "0" : fmt::format("{:.3g}", value); }

std::string lost_table(const RoundTrip& result, std::size_t most) {
  std::vector<const TensorDiff*> lost;
  for (std::size_t i = 0; i < result.tensors.size(); ++i) {
    if (!result.tensors[i].values) lost.push_back(&result.diff.tensors[i]);
  }
  if (lost.empty()) return "";
  std::ranges::stable_sort(lost, [](const TensorDiff* a, const TensorDiff* b) {
    return a->measured.relative_error() > b->measured.relative_error();
  });
  TextTable table({Align::left, Align::right, Align::right, Align::right, Align::right});
  table.add({"values lost", "differ", "of", "rel error", "max |d|"});
  for (std::size_t i = 0; i < std::min(most, lost.size()); ++i)
    table.add({cell(lost[i]->name), format_count(lost[i]->measured.different), format_count(lost[i]->measured.elements),
               number(lost[i]->measured.relative_error()), number(lost[i]->measured.worst)});
  std::string out = fmt::format("\n{}", table.text());
  if (lost.size() > most) out += fmt::format("and {} more; --all shows them\n", lost.size() - most);
  return out;
}

std::string names_lines(std::string_view title, const std::vector<std::string>& names, std::size_t most) {
  if (names.empty()) return "";
  std::string out = fmt::format("{}: {}\n", title, counted(names.size(), "tensor"));
  for (std::size_t i = 0; i < std::min(most, names.size()); ++i) out += fmt::format("  {}\n", cell(names[i]));
  return out + (names.size() > most ? fmt::format("  and {} more; --all shows them\n", names.size() - most) : "");
}

std::vector<std::string> names_of(const std::vector<Alone>& list) {
  std::vector<std::string> names;
  for (const Alone& one : list) names.push_back(one.name);
  return names;
}

std::string structure_lines(const RoundTrip& result, std::size_t most) {
  std::vector<std::string> reshaped;
  for (const Reshaped& one : result.diff.reshaped) reshaped.push_back(one.name);
  std::vector<std::string> renamed;
  for (const auto& [first, second] : result.diff.renamed) renamed.push_back(first + " -> " + second);
  std::string out = names_lines("did not come back", names_of(result.diff.only_first), most) +
                    names_lines("left out as told", result.left_out, most) +
                    names_lines("was not there before", names_of(result.diff.only_second), most) +
                    names_lines("came back in another shape", reshaped, most) +
                    names_lines("came back under another name", renamed, most);
  for (const std::string& line : result.diff.unread) out += "not compared: " + cell(line) + "\n";
  const auto keys = static_cast<std::size_t>(std::ranges::count_if(result.diff.keys, &KeyDiff::counted));
  if (keys != 0)
    out += fmt::format("not of weights: {} of metadata and configuration {}; `regauge diff` names them\n",
                       counted(keys, "key"), keys == 1 ? "differs" : "differ");
  return out;
}

std::string verdict(const RoundTrip& result) {
  const Survival& whole = result.whole;
  if (!result.survived()) {
    if (whole.lost() == 0) return "values survived, but not everything is as it was\n";
    return fmt::format("lost: {} of {}\n", format_count(whole.lost()), counted(whole.tensors, "tensor"));
  }
  return whole.bytes == whole.tensors ? "survived: every stored byte\n" : "survived: every value\n";
}

Json survival_json(const Survival& survival) {
  Json json;
  json["tensors"] = survival.tensors;
  json["bytes"] = survival.bytes;
  json["coded"] = survival.coded;
  json["codes"] = survival.codes;
  json["values"] = survival.values;
  json["missing"] = survival.missing;
  json["lost"] = survival.lost();
  return json;
}

Json names_json(const std::vector<std::string>& names) {
  Json list = Json::array();
  for (const std::string& name : names) list.push_back(json_text(name));
  return list;
}

}  // namespace

void Survival::add(const Returned& one) {
  ++tensors;
  bytes += one.bytes ? 1 : 0;
  coded += one.codes ? 1 : 0;
  codes += one.codes.value_or(false) ? 1 : 0;
  values += one.values ? 1 : 0;
}

bool RoundTrip::survived() const {
  return whole.lost() == 0 && diff.only_second.empty() && diff.unread.empty() && whole.tensors != 0;
}

RoundTrip compare_round_trip(std::span<const OpenedPath> source, std::span<const OpenedPath> returned,
                             const RoundTripOptions& options, const std::atomic<bool>* cancel) {
  RoundTrip result;
  result.diff =
      diff(source, returned, {.only = "", .keys = true, .decode_all = false, .threads = options.threads}, {}, cancel);
  const EffectiveModel before = effective_model(source);
  const EffectiveModel after = effective_model(returned);
  const auto first = by_name(before);
  const auto second = by_name(after);
  result.tensors.resize(result.diff.tensors.size());
  Workers workers(options.threads);
  std::vector<Buffers> buffers(static_cast<std::size_t>(workers.count()));
  workers.for_each(result.tensors.size(), [&](std::size_t i, std::size_t worker) {
    const std::string& name = result.diff.tensors[i].name;
    result.tensors[i] = returned_of(result.diff.tensors[i], *first.at(name), *second.at(name), buffers[worker], cancel);
  });
  sum_up(result, options.left_out);
  return result;
}

std::string render_round_trip(const RoundTrip& result, const std::string& source, std::span<const std::string> way,
                              std::size_t most) {
  std::string out = fmt::format("{}: {}\n\n", printable(source), joined(way));
  TextTable table({Align::left, Align::right, Align::right, Align::right, Align::right, Align::right});
  table.add({"component", "tensors", "bytes", "codes", "values", "lost"});
  for (const auto& [component, survival] : result.components)
    table.add(survival_cells(std::string(name(component)), survival));
  table.add(survival_cells("model", result.whole));
  return out + table.text() + lost_table(result, most) + "\n" + structure_lines(result, most) + verdict(result);
}

Json round_trip_to_json(const RoundTrip& result, const std::string& source, std::span<const std::string> way) {
  Json json;
  json["schema"] = "regauge.round_trip/1";
  json["source"] = json_text(source);
  json["way"] = Json::array();
  for (const std::string& format : way) json["way"].push_back(format);
  json["survived"] = result.survived();
  json["model"] = survival_json(result.whole);
  json["components"] = Json::array();
  for (const auto& [component, survival] : result.components) {
    Json one;
    one["component"] = name(component);
    one.update(survival_json(survival));
    json["components"].push_back(std::move(one));
  }
  json["tensors"] = Json::array();
  for (std::size_t i = 0; i < result.tensors.size(); ++i) {
    const TensorDiff& diff = result.diff.tensors[i];
    Json one;
    one["tensor"] = json_text(diff.name);
    one["component"] = name(diff.component);
    one["bytes"] = result.tensors[i].bytes;
    one["codes"] = result.tensors[i].codes ? Json(*result.tensors[i].codes) : Json(nullptr);
    one["values"] = result.tensors[i].values;
    one["elements"] = diff.measured.elements;
    one["different"] = diff.measured.different;
    const double error = diff.measured.worst;
    one["max_error"] = std::isfinite(error) ? Json(error) : Json(nullptr);
    json["tensors"].push_back(std::move(one));
  }
  std::vector<std::string> missing = names_of(result.diff.only_first);
  for (const Reshaped& one : result.diff.reshaped) missing.push_back(one.name);
  for (const auto& [before, after] : result.diff.renamed) missing.push_back(before);
  json["missing"] = names_json(missing);
  json["left_out"] = names_json(result.left_out);
  json["added"] = names_json(names_of(result.diff.only_second));
  json["keys"] = std::ranges::count_if(result.diff.keys, &KeyDiff::counted);
  return json;
}

}  // namespace regauge
