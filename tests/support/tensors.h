#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ir/tensor.h"

namespace regauge::testing {

/// A part held in memory, [rows, columns] of T.
template <typename T>
Part memory_part(PartId id, DType dtype, std::int64_t rows, std::int64_t columns, std::span<const T> values) {
  const auto bytes = std::as_bytes(values);
  const std::size_t row_bytes = static_cast<std::size_t>(columns) * sizeof(T);
  return {id, dtype, Shape{rows, columns},
          std::make_shared<MemoryRows>(std::vector<std::byte>(bytes.begin(), bytes.end()), rows, row_bytes)};
}

/// Grouped codes as a test writes them down.
struct GroupedSpec {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  int bits = 4;
  std::int64_t group = 32;
  std::vector<std::uint8_t> codes;                 ///< [rows, columns]
  std::vector<std::uint16_t> scales;               ///< [rows, G], f16 bits
  std::vector<std::uint8_t> zeros;                 ///< [rows, G]; empty: midpoint
  std::optional<std::vector<std::int32_t>> index;  ///< [columns]
};

Tensor grouped_tensor(std::string name, const GroupedSpec& spec);
/// `values` in f32, stored as bf16 when `dtype` says so (they must survive it), else as f32.
Tensor dense_tensor(std::string name, Shape shape, std::span<const float> values, DType dtype = DType::f32);

/// The whole matrix through the dequant reference.
std::vector<float> decode_all(const Tensor& tensor);

}  // namespace regauge::testing
