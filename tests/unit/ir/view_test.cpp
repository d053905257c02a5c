#include "ir/view.h"

#include <bit>
#include <cmath>

#include <gtest/gtest.h>

#include "base/error.h"

namespace regauge {
namespace {

TEST(View, ThereAndBackIsNothing) {
  const View there{
      .rows = AxisMap({{2, 2}, {0, 2}}), .columns = AxisMap({{1, 1}, {0, 1}}), .elementwise = Elementwise::add_one};
  const auto back = inverse(there);
  ASSERT_TRUE(back);
  EXPECT_TRUE(compose(there, *back, 4, 2).is_identity());
  EXPECT_TRUE(compose(*back, there, 4, 2).is_identity());
}

TEST(View, ComposesRowsAndColumnsApart) {
  const View rows{.rows = AxisMap({{2, 2}, {0, 2}}), .columns = {}, .elementwise = Elementwise::none};
  const View columns{.rows = {}, .columns = AxisMap({{1, 1}, {0, 1}}), .elementwise = Elementwise::neg_exp};
  const View both = compose(rows, columns, 4, 2);
  EXPECT_EQ(both.rows, rows.rows);
  EXPECT_EQ(both.columns, columns.columns);
  EXPECT_EQ(both.elementwise, Elementwise::neg_exp);
}

TEST(View, TwoDifferentValueChangesDoNotStack) {
  const View add{.rows = {}, .columns = {}, .elementwise = Elementwise::add_one};
  const View exp{.rows = {}, .columns = {}, .elementwise = Elementwise::neg_exp};
  EXPECT_THROW(compose(add, exp, 1, 1), Error);
}

TEST(View, ASelectionCannotBeUndone) {
  EXPECT_FALSE(inverse(View{.rows = AxisMap({{1, 2}}), .columns = {}, .elementwise = Elementwise::none}));
}

TEST(View, AddOneIsTheF32Sum) {
  EXPECT_EQ(apply(Elementwise::add_one, 3.0e-6F), 1.0F + 3.0e-6F);
  EXPECT_EQ(apply(Elementwise::add_one, -7.5e-9F), 1.0F);
  EXPECT_FALSE(std::signbit(apply(Elementwise::add_one, -0.0F)));
}

// exp to more places than f32 holds, from its series: the two must round to the same f32.
TEST(View, NegExpIsTheCorrectlyRoundedExponential) {
  for (int i = -400; i <= 400; ++i) {
    const float x = static_cast<float>(i) / 64.0F;
    long double term = 1.0L;
    long double sum = 1.0L;
    for (int n = 1; n < 200; ++n) {
      term *= static_cast<long double>(x) / n;
      sum += term;
    }
    EXPECT_EQ(std::bit_cast<std::uint32_t>(apply(Elementwise::neg_exp, x)),
              std::bit_cast<std::uint32_t>(static_cast<float>(-sum)))
        << x;
  }
}

}  // namespace
}  // namespace regauge
