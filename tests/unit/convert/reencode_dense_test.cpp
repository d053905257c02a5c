#include "convert/route/reencode_dense.h"

#include <cmath>
#include <cstring>
#include <limits>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/half.h"
#include "tests/support/golden.h"
#include "tests/support/tensors.h"
#include "tests/unit/convert/targets.h"

namespace regauge {
namespace {

using testing::dense_tensor;
using testing::make_all;
using testing::whole;

std::vector<float> as_floats(std::span<const std::byte> bytes) {
  std::vector<float> values(bytes.size() / 4);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

TEST(ReencodeDense, AddsOneInF32AndCountsWhatCannotBeTakenBack) {
  const std::vector<float> weights{0.5F, std::ldexp(1.0F, -24), -std::ldexp(1.0F, -16), 0.0F};
  const Tensor tensor = dense_tensor("norm", Shape{4}, weights, DType::bf16);
  const Target target = whole(tensor, {.rows = {}, .columns = {}, .elementwise = Elementwise::add_one});
  Loss loss;
  const auto values = as_floats(make_all(*make_dense(target, DType::f32), target, 16, 1, loss));
  for (std::size_t i = 0; i < weights.size(); ++i) EXPECT_EQ(values[i], 1.0F + weights[i]);
  EXPECT_EQ(loss.irreversible, 1U) << "2^-24 vanishes beside 1";
  EXPECT_EQ(loss.changed, 0U);
}

TEST(ReencodeDense, RoundsToNearestEvenAndReportsTheWorst) {
  const std::vector<float> weights{1.0F, 1.0F + std::ldexp(1.0F, -8), 1.0F + std::ldexp(3.0F, -8), 2.0F};
  const Tensor tensor = dense_tensor("w", Shape{2, 2}, weights);
  const Target target = whole(tensor);
  Loss loss;
  const auto bytes = make_all(*make_dense(target, DType::bf16), target, 4, 1, loss);
  EXPECT_EQ(bf16_to_f32(load_le<std::uint16_t>(bytes.data() + 2)), 1.0F) << "a tie goes to the even neighbour";
  EXPECT_EQ(bf16_to_f32(load_le<std::uint16_t>(bytes.data() + 4)), 1.0F + std::ldexp(4.0F, -8));
  EXPECT_EQ(loss.changed, 2U);
  EXPECT_EQ(loss.worst, std::ldexp(1.0, -8));
}

TEST(ReencodeDense, OverflowIntoF16IsAnInfiniteError) {
  const Tensor tensor = dense_tensor("w", Shape{1, 2}, std::vector<float>{1e6F, 1.0F});
  const Target target = whole(tensor);
  Loss loss;
  make_all(*make_dense(target, DType::f16), target, 4, 1, loss);
  EXPECT_EQ(loss.changed, 1U);
  EXPECT_TRUE(std::isinf(loss.worst));
}

TEST(ReencodeDense, StoresOnlyF32Bf16AndF16) {
  const Tensor tensor = dense_tensor("w", Shape{1, 1}, std::vector<float>{1.0F});
  const Target target = whole(tensor);
  EXPECT_THROW(make_dense(target, DType::f64), Error);
}

TEST(ReencodeDense, KnowsWhichTypesWiden) {
  EXPECT_TRUE(widens_exactly(Dense{DType::bf16}, DType::f32));
  EXPECT_TRUE(widens_exactly(Dense{DType::f8_e5m2}, DType::bf16));
  EXPECT_TRUE(widens_exactly(Grouped{}, DType::f32)) << "the reference value is an f32";
  EXPECT_FALSE(widens_exactly(Grouped{}, DType::bf16));
  EXPECT_FALSE(widens_exactly(Dense{DType::bf16}, DType::f16));
  EXPECT_FALSE(widens_exactly(Dense{DType::f64}, DType::f32));
}

}  // namespace
}  // namespace regauge
