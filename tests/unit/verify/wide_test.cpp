#include "verify/wide.h"

#include <bit>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "tests/support/tensors.h"
#include "verify/diff.h"
#include "verify/value_digest.h"

// Numbers that f32 does not hold. Digests are those of tests/golden/value_digests.py --vectors.

namespace regauge {
namespace {

constexpr std::int64_t kPastF64 = (std::int64_t{1} << 53) + 1;

template <typename T>
Tensor wide_tensor(DType dtype, const std::vector<T>& values) {
  Tensor tensor;
  tensor.name = "w";
  tensor.shape = Shape{1, static_cast<std::int64_t>(values.size())};
  tensor.encoding = Dense{dtype};
  tensor.parts.push_back(testing::memory_part<T>(PartId::values, dtype, 1, tensor.shape.columns(), std::span(values)));
  return tensor;
}

template <typename T>
std::vector<Wide> widened(DType dtype, const std::vector<T>& values) {
  std::vector<Wide> out(values.size());
  widen(dtype, std::as_bytes(std::span(values)), out);
  return out;
}

TensorDiff diff_of(Tensor a, Tensor b) {
  Checkpoint first;
  first.tensors.push_back(std::move(a));
  Checkpoint second;
  second.tensors.push_back(std::move(b));
  return diff(std::vector{OpenedPath{&first, nullptr}}, std::vector{OpenedPath{&second, nullptr}}).tensors.front();
}

Digest128 digest_of(Tensor tensor) {
  Checkpoint checkpoint;
  checkpoint.tensors.push_back(std::move(tensor));
  return value_digests(std::vector{OpenedPath{&checkpoint, nullptr}}, 1).model;
}

TEST(Wide, IsTheNearestF64AndExactlyWhatRemains) {
  const auto numbers = widened<std::int64_t>(
      DType::i64, {kPastF64, -kPastF64, std::numeric_limits<std::int64_t>::min(), -1, 0, (std::int64_t{1} << 53) + 3});
  EXPECT_EQ(numbers[0].high, 9007199254740992.0);  // a tie: to even
  EXPECT_EQ(numbers[0].low, 1.0);
  EXPECT_EQ(numbers[1].high, -9007199254740992.0);
  EXPECT_EQ(numbers[1].low, -1.0);
  EXPECT_EQ(numbers[2].high, -9223372036854775808.0);
  EXPECT_EQ(numbers[3].high, -1.0);
  EXPECT_EQ(numbers[4].high, 0.0);
  EXPECT_EQ(numbers[5].high, 9007199254740996.0);
  EXPECT_EQ(numbers[5].low, -1.0);
  const auto largest = widened<std::uint64_t>(DType::u64, {std::numeric_limits<std::uint64_t>::max()});
  EXPECT_EQ(largest[0].high, 18446744073709551616.0);
  EXPECT_EQ(largest[0].low, -1.0);
  EXPECT_EQ(widened<std::uint32_t>(DType::u32, {0xFFFFFFFFU})[0].high, 4294967295.0);
  EXPECT_EQ(widened<std::int32_t>(DType::i32, {-16777217})[0].high, -16777217.0);
}

TEST(Wide, TellsNumbersApartThatF64DoesNot) {
  const auto odd = widened<std::int64_t>(DType::i64, {kPastF64});
  const Wide even{9007199254740992.0, 0};
  EXPECT_FALSE(same_number(odd[0], even));
  EXPECT_EQ(difference(odd[0], even), 1.0);
  EXPECT_TRUE(same_number({0.0, 0}, {-0.0, -0.0}));
}

// 0.1 as F64 and the F32 next to it differ; through F32 they would not.
TEST(DiffOfWideNumbers, SeesDifferencesThatF32WouldRoundAway) {
  const auto near = static_cast<double>(0.1F);
  const TensorDiff doubles =
      diff_of(wide_tensor<double>(DType::f64, {0.1, 1}), wide_tensor<double>(DType::f64, {near, 1}));
  EXPECT_EQ(doubles.likeness, Likeness::different);
  EXPECT_EQ(doubles.measured.different, 1U);
  EXPECT_EQ(doubles.measured.worst, near - 0.1);
  EXPECT_EQ(diff_of(wide_tensor<double>(DType::f64, {0.1, 1}), wide_tensor<float>(DType::f32, {0.1F, 1})).likeness,
            Likeness::different);
  EXPECT_EQ(diff_of(wide_tensor<double>(DType::f64, {near, -0.0}), wide_tensor<float>(DType::f32, {0.1F, 0})).likeness,
            Likeness::values);
  const TensorDiff whole =
      diff_of(wide_tensor<std::int64_t>(DType::i64, {kPastF64}), wide_tensor<std::int64_t>(DType::i64, {kPastF64 - 1}));
  EXPECT_EQ(whole.likeness, Likeness::different);
  EXPECT_EQ(whole.measured.worst, 1.0);
  // Beyond the range of F32: a finite number on both sides.
  EXPECT_EQ(
      diff_of(wide_tensor<double>(DType::f64, {1e300}), wide_tensor<double>(DType::f64, {1e301})).measured.unmatched,
      0U);
}

TEST(ValueDigestOfWideNumbers, IsOfTheNumberAndNotOfTheTypeOrItsRounding) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(hex(digest_wide_row(widened<double>(DType::f64, {0.1, -0.0, -nan}))), "65dcb97df7fa58dfcf9ea05e250bc9eb");
  EXPECT_EQ(hex(digest_wide_row(widened<std::int64_t>(DType::i64, {kPastF64, -1}))),
            "1727e6dfe227d413b669e5e3da08fbdf");
  // What f32 holds has the digest of the f32 row, whatever it is stored as.
  EXPECT_EQ(hex(digest_wide_row(widened<double>(DType::f64, {0.0, -0.0, 1.5, nan}))),
            "afe7ebcacb77daa7824e40a8fd623e4d");
  EXPECT_EQ(digest_of(wide_tensor<std::int64_t>(DType::i64, {3, -4})),
            digest_of(wide_tensor<float>(DType::f32, {3, -4})));
  EXPECT_EQ(digest_of(wide_tensor<std::uint64_t>(DType::u64, {1ULL << 60, 3})),
            digest_of(wide_tensor<std::int64_t>(DType::i64, {std::int64_t{1} << 60, 3})));
  EXPECT_NE(digest_of(wide_tensor<double>(DType::f64, {0.1})), digest_of(wide_tensor<float>(DType::f32, {0.1F})));
}

}  // namespace
}  // namespace regauge
