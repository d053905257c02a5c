#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/axis_map.h"
#include "ir/checkpoint.h"

namespace regauge {

// A converter may reorder the columns of a weight (and the rows that feed them) to make act-order groups contiguous. The
// model computes the same; its weights only compare equal in the canonical order. So the order travels with the file: in a
// GGUF as the i32 array `regauge.permutation.<canonical weight name>`, beside safetensors in `regauge.json` as the object
// `permutations`, name -> array. Entry i is the canonical column that position i holds.

inline constexpr std::string_view kPermutationKey = "regauge.permutation.";
inline constexpr std::string_view kPermutationFile = "regauge.json";

/// The recorded orders by canonical weight name; empty when there are none. Throws Error{malformed} for an entry that is
/// no permutation.
std::map<std::string, AxisMap> read_permutations(const Checkpoint& checkpoint);

/// The text of regauge.json.
std::string permutations_text(const std::map<std::string, std::vector<std::int32_t>>& orders);

}  // namespace regauge
