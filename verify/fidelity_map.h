#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "verify/diff.h"

namespace regauge {

/// What has become of one kind of weight in one block: of several (experts, norms) all together.
struct FidelityCell {
  std::uint64_t tensors = 0;  ///< that both have
  double parameters = 0;
  double first_bits = 0;  ///< stored bits, summed over the parameters
  double second_bits = 0;
  std::string first_encoding;  ///< "mixed" where there are several
  std::string second_encoding;
  Measured measured;
  std::uint64_t only_first = 0;
  std::uint64_t only_second = 0;
  std::uint64_t reshaped = 0;
};

/// A kind of weight: a column of the map.
struct FidelityKind {
  Component component = Component::other;
  std::string label;  ///< "q_proj", "experts.*.gate_proj", "small"
};

/// A tower of numbered blocks, or what is outside of blocks: then there is one block without a number.
struct FidelityTower {
  std::string name;  ///< "text", "mtp", "vision", "adapter", "outside of blocks"
  bool numbered = true;
  std::vector<FidelityKind> kinds;
  std::map<int, std::map<std::size_t, FidelityCell>> blocks;  ///< by number, by index of the kind
};

/// Sorts the weights of a comparison into blocks and kinds, by their canonical names.
std::vector<FidelityTower> make_fidelity_map(const Diff& diff);

}  // namespace regauge
