#include "tests/support/tensors.h"

#include <stdexcept>

#include "base/half.h"
#include "ir/decode/tensor.h"

namespace regauge::testing {

Tensor grouped_tensor(std::string name, const GroupedSpec& spec) {
  const std::int64_t groups = static_cast<std::int64_t>(spec.scales.size()) / spec.rows;
  Tensor tensor;
  tensor.name = std::move(name);
  tensor.shape = Shape{spec.rows, spec.columns};
  Grouped encoding;
  encoding.bits = spec.bits;
  encoding.group = {1, spec.group};
  encoding.offset = spec.zeros.empty() ? Offset::midpoint : Offset::zero_point;
  encoding.indexed = spec.index.has_value();
  tensor.encoding = encoding;
  tensor.parts.push_back(memory_part<std::uint8_t>(PartId::codes, DType::u8, spec.rows, spec.columns, spec.codes));
  tensor.parts.push_back(memory_part<std::uint16_t>(PartId::scales, DType::f16, spec.rows, groups, spec.scales));
  if (!spec.zeros.empty())
    tensor.parts.push_back(memory_part<std::uint8_t>(PartId::zeros, DType::u8, spec.rows, groups, spec.zeros));
  if (spec.index)
    tensor.parts.push_back(memory_part<std::int32_t>(PartId::group_index, DType::i32, 1, spec.columns, *spec.index));
  return tensor;
}

Tensor dense_tensor(std::string name, Shape shape, std::span<const float> values, DType dtype) {
  Tensor tensor;
  tensor.name = std::move(name);
  tensor.shape = std::move(shape);
  tensor.encoding = Dense{dtype};
  const std::int64_t rows = tensor.shape.rows();
  const std::int64_t columns = tensor.shape.columns();
  if (dtype == DType::f32) {
    tensor.parts.push_back(memory_part<float>(PartId::values, dtype, rows, columns, values));
    return tensor;
  }
  std::vector<std::uint16_t> halves;
  for (const float value : values) {
    halves.push_back(dtype == DType::bf16 ? f32_to_bf16(value) : f32_to_f16(value));
    if ((dtype == DType::bf16 ? bf16_to_f32(halves.back()) : f16_to_f32(halves.back())) != value) {
      throw std::invalid_argument("a test value that its dtype cannot hold");
    }
  }
  tensor.parts.push_back(memory_part<std::uint16_t>(PartId::values, dtype, rows, columns, halves));
  return tensor;
}

std::vector<float> decode_all(const Tensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.shape.elements()));
  TensorDecoder(tensor).decode({0, tensor.shape.rows()}, values);
  return values;
}

}  // namespace regauge::testing
