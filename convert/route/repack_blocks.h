#pragma once

#include <string>
#include <variant>

#include "convert/route/affine_facts.h"
#include "convert/route/row_maker.h"
#include "ir/ggml_type.h"

namespace regauge {

/// How integer codes become ggml blocks with the codes kept: the block type, whether it says a value as d * (code - zero)
/// or as d * code + m, and the source group of every block.
struct BlockRepack {
  BlockType type = BlockType::q4_0;
  bool rounded = false;     ///< some scale or offset has to be rounded to fit
  bool codes_stay = false;  ///< stored codes are the source's, whatever the group
  GroupMap groups;
};

/// The smallest of Q2_0, Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0 that holds every value of `source` to the bit, or the reason why
/// none does. With `allow_rounded`, when none does, the smallest that keeps every code and rounds scales and offsets.
/// Reads groups, and codes where their range alone decides; safe from any thread.
std::variant<BlockRepack, std::string> plan_block_repack(const AffineSource& source, const AffineFacts& facts,
                                                         bool allow_rounded);

/// Rows repacked as planned. The target of `source` must outlive the result.
RowMakerPtr make_block_repack(AffineSource source, BlockRepack repack);

}  // namespace regauge
