#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ir/checkpoint.h"

namespace regauge::testing {

/// Checkpoints made by hand, with data in memory: each call adds one tensor with the arrays a reader would have found.
class CheckpointBuilder {
 public:
  CheckpointBuilder() {
    checkpoint_.path = "made by hand";
    checkpoint_.format = "safetensors";
  }

  template <typename T>
  static std::vector<std::byte> bytes_of(const std::vector<T>& values) {
    std::vector<std::byte> bytes(values.size() * sizeof(T));
    if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
  }

  /// A dense tensor; `bytes` may be left empty where nobody reads them.
  CheckpointBuilder& dense(const std::string& name, DType dtype, Shape shape, std::vector<std::byte> bytes = {}) {
    Tensor tensor{name, shape, Dense{dtype}, {}, {}};
    const std::uint64_t size = *storage_bytes(dtype, static_cast<std::uint64_t>(shape.elements()));
    bytes.resize(static_cast<std::size_t>(size));
    tensor.parts.push_back(part(PartId::values, dtype, shape, std::move(bytes)));
    tensor.arrays.push_back(array(name, dtype, shape, size));
    checkpoint_.tensors.push_back(std::move(tensor));
    return *this;
  }

  struct Gptq {
    int bits = 4;
    std::int64_t group = 128;
    bool indexed = true;
    std::vector<std::uint8_t> codes = {};            ///< [N, K]; zeros where empty
    std::vector<std::uint8_t> zeros = {};            ///< [N, G]; the midpoint where empty
    std::vector<std::int32_t> group_of_column = {};  ///< k / group where empty
    std::vector<float> scales = {};                  ///< [N, G]; ones where empty
  };

  /// A GPTQ module with F32 scales, so that tests write them as they are.
  CheckpointBuilder& gptq(const std::string& module, std::int64_t n, std::int64_t k, Gptq m) {
    const std::int64_t groups = (k + m.group - 1) / m.group;
    m.codes.resize(static_cast<std::size_t>(n * k));
    if (m.zeros.empty())
      m.zeros.assign(static_cast<std::size_t>(n * groups), static_cast<std::uint8_t>(1 << (m.bits - 1)));
    if (m.scales.empty()) m.scales.assign(static_cast<std::size_t>(n * groups), 1.0F);
    if (m.group_of_column.empty()) {
      for (std::int64_t i = 0; i < k; ++i) m.group_of_column.push_back(static_cast<std::int32_t>(i / m.group));
    }
    Grouped encoding;
    encoding.bits = m.bits;
    encoding.group.cols = m.group;
    encoding.scale = DType::f32;
    encoding.offset = Offset::zero_point;
    encoding.indexed = m.indexed;
    Tensor tensor{module + ".weight", Shape{n, k}, encoding, {}, {}};
    tensor.parts.push_back(part(PartId::codes, DType::u8, {n, k}, bytes_of(m.codes)));
    tensor.parts.push_back(part(PartId::scales, DType::f32, {n, groups}, bytes_of(m.scales)));
    tensor.parts.push_back(part(PartId::zeros, DType::u8, {n, groups}, bytes_of(m.zeros)));
    const auto bytes = [](std::int64_t count) { return static_cast<std::uint64_t>(count); };
    tensor.arrays.push_back(array(module + ".qweight", DType::i32, {k * m.bits / 32, n}, bytes(n * k * m.bits / 8)));
    tensor.arrays.push_back(array(module + ".scales", DType::f32, {groups, n}, bytes(4 * n * groups)));
    tensor.arrays.push_back(
        array(module + ".qzeros", DType::i32, {groups, n * m.bits / 32}, bytes(groups * n * m.bits / 8)));
    if (m.indexed) {
      tensor.parts.push_back(part(PartId::group_index, DType::i32, {1, k}, bytes_of(m.group_of_column)));
      tensor.arrays.push_back(array(module + ".g_idx", DType::i32, {k}, bytes(4 * k)));
    }
    checkpoint_.tensors.push_back(std::move(tensor));
    checkpoint_.format = "gptq";
    return *this;
  }

  /// Low-rank factors, F16 zeros, on the tensor that was added last.
  CheckpointBuilder& factors(const std::string& module, std::int64_t n, std::int64_t k, std::int64_t rank) {
    Tensor& tensor = checkpoint_.tensors.back();
    const auto holes = [](std::int64_t count) { return std::vector<std::byte>(static_cast<std::size_t>(2 * count)); };
    tensor.parts.push_back(part(PartId::lowrank_a, DType::f16, {rank, k}, holes(rank * k)));
    tensor.parts.push_back(part(PartId::lowrank_b, DType::f16, {n, rank}, holes(n * rank)));
    tensor.arrays.push_back(
        array(module + ".lora_A.weight", DType::f16, {rank, k}, static_cast<std::uint64_t>(2 * rank * k)));
    tensor.arrays.push_back(
        array(module + ".lora_B.weight", DType::f16, {n, rank}, static_cast<std::uint64_t>(2 * n * rank)));
    return *this;
  }

  CheckpointBuilder& blocks(const std::string& name, BlockType type, Shape shape, std::vector<std::byte> bytes) {
    Tensor tensor{name, shape, Blocked{type}, {}, {}};
    const auto row_bytes = static_cast<std::int64_t>(bytes.size()) / shape.rows();
    tensor.arrays.push_back(array(name, type, shape, bytes.size()));
    tensor.parts.push_back(part(PartId::blocks, DType::u8, {shape.rows(), row_bytes}, std::move(bytes)));
    checkpoint_.tensors.push_back(std::move(tensor));
    return *this;
  }

  /// An array that belongs to no tensor.
  CheckpointBuilder& dead_array(const std::string& name, std::uint64_t bytes) {
    array(name, DType::u8, {static_cast<std::int64_t>(bytes)}, bytes);
    return *this;
  }

  Checkpoint& checkpoint() { return checkpoint_; }

 private:
  static Part part(PartId id, DType dtype, const Shape& shape, std::vector<std::byte> bytes) {
    const std::int64_t rows = shape.rows();
    const std::size_t row_bytes = rows == 0 ? 0 : bytes.size() / static_cast<std::size_t>(rows);
    return {id, dtype, shape, std::make_shared<MemoryRows>(std::move(bytes), rows, row_bytes)};
  }

  std::size_t array(const std::string& name, std::variant<DType, BlockType, Opaque> element, const Shape& shape,
                    std::uint64_t bytes) {
    checkpoint_.arrays.push_back({name, std::move(element), shape, 0, offset_, bytes});
    offset_ += bytes;
    return checkpoint_.arrays.size() - 1;
  }

  Checkpoint checkpoint_;
  std::uint64_t offset_ = 0;
};

}  // namespace regauge::testing
