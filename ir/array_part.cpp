#include "ir/array_part.h"

#include "ir/transposed_rows.h"

namespace regauge {

Part array_part(const Checkpoint& checkpoint, std::size_t array, PartId id, std::int64_t rows, std::int64_t columns,
                bool transposed) {
  const StoredArray& stored = checkpoint.arrays[array];
  const DType dtype = std::get<DType>(stored.element);
  const auto element = static_cast<std::size_t>(bits(dtype)) / 8;
  const auto& file = checkpoint.files[stored.file].file;
  Part part{id, dtype, {rows, columns}, nullptr};
  if (transposed) {
    part.rows = std::make_shared<TransposedRows>(file, stored.offset, columns, rows, element);
  } else {
    part.rows = std::make_shared<FileRows>(file, stored.offset, rows, static_cast<std::size_t>(columns) * element);
  }
  return part;
}

}  // namespace regauge
