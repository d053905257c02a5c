#include "convert/render_loss.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <tuple>
#include <vector>

#include <fmt/format.h>

#include "base/render.h"
#include "base/text.h"

namespace regauge {
namespace {

bool is_lossy(Fidelity fidelity) { return fidelity == Fidelity::rounded || fidelity == Fidelity::requantized; }

/// Six digits are what no order of adding changes.
Json figure(double value) {
  if (!std::isfinite(value)) return {};
  const std::string text = fmt::format("{:.6g}", value);
  double rounded = 0;
  std::from_chars(text.data(), text.data() + text.size(), rounded);
  return rounded;
}

std::string decibels(double value) { return std::isfinite(value) ? fmt::format("{:.1f}", value) : "-"; }

std::string in_steps(const Loss& loss) { return loss.worst_steps > 0 ? fmt::format("{:.3g}", loss.worst_steps) : "-"; }

std::vector<std::string> cells(const Loss& loss) {
  const bool summed = loss.measured != 0;
  return {fmt::format("{:.3g}", loss.worst), summed ? fmt::format("{:.3g}", loss.rmse()) : "-",
          summed ? fmt::format("{:.3g}", loss.relative_error()) : "-", summed ? decibels(loss.signal_to_noise()) : "-",
          in_steps(loss)};
}

}  // namespace

double bits_per_weight(const PlannedOutput& output) {
  double elements = 0;
  for (const Step& step : output.steps) elements += static_cast<double>(step.shape.elements());
  return elements == 0 ? 0 : 8.0 * static_cast<double>(output.data_bytes()) / elements;
}

std::string render_lossy_plan(const Plan& plan) {
  std::string out;
  for (const PlannedOutput& output : plan.outputs) {
    std::map<std::tuple<Fidelity, std::string, std::string, std::string>, std::size_t> groups;
    for (const Step& step : output.steps) {
      if (is_lossy(step.fidelity)) ++groups[{step.fidelity, step.source_encoding, step.encoding, step.reason}];
    }
    const bool requantizes = std::ranges::any_of(
        groups, [](const auto& group) { return std::get<Fidelity>(group.first) == Fidelity::requantized; });
    if (!requantizes) continue;
    out += fmt::format("{}: {}, {:.3f} bits per weight; what loses:\n", name(output.kind),
                       format_bytes(output.data_bytes()), bits_per_weight(output));
    TextTable table({TextTable::Align::right});
    for (const auto& [group, count] : groups) {
      const auto& [fidelity, from, to, reason] = group;
      table.add({format_count(count), fmt::format("{} -> {}", from, to), std::string(name(fidelity)), reason});
    }
    out += table.text(2);
  }
  return out;
}

std::string render_losses(const PlannedOutput& output, const OutputResult& result) {
  constexpr std::size_t kMostListed = 5;
  std::map<Component, std::pair<std::size_t, Loss>> components;
  std::vector<std::size_t> lossy;
  for (std::size_t s = 0; s < output.steps.size(); ++s) {
    if (!is_lossy(result.steps[s].fidelity)) continue;
    auto& [count, loss] = components[output.steps[s].component];
    ++count;
    loss.merge(result.steps[s].loss);
    lossy.push_back(s);
  }
  if (lossy.empty()) return "";
  using enum TextTable::Align;
  TextTable table({left, right, right, right, right, right, right, right});
  table.add({"component", "tensors", "changed", "max", "RMSE", "relative", "SNR dB", "steps"});
  for (const auto& [component, entry] : components) {
    std::vector<std::string> row{std::string(name(component)), format_count(entry.first),
                                 format_count(entry.second.changed)};
    for (std::string& cell : cells(entry.second)) row.push_back(std::move(cell));
    table.add(std::move(row));
  }
  std::string out = table.text(2);
  const auto badness = [&](std::size_t s) {
    const Loss& loss = result.steps[s].loss;
    return loss.measured != 0 ? loss.relative_error() : loss.worst;
  };
  std::ranges::stable_sort(lossy, [&](std::size_t a, std::size_t b) { return badness(a) > badness(b); });
  for (std::size_t i = 0; i < std::min(lossy.size(), kMostListed); ++i) {
    const Loss& loss = result.steps[lossy[i]].loss;
    const std::string relative =
        loss.measured != 0 ? fmt::format(", relative {:.3g}", loss.relative_error()) : std::string();
    const std::string steps =
        loss.worst_steps > 0 ? fmt::format(", {:.3g} of a quantization step", loss.worst_steps) : std::string();
    out += fmt::format("  {}: {} elements of {}, worst error {:.3g}{}{}\n", name(result.steps[lossy[i]].fidelity),
                       format_count(loss.changed), printable(output.steps[lossy[i]].name), loss.worst, relative, steps);
  }
  if (lossy.size() > kMostListed)
    out += fmt::format("  and {} more, which --json lists\n", format_count(lossy.size() - kMostListed));
  return out;
}

Json loss_to_json(const Loss& loss) {
  const bool summed = loss.measured != 0;
  return {{"changed", loss.changed},
          {"worst_error", std::isfinite(loss.worst) ? Json(loss.worst) : Json()},
          {"worst_error_in_steps",
           loss.worst_steps > 0 && std::isfinite(loss.worst_steps) ? Json(loss.worst_steps) : Json()},
          {"rmse", summed ? figure(loss.rmse()) : Json()},
          {"relative_error", summed ? figure(loss.relative_error()) : Json()},
          {"snr_db", summed ? figure(loss.signal_to_noise()) : Json()},
          {"irreversible", loss.irreversible}};
}

}  // namespace regauge
