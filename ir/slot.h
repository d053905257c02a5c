#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/axis_map.h"
#include "ir/rows.h"
#include "ir/shape.h"

namespace regauge {

/// What a weight does in its model; the rows of every table we print.
enum class Component : std::uint8_t {
  embedding,
  attention,
  deltanet,
  mlp,
  experts,
  router,
  norm,
  head,
  mtp,
  vision,
  adapter,
  other,
};

std::string_view name(Component component);
/// The four roots that digests and outputs are grouped by: "text", "mtp", "vision", "adapter".
std::string_view root(Component component);

/// The finest logical weight: one matrix or vector of the model, whatever a format fuses or stacks it with.
struct Slot {
  Component component = Component::other;
  int layer = -1;    ///< decoder, vision or MTP block; -1 outside of blocks
  int expert = -1;   ///< -1 when it belongs to no expert
  std::string role;  ///< the leaf as Hugging Face names it: "self_attn.q_proj.weight", "linear_attn.A_log"

  bool operator==(const Slot&) const = default;
  auto operator<=>(const Slot&) const = default;  // NOLINT(modernize-use-nullptr): clang-tidy 14 takes it for a 0
};

/// The place of one slot inside a stored array, seen as a matrix of Shape::rows() x Shape::columns() (or any other
/// factoring of the same elements that `Assembly::matrix` names).
struct Piece {
  Slot slot;
  RowRange rows;                   ///< rows of the array's matrix
  std::optional<AxisMap> columns;  ///< columns of it; absent: all

  bool operator==(const Piece&) const = default;
};

/// What one stored array is made of: one slot, a slice, a stack or a concatenation of slots. The pieces tile the array,
/// so an assembly can be taken apart and put together again.
struct Assembly {
  std::int64_t rows = 0;  ///< the matrix that the pieces speak of; rows * columns is the array's element count
  std::int64_t columns = 0;
  std::vector<Piece> pieces;

  bool operator==(const Assembly&) const = default;
};

}  // namespace regauge
