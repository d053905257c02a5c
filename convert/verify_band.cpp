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

bool one_change(const Target& target) {
  const Elementwise first = target.pieces.front().view.elementwise;
  return std::ranges::all_of(target.pieces, [&](const TargetPiece& p) { return p.view.elementwise == first; });
}

bool same_value(float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); }

/// What turns the source's values into the target's, and what turns them back.
struct Change {
  explicit Change(Elementwise op)
      : there(op),
        back(inverse(View{.rows = {}, .columns = {}, .elementwise = op})->elementwise),
        undoes(op == Elementwise::sub_one || op == Elementwise::log_neg) {}

  Elementwise there;
  Elementwise back;
  bool undoes;  ///< the source has the effective form
};

bool keeps_promise(const Change& change, float found, float source, double worst) {
  const float wanted = apply(change.there, source);
  if (same_value(found, wanted)) return true;
  if (change.undoes && same_value(apply(change.back, found), source)) return true;
  // Of a NaN on one side only the difference is NaN and compares false.
  return std::abs(static_cast<double>(found) - static_cast<double>(wanted)) <= worst;
}

}  // namespace

BandVerifier::BandVerifier(const Plan& plan) : plan_(plan) {
  for (const PlannedOutput& output : plan.outputs) {
    auto& references = references_.emplace_back();
    for (const Target& target : output.targets) references.push_back(reference_to(target));
  }
}

BandVerifier::ReferencePtr BandVerifier::reference_to(const Target& target) {
  if (target.pieces.empty() || !has_values(target) || !one_change(target)) return nullptr;
  auto reference = std::make_unique<Reference>();
  reference->target = target;
  reference->change = target.pieces.front().view.elementwise;
  for (TargetPiece& piece : reference->target.pieces) piece.view.elementwise = Elementwise::none;
  reference->maker = make_dense(reference->target, DType::f32);
  return reference;
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
  const Reference* reference = references_[band.output][band.step].get();
  if (reference == nullptr) return;
  const Target& target = plan_.outputs[band.output].targets[band.step];
  const Step& step = plan_.outputs[band.output].steps[band.step];
  const auto count = static_cast<std::size_t>(band.rows.size()) * static_cast<std::size_t>(target.columns);
  refit(buffers.found, count);
  refit(buffers.expected, count);
  const std::vector<std::span<const std::byte>> stored(
      buffers.stored.begin(), buffers.stored.begin() + static_cast<std::ptrdiff_t>(made.size()));
  step.maker->decode(band.rows, stored, scratch, buffers.found);
  Loss none;  // nothing is changed
  const std::span<std::byte> bytes = std::as_writable_bytes(std::span(buffers.expected));
  reference->maker->make(band.rows, std::span(&bytes, 1), scratch, none);
  const double worst = step.fidelity <= Fidelity::values ? 0.0 : loss.worst;
  const Change change(reference->change);
  for (std::size_t i = 0; i < count; ++i) {
    if (keeps_promise(change, buffers.found[i], buffers.expected[i], worst)) continue;
    throw Error(ErrorCode::internal, "row {}, column {}: the value written is {}, the source's is {}; promised was {}",
                band.rows.begin + static_cast<std::int64_t>(i) / target.columns,
                static_cast<std::int64_t>(i) % target.columns, buffers.found[i],
                apply(change.there, buffers.expected[i]),
                step.fidelity <= Fidelity::values ? std::string(name(step.fidelity))
                                                  : fmt::format("{} by at most {}", name(step.fidelity), worst));
  }
}

}  // namespace regauge
