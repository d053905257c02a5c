#pragma once

#include <cstddef>
#include <cstdint>

#include "ir/checkpoint.h"
#include "ir/tensor.h"

namespace regauge {

/// One stored matrix as a part of [rows, columns]; `transposed` when the file holds it as [columns, rows], as low-rank
/// factors may lie. The array has a DType of whole bytes and as many elements, which the caller has checked.
Part array_part(const Checkpoint& checkpoint, std::size_t array, PartId id, std::int64_t rows, std::int64_t columns,
                bool transposed);

}  // namespace regauge
