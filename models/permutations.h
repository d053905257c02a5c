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

/// Most that is read of such a file: a number for each column of each MLP is some megabytes for the largest models.
inline constexpr std::uint64_t kMaxRecordBytes = std::uint64_t{256} << 20;
inline constexpr std::uint64_t kMaxRecordValues = 32'000'000;

/// The recorded orders by canonical weight name; empty when there are none. Throws Error{malformed} for an entry that is
/// no permutation.
std::map<std::string, AxisMap> read_permutations(const Checkpoint& checkpoint);

/// The text of regauge.json. `ranks` are those of models/low_rank.h; left out when there are none.
std::string permutations_text(const std::map<std::string, std::vector<std::int32_t>>& orders,
                              const std::map<std::string, std::vector<std::int32_t>>& ranks = {});

}  // namespace regauge
