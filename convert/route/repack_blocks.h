#pragma once

#include <string>
#include <variant>
#include <vector>

#include "convert/route/row_maker.h"
#include "ir/ggml_type.h"

namespace regauge {

/// How grouped integer codes become ggml blocks without a change of value: the block type, and per piece the source group
/// that each block of target columns takes its scale from.
struct BlockRepack {
  BlockType type = BlockType::q4_0;
  std::vector<std::vector<std::int32_t>> group_of_block;  ///< [piece][block]
};

/// The smallest of Q4_0, Q5_0 and Q8_0 that holds every value of `target` to the bit, or the reason why none does.
/// Decided from the data: group index, zero points, scales that are not f16, and codes where nothing else tells. A value
/// is scale * (code - zero); a block stores code - zero + offset, so what counts is the range of that difference.
/// Reads in bands; safe from any thread.
std::variant<BlockRepack, std::string> plan_block_repack(const Target& target);

/// Rows repacked as planned. `target` must outlive the result.
RowMakerPtr make_block_repack(const Target& target, BlockRepack repack);

}  // namespace regauge
