#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "verify/diff.h"

namespace regauge {

/// A bound that a candidate has to keep.
struct Gate {
  enum class Bound : std::uint8_t { max_relative_error, min_signal_to_noise };
  Bound bound = Bound::max_relative_error;
  std::string
      scope;  ///< "model", "tensor" (each one), the name of a component, or "text": all but MTP, vision and factors
  double limit = 0;
};

/// Reads "0.05", "mlp=0.05" or "tensor=0.2": without a scope it is the whole model's. Throws Error{invalid}.
Gate parse_gate(Gate::Bound bound, std::string_view text);

struct BrokenGate {
  Gate gate;
  std::string where;  ///< scope, or the tensor
  double measured = 0;
};

/// How faithful a candidate is to its reference: measures summed up, and the gates that it broke.
struct Faithfulness {
  Diff diff;  ///< candidate first
  Measured whole;
  std::vector<std::pair<Component, Measured>> components;
  std::vector<std::pair<std::string, Measured>> roots;  ///< "text", "mtp", "vision", "adapter": those that are there
  std::vector<BrokenGate> broken;
  std::vector<std::string> idle;  ///< scopes of gates that nothing fell under

  /// Every weight of the reference is there and could be measured, and every gate holds.
  bool passed() const;
};

/// Sums `diff` up, which was made with `decode_all`.
Faithfulness judge(Diff diff, const std::vector<Gate>& gates);

/// Tensors that differ, the largest relative error first.
std::vector<const TensorDiff*> worst_first(const Diff& diff);

/// For people: components and the whole, the worst tensors, gates, and the verdict in one line.
std::string render_faithfulness(const Faithfulness& result, std::size_t worst);

/// The document of schema "regauge.verify/1" for two checkpoints.
Json faithfulness_to_json(const Faithfulness& result, const std::string& candidate, const std::string& reference);

}  // namespace regauge
