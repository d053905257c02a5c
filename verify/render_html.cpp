#include "verify/render_html.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "base/text.h"
#include "inspect/html.h"
#include "inspect/wording.h"
#include "verify/fidelity_map.h"
#include "verify/render_diff.h"

namespace regauge {
namespace {

using inspect::counted;
using inspect::html_text;

/// A browser sorts so many rows at once without a pause; experts make tens of thousands.
constexpr std::size_t kMostRows = 2000;

std::string number(double value) {
  if (std::isinf(value)) return value > 0 ? "&infin;" : "&minus;&infin;";
  return value == 0 ? "0" : fmt::format("{:.3g}", value);
}

std::string bits_text(double bits) { return fmt::format("{:.{}f}", bits, bits < 10 ? 1 : 0); }

std::string percent(double share) {
  if (share == 0) return "0";
  if (std::isinf(share)) return "&infin;";
  if (share < 0.001) {
    const int exponent = static_cast<int>(std::floor(std::log10(share)));
    return fmt::format("{:.0f}e{}", share / std::pow(10.0, exponent), exponent);
  }
  return fmt::format("{:.{}f}%", share * 100, share < 0.0995 ? 1 : 0);
}

/// Shades of the precision map, by stored bits for each weight; widths of the legend's ranges.
struct BitShade {
  double below;
  std::string_view name;
  std::string_view range;
};
constexpr std::array<BitShade, 10> kBitShades{{{2.5, "b1", "below 2.5"},
                                               {3, "b2", "2.5 to 3"},
                                               {4, "b3", "3 to 4"},
                                               {4.75, "b4", "4 to 4.75"},
                                               {5.75, "b5", "4.75 to 5.75"},
                                               {7, "b6", "5.75 to 7"},
                                               {8, "b7", "7 to 8"},
                                               {12, "b8", "8 to 12"},
                                               {24, "b16", "12 to 24"},
                                               {1e9, "b32", "24 and more"}}};

struct ErrorShade {
  double up_to;
  std::string_view name;
  std::string_view range;
};
constexpr std::array<ErrorShade, 9> kErrorShades{{{0, "e0", "exact"},
                                                  {1e-5, "e1", "to 0.001%"},
                                                  {1e-3, "e2", "to 0.1%"},
                                                  {1e-2, "e3", "to 1%"},
                                                  {3e-2, "e4", "to 3%"},
                                                  {6e-2, "e5", "to 6%"},
                                                  {1e-1, "e6", "to 10%"},
                                                  {2e-1, "e7", "to 20%"},
                                                  {1e300, "e8", "more"}}};

std::string_view shade_of_bits(double bits) {
  return std::ranges::find_if(kBitShades, [&](const BitShade& shade) { return bits < shade.below; })->name;
}

std::string_view shade_of_error(double error) {
  const auto found = std::ranges::find_if(kErrorShades, [&](const ErrorShade& shade) { return error <= shade.up_to; });
  return found == kErrorShades.end() ? "e8" : found->name;
}

/// A cell of a sortable table: what is shown, and the number that it is sorted by.
std::string td(const std::string& shown, double value) {
  const std::string by = std::isinf(value) ? (value > 0 ? "Infinity" : "-Infinity") : fmt::format("{:.9g}", value);
  return fmt::format("<td data-v=\"{}\">{}</td>", by, shown);
}

std::string td_absent() { return "<td data-v=\"\" class=\"soft\">&ndash;</td>"; }

std::string heading(std::string_view title, bool left = false) {
  return fmt::format("<th scope=\"col\"{}><button type=\"button\">{}</button></th>", left ? " class=\"l\"" : "", title);
}

constexpr std::string_view kMetricHeads[] = {"values", "exact",     "max |&Delta;|", "max steps", "rms steps",
                                             "rmse",   "rel error", "SNR dB",        "cosine"};

std::string metric_heads() {
  std::string out;
  for (const std::string_view title : kMetricHeads) out += heading(title);
  return out;
}

std::string metric_cells(const Measured& measured) {
  const double exact =
      measured.elements == 0 ? 1 : 1 - static_cast<double>(measured.different) / static_cast<double>(measured.elements);
  const std::string share = measured.different == 0 ? "100%" : fmt::format("{:.2f}%", std::min(exact * 100, 99.99));
  std::string out = td(format_count(measured.elements), static_cast<double>(measured.elements));
  out += td(share, measured.different == 0 ? 2 : exact);
  out += td(number(measured.worst), measured.worst);
  out += measured.stepped == 0 ? td_absent() : td(fmt::format("{:.2f}", measured.worst_steps), measured.worst_steps);
  out += measured.stepped == 0 ? td_absent() : td(fmt::format("{:.3f}", measured.rms_steps()), measured.rms_steps());
  out += td(number(measured.rmse()), measured.rmse());
  out += td(number(measured.relative_error()), measured.relative_error());
  const double snr = measured.signal_to_noise();
  out += td(std::isinf(snr) && snr > 0 ? "exact" : std::isinf(snr) ? number(snr) : fmt::format("{:.2f}", snr), snr);
  return out + td(fmt::format("{:.6f}", measured.cosine()), measured.cosine());
}

std::string row(const std::string& title, const Measured& measured) {
  return fmt::format("<tr><td class=\"l\">{}</td>{}</tr>\n", title, metric_cells(measured));
}

std::string components_section(const Faithfulness& result) {
  std::string out = "<h2>Components</h2>\n<div class=\"scroll\"><table class=\"sortable\"><thead><tr>";
  out += heading("component", true) + metric_heads() + "</tr></thead>\n<tbody>\n";
  for (const auto& [component, measured] : result.components) out += row(std::string(name(component)), measured);
  out += "</tbody>\n<tfoot>\n";
  if (result.roots.size() > 1) {
    for (const auto& [root, measured] : result.roots) out += row("all of " + root, measured);
  }
  return out + row("model", result.whole) + "</tfoot></table></div>\n";
}

/// What is shown of a cell that one side alone has, or both in different sizes; nothing of the others.
std::string gone_text(const FidelityCell& cell) {
  if (cell.only_second != 0) return fmt::format("not in the candidate: {}", counted(cell.only_second, "tensor"));
  if (cell.only_first != 0) return fmt::format("not in the reference: {}", counted(cell.only_first, "tensor"));
  return cell.reshaped == 0 ? "" : fmt::format("of another shape: {}", counted(cell.reshaped, "tensor"));
}

std::string gone_cell(const FidelityCell& cell, const std::string& where) {
  const std::string_view mark = cell.only_second != 0 ? "&minus;" : cell.only_first != 0 ? "+" : "&ne;";
  return fmt::format("<td class=\"gone\" title=\"{}: {}\">{}</td>", where, gone_text(cell), mark);
}

std::string precision_cell(const FidelityCell& cell, const std::string& where) {
  if (cell.tensors == 0) return gone_cell(cell, where);
  const double bits = cell.parameters == 0 ? 0 : cell.first_bits / cell.parameters;
  const double other = cell.parameters == 0 ? 0 : cell.second_bits / cell.parameters;
  const std::string gone = gone_text(cell);
  return fmt::format("<td class=\"{}\" title=\"{}: {}, {:.3f} bits; reference {}, {:.3f} bits{}{}\">{}{}</td>",
                     shade_of_bits(bits), where, html_text(cell.first_encoding), bits, html_text(cell.second_encoding),
                     other, gone.empty() ? "" : "; ", gone, bits_text(bits), gone.empty() ? "" : "*");
}

std::string error_cell(const FidelityCell& cell, const std::string& where) {
  if (cell.tensors == 0) return gone_cell(cell, where);
  const Measured& measured = cell.measured;
  const double error = measured.relative_error();
  const double snr = measured.signal_to_noise();
  const std::string noise = std::isinf(snr) ? "" : fmt::format(", {:.2f} dB", snr);
  const std::string steps = measured.stepped == 0 ? "" : fmt::format(", at most {:.2f} steps", measured.worst_steps);
  return fmt::format("<td class=\"{}\" title=\"{}: relative error {}{}, max |&Delta;| {}{}, {} of {} differ\">{}</td>",
                     shade_of_error(error), where, number(error), noise, number(measured.worst), steps,
                     format_count(measured.different), format_count(measured.elements), percent(error));
}

using CellText = std::function<std::string(const FidelityCell&, const std::string& where)>;

std::string where_text(const FidelityTower& tower, const FidelityKind& kind, int block) {
  return tower.numbered ? fmt::format("{} {}, {}", tower.name, block, html_text(kind.label)) : html_text(kind.label);
}

/// The components that the columns are of.
std::string group_heads(const FidelityTower& tower) {
  std::string out;
  for (std::size_t k = 0; k < tower.kinds.size();) {
    std::size_t end = k;
    while (end < tower.kinds.size() && tower.kinds[end].component == tower.kinds[k].component) ++end;
    out += fmt::format("<th scope=\"colgroup\" class=\"group\" colspan=\"{}\">{}</th>", end - k,
                       name(tower.kinds[k].component));
    k = end;
  }
  return out;
}

/// Blocks down, kinds across.
std::string block_map(const FidelityTower& tower, const CellText& text) {
  std::string out = "<table class=\"map\"><thead><tr><td class=\"void\"></td>" + group_heads(tower) +
                    "</tr>\n<tr><td class=\"void\"></td>";
  for (const FidelityKind& kind : tower.kinds)
    out += fmt::format("<th scope=\"col\" title=\"{0}: {1}\"><span>{1}</span></th>", name(kind.component),
                       html_text(kind.label));
  out += "</tr></thead>\n<tbody>\n";
  for (const auto& [block, cells] : tower.blocks) {
    out += fmt::format("<tr><th scope=\"row\">{}</th>", block);
    for (std::size_t k = 0; k < tower.kinds.size(); ++k) {
      const auto found = cells.find(k);
      out += found == cells.end() ? "<td></td>" : text(found->second, where_text(tower, tower.kinds[k], block));
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table>\n";
}

/// Kinds down: names outside of blocks are long and there is one of each.
std::string list_map(const FidelityTower& tower, const CellText& text) {
  std::string out = "<table class=\"map\"><tbody>\n";
  const auto& cells = tower.blocks.begin()->second;
  for (std::size_t k = 0; k < tower.kinds.size(); ++k) {
    const auto found = cells.find(k);
    if (found == cells.end()) continue;
    out += fmt::format("<tr><th scope=\"row\" class=\"name\" title=\"{0}\">{0}</th>{1}</tr>\n",
                       html_text(tower.kinds[k].label), text(found->second, where_text(tower, tower.kinds[k], 0)));
  }
  return out + "</tbody></table>\n";
}

std::string legend_entry(std::string_view shade, std::string_view text) {
  return fmt::format("<span><i class=\"{}\"></i>{}</span>", shade, text);
}

std::string legends(bool any_gone) {
  std::string bits = "<div class=\"legend\"><b>bits a weight</b>";
  for (const BitShade& shade : kBitShades) bits += legend_entry(shade.name, shade.range);
  std::string errors = "<div class=\"legend\"><b>relative error</b>";
  for (const ErrorShade& shade : kErrorShades) errors += legend_entry(shade.name, shade.range);
  std::string gone;
  if (any_gone)
    gone = "<div class=\"legend\">" +
           legend_entry("gone", "&minus; not in the candidate, + not in the reference, &ne; of another shape") +
           "</div>\n";
  return bits + "</div>\n" + errors + "</div>\n" + gone;
}

std::string maps_section(const Faithfulness& result) {
  const std::vector<FidelityTower> towers = make_fidelity_map(result.diff);
  const Diff& diff = result.diff;
  std::string out = "<h2>Precision and error by block and kind of weight</h2>\n";
  out += legends(!diff.only_first.empty() || !diff.only_second.empty() || !diff.reshaped.empty());
  for (const FidelityTower& tower : towers) {
    const auto draw = tower.numbered ? block_map : list_map;
    const std::string title =
        tower.numbered ? fmt::format("{}, {}", tower.name, counted(tower.blocks.size(), "block")) : tower.name;
    out += fmt::format(
        "<div class=\"maps\">\n<section><h3>{0}: bits of the candidate</h3>\n{1}</section>\n"
        "<section><h3>{0}: relative error</h3>\n{2}</section>\n</div>\n",
        title, draw(tower, precision_cell), draw(tower, error_cell));
  }
  return out;
}

/// Bins that hold anything in the whole model, so that all plots have one axis.
struct Axis {
  std::size_t first = 0;
  std::size_t last = 0;  ///< one behind
};

Axis axis_of(const ErrorHistogram& histogram) {
  Axis axis{ErrorHistogram::kBins, 0};
  for (std::size_t bin = 0; bin < ErrorHistogram::kBins; ++bin) {
    if (histogram.counts[bin] == 0) continue;
    axis.first = std::min(axis.first, bin);
    axis.last = bin + 1;
  }
  return axis;
}

std::string superscript(int exponent) { return fmt::format("2<tspan dy=\"-4\" font-size=\"8\">{}</tspan>", exponent); }

std::string plot(const std::string& title, const Measured& measured, const Axis& axis) {
  constexpr int kBar = 14;
  constexpr int kHeight = 90;
  const auto bins = static_cast<int>(axis.last - axis.first);
  std::uint64_t most = 1;
  for (std::size_t bin = axis.first; bin < axis.last; ++bin) most = std::max(most, measured.errors.counts[bin]);
  const int width = bins * kBar + 20;
  std::string out = fmt::format("<figure><svg width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" role=\"img\">",
                                width, kHeight + 24);
  for (int i = 0; i < bins; ++i) {
    const std::size_t bin = axis.first + static_cast<std::size_t>(i);
    const std::uint64_t count = measured.errors.counts[bin];
    const int exponent = ErrorHistogram::kLowest + static_cast<int>(bin);
    const double height = kHeight * static_cast<double>(count) / static_cast<double>(most);
    if (count != 0)
      out += fmt::format(
          "<rect class=\"bar\" x=\"{}\" y=\"{:.2f}\" width=\"{}\" height=\"{:.2f}\"><title>|&Delta;| from 2^{} to "
          "2^{}: {} values, {:.3g}%</title></rect>",
          i * kBar + 8, kHeight - std::max(height, 1.0), kBar - 2, std::max(height, 1.0), exponent, exponent + 1,
          format_count(count), 100 * static_cast<double>(count) / static_cast<double>(measured.elements));
    if (exponent % 4 == 0)
      out += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>", i * kBar + 7, kHeight + 16,
                         superscript(exponent));
  }
  out += fmt::format("<line class=\"axis\" x1=\"4\" y1=\"{0}\" x2=\"{1}\" y2=\"{0}\"/></svg>", kHeight, width - 4);
  const std::uint64_t equal = measured.elements - measured.different;
  out += fmt::format("<figcaption><b>{}</b>: {} of {} values differ, {} are equal", title,
                     format_count(measured.different), format_count(measured.elements), format_count(equal));
  if (measured.unmatched != 0) out += fmt::format(", {} not finite on one side", format_count(measured.unmatched));
  return out + "</figcaption></figure>\n";
}

std::string histogram_section(const Faithfulness& result) {
  const Axis axis = axis_of(result.whole.errors);
  std::string out = "<h2>How large errors are</h2>\n";
  if (axis.last == 0) return out + "<p class=\"soft\">No value differs by a finite amount.</p>\n";
  out += "<p class=\"soft\">Values that differ, by |&Delta;| in powers of two; each plot has its own height.</p>\n";
  out += "<div class=\"plots\">\n" + plot("model", result.whole, axis);
  for (const auto& [component, measured] : result.components) {
    if (result.components.size() > 1 && measured.different != measured.unmatched)
      out += plot(std::string(name(component)), measured, axis);
  }
  return out + "</div>\n";
}

std::string tensor_row(const TensorDiff& one) {
  const Measured& measured = one.measured;
  std::string out =
      fmt::format("<tr><td class=\"l name\">{}</td><td class=\"l\">{}</td>", html_text(one.name), name(one.component));
  out += fmt::format("<td class=\"l\">{}</td>", html_text(one.first_encoding)) +
         td(fmt::format("{:.2f}", one.first_bits), one.first_bits) + metric_cells(measured);
  if (measured.different == 0) return out + td_absent() + td_absent() + td_absent() + "</tr>\n";
  out += td(position(one.shape, measured.worst_at), static_cast<double>(measured.worst_at));
  out += td(html_text(fmt::format("{:.6g}", measured.worst_first)), measured.worst_first);
  return out + td(html_text(fmt::format("{:.6g}", measured.worst_second)), measured.worst_second) + "</tr>\n";
}

std::string tensors_section(const Faithfulness& result) {
  const auto worst = worst_first(result.diff);
  std::string out = "<h2>Worst tensors</h2>\n";
  const std::size_t exact = result.diff.tensors.size() - worst.size();
  const std::size_t shown = std::min(worst.size(), kMostRows);
  out += fmt::format("<p class=\"soft\">{} differ{}, {} equal.</p>\n", counted(worst.size(), "tensor"),
                     shown < worst.size() ? fmt::format(" (the {} worst are listed)", format_count(shown)) : "",
                     exact == 1 ? "1 is" : fmt::format("{} are", format_count(exact)));
  if (worst.empty()) return out;
  out += "<div class=\"scroll\"><table class=\"sortable\"><thead><tr>" + heading("tensor", true) +
         heading("component", true) + heading("candidate", true) + heading("bits") + metric_heads() +
         heading("furthest off at") + heading("candidate&rsquo;s") + heading("reference&rsquo;s") +
         "</tr></thead>\n<tbody>\n";
  for (std::size_t i = 0; i < shown; ++i) out += tensor_row(*worst[i]);
  return out + "</tbody></table></div>\n";
}

std::string names_block(const std::string& title, const std::vector<std::string>& names) {
  if (names.empty()) return "";
  std::string out = fmt::format("<details><summary><span class=\"bad\">{}</span>: {}</summary><ul class=\"plain\">\n",
                                title, counted(names.size(), "tensor"));
  const std::size_t shown = std::min(names.size(), kMostRows);
  for (std::size_t i = 0; i < shown; ++i) out += fmt::format("<li><code>{}</code></li>\n", html_text(names[i]));
  if (shown < names.size()) out += fmt::format("<li>and {} more</li>\n", format_count(names.size() - shown));
  return out + "</ul></details>\n";
}

std::string structure_section(const Faithfulness& result) {
  const auto names_of = [](const auto& list) {
    std::vector<std::string> names;
    for (const auto& one : list) names.push_back(one.name);
    return names;
  };
  std::vector<std::string> renamed;
  for (const auto& [first, second] : result.diff.renamed) renamed.push_back(second + " is " + first);
  return names_block("Of the reference and not in the candidate", names_of(result.diff.only_second)) +
         names_block("In the candidate and not of the reference", names_of(result.diff.only_first)) +
         names_block("Of another shape", names_of(result.diff.reshaped)) + names_block("Renamed", renamed) +
         names_block("Could not be measured", result.diff.unread);
}

std::string gates_list(const Faithfulness& result) {
  if (result.broken.empty() && result.idle.empty()) return "";
  std::string out = "<ul class=\"plain\">\n";
  for (const BrokenGate& one : result.broken)
    out +=
        fmt::format("<li><span class=\"bad\">broken</span>: {} {} by <code>{}</code>, which has {}</li>\n",
                    one.gate.bound == Gate::Bound::max_relative_error ? "relative error of at most" : "SNR of at least",
                    number(one.gate.limit), html_text(one.where), number(one.measured));
  for (const std::string& scope : result.idle)
    out += fmt::format("<li><span class=\"bad\">guards nothing</span>: a gate for {}</li>\n", html_text(scope));
  return out + "</ul>\n";
}

}  // namespace

std::string render_faithfulness_html(const Faithfulness& result, const std::string& candidate,
                                     const std::string& reference) {
  const Measured& whole = result.whole;
  std::string body = "<h1>How faithful is it?</h1>\n<dl class=\"facts\">\n";
  const auto fact = [&body](std::string_view title, const std::string& markup) {
    body += fmt::format("<dt>{}</dt><dd>{}</dd>\n", title, markup);
  };
  fact("candidate", "<code>" + html_text(candidate) + "</code>");
  fact("reference", "<code>" + html_text(reference) + "</code>");
  fact("verdict",
       result.passed() ? "<span class=\"verdict good\">passed</span>" : "<span class=\"verdict bad\">failed</span>");
  fact("in both", fmt::format("{}, {} values, {} of them differ", counted(result.diff.tensors.size(), "tensor"),
                              format_count(whole.elements), format_count(whole.different)));
  fact("relative error", number(whole.relative_error()));
  body += "</dl>\n" + gates_list(result) + structure_section(result) + components_section(result) +
          maps_section(result) + histogram_section(result) + tensors_section(result);
  return inspect::html_page("regauge verify: " + candidate, body);
}

}  // namespace regauge
