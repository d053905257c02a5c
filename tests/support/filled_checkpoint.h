#pragma once

#include <cstdint>
#include <filesystem>

#include "tests/support/model_shapes.h"

namespace regauge::testing {

/// As write_sparse_checkpoint, with numbers in it that conversions take for a model's: codes at random, symmetric zero
/// points, groups in order of their columns, scales and weights of ordinary size, all finite. The same bytes for the same
/// arguments.
void write_filled_checkpoint(const std::filesystem::path& folder, const ModelShapes& shapes, int shards);

/// The recipe's model cut to as many layers as give about `bytes` of arrays, at least 4, so that one of them has full
/// attention. It has a small vocabulary and neither vision nor MTP: those would be most of a small model.
ModelShapes make_slice_of_27b(ShapesRecipe recipe, std::uint64_t bytes);

}  // namespace regauge::testing
