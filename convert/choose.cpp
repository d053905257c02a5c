#include "convert/choose.h"

#include <algorithm>

#include <fmt/format.h>

#include "convert/route/copy.h"
#include "convert/route/reencode_dense.h"
#include "convert/route/repack_blocks.h"

namespace regauge {
namespace {

std::string encodings_of(const Target& target) {
  std::vector<std::string> seen;
  for (const TargetPiece& piece : target.pieces) {
    std::string text = to_string(piece.tensor->encoding);
    if (std::ranges::find(seen, text) == seen.end()) seen.push_back(std::move(text));
  }
  std::string out;
  for (const std::string& text : seen) out += (out.empty() ? "" : " + ") + text;
  return out;
}

bool any_piece(const Target& target, bool (*test)(const Encoding&)) {
  return std::ranges::any_of(target.pieces, [&](const TargetPiece& p) { return test(p.tensor->encoding); });
}

bool is_plain_dense(const Encoding& encoding) { return std::holds_alternative<Dense>(encoding); }
bool is_not_float(const Encoding& encoding) {
  const auto* dense = std::get_if<Dense>(&encoding);
  return dense != nullptr && !is_float(dense->dtype);
}

std::int64_t quantum_of(const Target& target) {
  std::int64_t quantum = 1;
  for (const TargetPiece& piece : target.pieces) quantum = std::max(quantum, piece.tensor->row_quantum());
  return quantum;
}

/// What the target's convention does to the values and what its loaders want, for the step's reason.
std::string convention_reason(const Target& target) {
  std::string reason;
  for (const TargetPiece& piece : target.pieces) {
    if (piece.view.elementwise != Elementwise::none) reason = fmt::format("stored as {}", name(piece.view.elementwise));
  }
  if (target.required)
    reason += fmt::format("{}loaders insist on {} here", reason.empty() ? "" : "; ", name(*target.required));
  return reason;
}

class Chooser {
 public:
  Chooser(const Target& target, const Format& format, const ConvertOptions& options)
      : target_(target), format_(format), options_(options) {}

  std::variant<Step, Offender> choose() {
    for (const TargetPiece& piece : target_.pieces) {
      if (!is_decodable(piece.tensor->encoding) && cannot_copy(target_)) {
        return Offender{
            fmt::format("{} can neither be decoded nor carried as it is", to_string(piece.tensor->encoding))};
      }
    }
    return any_piece(target_, is_quantized) ? quantized() : dense();
  }

 private:
  std::variant<Step, Offender> dense() {
    const Encoding& encoding = target_.pieces.front().tensor->encoding;
    const bool numbers = !any_piece(target_, is_not_float);
    std::optional<DType> wanted = target_.required;
    std::string reason = convention_reason(target_);
    if (!wanted && numbers && (options_.dtype || options_.dense))
      wanted = options_.dtype ? options_.dtype : options_.dense;
    const auto* stored = std::get_if<Dense>(&encoding);
    const bool keeps = !wanted || (stored != nullptr && stored->dtype == *wanted);
    if (keeps && !cannot_copy(target_)) {
      if (auto step = copy(); holds(step)) return step;
    }
    if (!numbers) return Offender{fmt::format("{} has no {} encoding", encodings_of(target_), format_.name)};
    if (!wanted) {
      wanted = stored != nullptr && (stored->dtype == DType::bf16 || stored->dtype == DType::f16) && one_encoding()
                   ? stored->dtype
                   : DType::f32;
      if (auto why = cannot_copy(target_); why && reason.empty()) reason = *why;
    }
    return as_dense(*wanted, reason);
  }

  std::variant<Step, Offender> quantized() {
    if (target_.required) return as_dense(*target_.required, convention_reason(target_));
    if (options_.dense) return as_dense(*options_.dense, "decoded, by --dense");
    std::string reason;
    if (auto why = cannot_copy(target_)) {
      reason = *why;
    } else if (auto step = copy(); holds(step)) {
      return step;
    } else {
      reason = fmt::format("{} has no {} encoding", format_.name, encodings_of(target_));
    }
    if (!any_piece(target_, is_plain_dense)) {
      auto repack = plan_block_repack(target_);
      if (auto* plan = std::get_if<BlockRepack>(&repack)) {
        Step step = base(Route::repack, plan->type, Fidelity::values);
        if (holds(step)) {
          step.reason = fmt::format("every value of {} exactly", encodings_of(target_));
          step.maker = make_block_repack(target_, std::move(*plan));
          return step;
        }
      } else if (std::holds_alternative<Grouped>(target_.pieces.front().tensor->encoding)) {
        reason = std::get<std::string>(repack);
      }
    }
    if (options_.allow_dense) return as_dense(DType::f32, reason + "; dense by --allow dense");
    return Offender{reason};
  }

  Step base(Route route, std::variant<DType, BlockType> element, Fidelity fidelity) const {
    Step step;
    step.name = target_.name;
    step.shape = target_.shape;
    step.arrays.push_back({{target_.name, element, target_.shape}, BandLayout::rows});
    step.encoding = std::visit([](auto type) { return std::string(name(type)); }, element);
    step.source_encoding = encodings_of(target_);
    step.route = route;
    step.fidelity = fidelity;
    step.component = target_.component;
    step.quantum = quantum_of(target_);
    return step;
  }

  Step copy() const {
    const Encoding& encoding = target_.pieces.front().tensor->encoding;
    const auto* dense = std::get_if<Dense>(&encoding);
    const std::variant<DType, BlockType> element =
        dense != nullptr ? std::variant<DType, BlockType>(dense->dtype) : std::get<Blocked>(encoding).type;
    Step step = base(Route::copy, element, target_.is_bare() ? Fidelity::bytes : Fidelity::values);
    if (!target_.is_bare())
      step.reason = target_.pieces.size() > 1 ? "put together from several arrays" : "rows or columns reordered";
    step.maker = make_copy(target_);
    return step;
  }

  std::variant<Step, Offender> as_dense(DType dtype, std::string reason) const {
    const bool exact = std::ranges::all_of(
        target_.pieces, [&](const TargetPiece& p) { return widens_exactly(p.tensor->encoding, dtype); });
    // A value change ends in f32 and rounds again when stored in less.
    const bool changes = std::ranges::any_of(
        target_.pieces, [](const TargetPiece& p) { return p.view.elementwise != Elementwise::none; });
    Step step =
        base(Route::reencode, dtype, exact && (!changes || dtype == DType::f32) ? Fidelity::values : Fidelity::rounded);
    if (!holds(step)) return Offender{fmt::format("{} has no {} encoding", format_.name, name(dtype))};
    step.reason = std::move(reason);
    step.maker = make_dense(target_, dtype);
    return step;
  }

  bool one_encoding() const {
    return std::ranges::all_of(target_.pieces, [&](const TargetPiece& p) {
      return p.tensor->encoding == target_.pieces.front().tensor->encoding;
    });
  }

  bool holds(const Step& step) const {
    return std::ranges::none_of(step.arrays,
                                [&](const StepArray& array) { return format_.can_hold(array.plan).has_value(); });
  }

  const Target& target_;
  const Format& format_;
  const ConvertOptions& options_;
};

}  // namespace

std::variant<Step, Offender> choose_route(const Target& target, const Format& format, const ConvertOptions& options) {
  return Chooser(target, format, options).choose();
}

}  // namespace regauge
