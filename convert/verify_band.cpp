#include "convert/verify_band.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "convert/route/reencode_dense.h"
#include "ir/decode/grouped.h"

namespace regauge {
namespace {

bool has_values(const Encoding& encoding) {
  const auto* grouped = std::get_if<Grouped>(&encoding);
  return is_decodable(encoding) && (grouped == nullptr || !why_not_decodable(*grouped));
}

bool has_values(const Target& target) {
  return std::ranges::all_of(target.pieces, [](const TargetPiece& p) { return has_values(p.tensor->encoding); });
}

bool keeps_promise(float found, float expected, double worst) {
  if (found == expected || (std::isnan(found) && std::isnan(expected))) return true;
  // Of a NaN on one side only the difference is NaN and compares false.
  return std::abs(static_cast<double>(found) - static_cast<double>(expected)) <= worst;
}

}  // namespace

BandVerifier::BandVerifier(const Plan& plan) : plan_(plan) {
  for (const PlannedOutput& output : plan.outputs) {
    auto& makers = reference_.emplace_back();
    for (const Target& target : output.targets) {
      makers.push_back(has_values(target) ? make_dense(target, DType::f32) : nullptr);
    }
  }
}

void BandVerifier::read_back(const Band& band, const Writer& writer, std::size_t first_array, StoredBuffers made,
                             CheckBuffers& buffers) const {
  const PlannedOutput& output = plan_.outputs[band.output];
  const Step& step = output.steps[band.step];
  buffers.stored.resize(std::max(buffers.stored.size(), made.size()));
  for (std::size_t a = 0; a < made.size(); ++a) {
    refit(buffers.stored[a], made[a].size());
    const Strip strip = strip_of(step.arrays[a], band.rows, output.targets[band.step].rows);
    read_strips(writer, first_array + a, strip, 0, buffers.stored[a]);
    const auto differs = std::ranges::mismatch(buffers.stored[a], made[a]);
    if (differs.in1 == buffers.stored[a].end()) continue;
    throw Error(ErrorCode::internal,
                "rows [{}, {}) of '{}' read back differently from what was written, at byte {} of them",
                band.rows.begin, band.rows.end, step.arrays[a].plan.name, differs.in1 - buffers.stored[a].begin());
  }
}

void BandVerifier::check(const Band& band, const Writer& writer, std::size_t first_array, StoredBuffers made,
                         const Loss& loss, Scratch& scratch, CheckBuffers& buffers) const {
  read_back(band, writer, first_array, made, buffers);
  const RowMaker* reference = reference_[band.output][band.step].get();
  if (reference == nullptr) return;
  const Target& target = plan_.outputs[band.output].targets[band.step];
  const Step& step = plan_.outputs[band.output].steps[band.step];
  const auto count = static_cast<std::size_t>(band.rows.size()) * static_cast<std::size_t>(target.columns);
  refit(buffers.found, count);
  refit(buffers.expected, count);
  const std::vector<std::span<const std::byte>> stored(
      buffers.stored.begin(), buffers.stored.begin() + static_cast<std::ptrdiff_t>(made.size()));
  step.maker->decode(band.rows, stored, scratch, buffers.found);
  Loss conventions;  // what the convention costs is in the step's own loss already
  const std::span<std::byte> bytes = std::as_writable_bytes(std::span(buffers.expected));
  reference->make(band.rows, std::span(&bytes, 1), scratch, conventions);
  const double worst = step.fidelity <= Fidelity::values ? 0.0 : loss.worst;
  for (std::size_t i = 0; i < count; ++i) {
    if (keeps_promise(buffers.found[i], buffers.expected[i], worst)) continue;
    throw Error(ErrorCode::internal, "row {}, column {}: the value written is {}, the source's is {}; promised was {}",
                band.rows.begin + static_cast<std::int64_t>(i) / target.columns,
                static_cast<std::int64_t>(i) % target.columns, buffers.found[i], buffers.expected[i],
                step.fidelity <= Fidelity::values ? std::string(name(step.fidelity))
                                                  : fmt::format("{} by at most {}", name(step.fidelity), worst));
  }
}

}  // namespace regauge
