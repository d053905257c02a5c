#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "inspect/catalog.h"
#include "ir/checkpoint.h"
#include "models/architecture.h"

namespace regauge::inspect {

/// What one kind of weight takes in one block.
struct MapCell {
  char symbol = ' ';  ///< see describe_symbol(); ' ' while nothing was added
  std::uint64_t parameters = 0;
  std::uint64_t bytes = 0;
  /// Stored bits for each parameter; 0 without parameters.
  double bits() const noexcept;
};

struct MapRow {
  Component component = Component::other;
  std::string label;             ///< "q_proj", "in_proj_qkv", "small" for everything of a block that is no matrix
  std::map<int, MapCell> cells;  ///< by block number, those that are there
};

/// A tower of numbered blocks: decoder, MTP or vision.
struct MapTower {
  std::string name;  ///< "text", "mtp", "vision"
  int blocks = 0;    ///< one more than the highest block number
  std::vector<MapRow> rows;
};

/// Which precision every matrix of every block has.
struct PrecisionMap {
  std::vector<MapTower> towers;
  std::vector<MapRow> outside;  ///< weights outside of blocks: one cell each, number 0
};

/// Builds it from a catalog; small tensors (norms, biases, convolutions) share one row. Rows come in the order of
/// `architecture` where it is given, else as the checkpoint has them.
PrecisionMap make_map(const Checkpoint& checkpoint, const Catalog& catalog, const Architecture* architecture);

/// The label of the row that a weight of this role and shape is in: "q_proj", "experts.*.w1", "small".
std::string map_label(std::string_view role, const Shape& shape);

/// What a cell's symbol stands for: '1'..'9' are whole bits of a quantized weight, rounded down.
std::string describe_symbol(char symbol);

}  // namespace regauge::inspect
