#include "convert/stored_digests.h"

#include <algorithm>

namespace regauge {
namespace {

/// Whether bands, as they come, are the bytes of the output's arrays from the first to the last.
bool comes_in_order(const PlannedOutput& output) {
  return std::ranges::all_of(output.steps, [](const Step& step) {
    return step.arrays.size() == 1 && step.arrays.front().layout == BandLayout::rows;
  });
}

}  // namespace

DigestingOutputs::DigestingOutputs(const Plan& plan) : plan_(plan) {
  for (const PlannedOutput& output : plan.outputs) {
    auto& running = outputs_.emplace_back();
    if (comes_in_order(output)) running.emplace();
  }
}

void DigestingOutputs::add(const Band& band, BandBuffers made) {
  std::optional<Running>& running = outputs_[band.output];
  if (!running) return;
  // Tensors without elements have no bands.
  if (band.rows.begin == 0) running->array = Xxh3_128();
  running->together.update(made.front());
  running->array.update(made.front());
  if (band.rows.end != plan_.outputs[band.output].targets[band.step].rows) return;
  running->finished.emplace_back(plan_.outputs[band.output].steps[band.step].arrays.front().plan.name,
                                 running->array.value());
}

std::optional<StoredDigests> DigestingOutputs::of(std::size_t output) const {
  const std::optional<Running>& running = outputs_[output];
  if (!running) return std::nullopt;
  StoredDigests digests{{}, running->together.value()};
  auto next = running->finished.begin();
  for (const Step& step : plan_.outputs[output].steps) {
    const std::string& name = step.arrays.front().plan.name;
    if (next != running->finished.end() && next->first == name) {
      digests.arrays.push_back(*next++);
    } else {
      digests.arrays.emplace_back(name, Xxh3_128().value());
    }
  }
  return digests;
}

}  // namespace regauge
