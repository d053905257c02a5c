#include "ir/decode/tensor.h"

#include <bit>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "ir/decode/low_rank.h"

namespace regauge {
namespace {

template <typename T>
std::vector<std::byte> raw(const std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

template <typename T>
Part part(PartId id, DType dtype, std::int64_t rows, std::int64_t columns, const std::vector<T>& values) {
  return {id,
          dtype,
          {rows, columns},
          std::make_shared<MemoryRows>(raw(values), rows, static_cast<std::size_t>(columns) * sizeof(T))};
}

Tensor tensor_of(Shape shape, Encoding encoding) {
  Tensor tensor;
  tensor.name = "w";
  tensor.shape = std::move(shape);
  tensor.encoding = std::move(encoding);
  return tensor;
}

/// 3 x 4, two groups of two columns.
Tensor small(std::vector<Part> more = {}) {
  Tensor tensor = tensor_of({3, 4}, Grouped{.bits = 4, .group = {1, 2}, .scale = DType::f32});
  tensor.parts.push_back(part<std::uint8_t>(PartId::codes, DType::u8, 3, 4, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}));
  tensor.parts.push_back(part<float>(PartId::scales, DType::f32, 3, 2, {1, 10, 1, 10, 1, 10}));
  for (Part& p : more) tensor.parts.push_back(std::move(p));
  return tensor;
}

std::vector<float> decode_all(const Tensor& tensor, DecodeOptions options = {}) {
  std::vector<float> out(static_cast<std::size_t>(tensor.shape.elements()));
  TensorDecoder(tensor, options).decode({0, tensor.shape.rows()}, out);
  return out;
}

ErrorCode code_of(const Tensor& tensor) {
  try {
    TensorDecoder decoder(tensor);
  } catch (const Error& error) {
    EXPECT_EQ(error.tensor_name(), tensor.name);
    return error.code();
  }
  return ErrorCode::io;
}

TEST(TensorDecoder, DecodesGroupsOfNeighbours) {
  EXPECT_EQ(decode_all(small()), (std::vector<float>{1, 2, 30, 40, 5, 6, 70, 80, 9, 10, 110, 120}));
}

TEST(TensorDecoder, AGroupIndexRulesWhateverTheFlagSays) {
  const Tensor tensor = small({part<std::int32_t>(PartId::group_index, DType::i32, 1, 4, {1, 0, 0, 1})});
  ASSERT_FALSE(std::get<Grouped>(tensor.encoding).indexed);
  EXPECT_EQ(decode_all(tensor), (std::vector<float>{10, 2, 3, 40, 50, 6, 7, 80, 90, 10, 11, 120}));
  EXPECT_FALSE(group_index_is_trivial(tensor));
}

TEST(TensorDecoder, NegativeGroupsCountFromTheEnd) {
  const Tensor tensor = small({part<std::int32_t>(PartId::group_index, DType::i32, 1, 4, {-2, 0, -1, 1})});
  EXPECT_EQ(read_group_index(tensor), (std::vector<std::int32_t>{0, 0, 1, 1}));
  EXPECT_TRUE(group_index_is_trivial(tensor));
}

TEST(TensorDecoder, AGroupOutOfRangeIsMalformed) {
  EXPECT_EQ(code_of(small({part<std::int32_t>(PartId::group_index, DType::i32, 1, 4, {0, 0, 2, 1})})),
            ErrorCode::malformed);
  EXPECT_EQ(code_of(small({part<std::int32_t>(PartId::group_index, DType::i32, 1, 4, {0, 0, -3, 1})})),
            ErrorCode::malformed);
  EXPECT_EQ(code_of(small({part<std::int32_t>(PartId::group_index, DType::i32, 1, 4, {INT32_MIN, 0, 0, INT32_MAX})})),
            ErrorCode::malformed);
}

TEST(TensorDecoder, TooFewGroupsForTheColumnsIsMalformed) {
  Tensor tensor = small();
  tensor.encoding = Grouped{.bits = 4, .group = {1, 1}, .scale = DType::f32};
  EXPECT_EQ(code_of(tensor), ErrorCode::malformed);
}

TEST(TensorDecoder, BandsGiveTheSameValuesAsTheWhole) {
  const Tensor tensor = small();
  TensorDecoder decoder(tensor);
  std::vector<float> band(8);
  decoder.decode({1, 3}, band);
  EXPECT_EQ(band, (std::vector<float>{5, 6, 70, 80, 9, 10, 110, 120}));
  band.resize(4);
  decoder.decode({0, 1}, band);
  EXPECT_EQ(band, (std::vector<float>{1, 2, 30, 40}));
}

TEST(TensorDecoder, GroupsOfSeveralRowsReadTheirOwnScaleRow) {
  Tensor tensor = tensor_of({3, 2}, Grouped{.code = CodeKind::e4m3, .bits = 8, .group = {2, 2}, .scale = DType::f32});
  tensor.parts.push_back(
      part<std::uint8_t>(PartId::codes, DType::u8, 3, 2, {0x38, 0x40, 0x38, 0x40, 0x38, 0x40}));  // 1, 2
  tensor.parts.push_back(part<float>(PartId::scales, DType::f32, 2, 1, {1, 10}));
  TensorDecoder decoder(tensor);
  EXPECT_EQ(decoder.row_quantum(), 2);
  std::vector<float> last(2);
  decoder.decode({2, 3}, last);
  EXPECT_EQ(last, (std::vector<float>{10, 20}));
  EXPECT_THROW(decoder.decode({1, 2}, last), Error);
}

TEST(TensorDecoder, LowRankIsAddedOnlyWhenAskedFor) {
  const Tensor tensor = small({part<float>(PartId::lowrank_a, DType::f32, 2, 4, {1, 0, 0, 0, 0, 0, 0, 1}),
                               part<float>(PartId::lowrank_b, DType::f32, 3, 2, {0.5F, 1, 0, 0, 2, 4})});
  EXPECT_EQ(decode_all(tensor), decode_all(small()));
  EXPECT_EQ(decode_all(tensor, {.with_low_rank = true}),
            (std::vector<float>{1.5F, 2, 30, 41, 5, 6, 70, 80, 11, 10, 110, 124}));
}

TEST(TensorDecoder, LowRankAccompaniesDenseTensorsToo) {
  Tensor tensor = tensor_of({1, 2}, Dense{DType::bf16});
  tensor.parts.push_back(part<std::uint16_t>(PartId::values, DType::bf16, 1, 2, {0x3F80, 0x4000}));
  tensor.parts.push_back(part<float>(PartId::lowrank_a, DType::f32, 1, 2, {1, 1}));
  tensor.parts.push_back(part<float>(PartId::lowrank_b, DType::f32, 1, 1, {0.25F}));
  EXPECT_EQ(decode_all(tensor, {.with_low_rank = true}), (std::vector<float>{1.25F, 2.25F}));
}

TEST(TensorDecoder, OpaqueTensorsAreRefusedByName) {
  EXPECT_EQ(code_of(tensor_of({1, 2}, Opaque{"I2_S"})), ErrorCode::unsupported);
}

TEST(LowRank, SumsInDoubleFromTheFirstFactorAndRoundsOnce) {
  // In f32 the 1 would be lost against 2^30; in f64 it survives until 2^30 is taken off again.
  const std::vector<float> b{1, 1, 1};
  const std::vector<float> a{0x1p30F, 1, -0x1p30F};
  std::vector<double> sums(1);
  std::vector<float> values{0.5F};
  add_low_rank(1, 3, 1, b, a, sums, values);
  EXPECT_EQ(values[0], 1.5F);
  // The order matters in f64 as well: 2^60 first swallows the 1.
  const std::vector<float> wide{0x1p60F, 1, -0x1p60F};
  values = {0.5F};
  add_low_rank(1, 3, 1, b, wide, sums, values);
  EXPECT_EQ(values[0], 0.5F);
}

TEST(LowRank, SpansOfTheWrongSizeAreCaught) {
  const std::vector<float> two(2);
  std::vector<double> sums(1);
  std::vector<float> values(1);
  EXPECT_THROW(add_low_rank(1, 1, 1, two, two, sums, values), Error);
}

}  // namespace
}  // namespace regauge
