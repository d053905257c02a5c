#include "convert/route/measured.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace regauge {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Shape {
  std::size_t rows;
  std::size_t columns;
  std::size_t width;  ///< of a run
};

struct Values {
  std::vector<float> wanted;
  std::vector<float> stored;
  std::vector<float> steps;
};

Values random_values(const Shape& shape, std::mt19937& random) {
  std::normal_distribution<float> normal;
  Values values;
  for (std::size_t i = 0; i < shape.rows * shape.columns; ++i) {
    values.wanted.push_back(normal(random));
    values.stored.push_back(random() % 3 == 0 ? values.wanted.back() : normal(random));
  }
  const std::size_t runs = shape.rows * ((shape.columns + shape.width - 1) / shape.width);
  for (std::size_t i = 0; i < runs; ++i) values.steps.push_back(random() % 5 == 0 ? 0.0F : normal(random));
  return values;
}

/// Every sum in long double, every quotient by itself.
struct Expected {
  std::uint64_t changed = 0;
  double worst = 0;
  double worst_steps = 0;
  long double error = 0;
  long double source = 0;
};

Expected expected_of(const Values& values, const Shape& shape) {
  Expected expected;
  const std::size_t runs = (shape.columns + shape.width - 1) / shape.width;
  for (std::size_t i = 0; i < values.wanted.size(); ++i) {
    const double difference = static_cast<double>(values.stored[i]) - static_cast<double>(values.wanted[i]);
    const double step =
        std::abs(static_cast<double>(values.steps[i / shape.columns * runs + i % shape.columns / shape.width]));
    expected.changed += difference != 0 ? 1 : 0;
    expected.worst = std::max(expected.worst, std::abs(difference));
    if (step != 0) expected.worst_steps = std::max(expected.worst_steps, std::abs(difference) / step);
    expected.error += static_cast<long double>(difference) * difference;
    expected.source += static_cast<long double>(values.wanted[i]) * values.wanted[i];
  }
  return expected;
}

TEST(MeasureValues, AgreesWithSumsTakenOneByOne) {
  std::mt19937 random(8);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same values on every run, on purpose
  for (const Shape& shape : {Shape{3, 256, 32}, Shape{2, 1024, 16}, Shape{5, 100, 32}, Shape{4, 96, 1}, Shape{2, 77, 7},
                             Shape{2, 1000, 1000}, Shape{3, 640, 272}, Shape{1, 1, 32}}) {
    const Values values = random_values(shape, random);
    const Expected expected = expected_of(values, shape);
    Loss loss;
    measure_values(values.wanted, values.stored, shape.columns, {values.steps, shape.width}, loss);
    EXPECT_EQ(loss.changed, expected.changed) << shape.columns;
    EXPECT_EQ(loss.measured, values.wanted.size());
    EXPECT_EQ(loss.worst, static_cast<double>(static_cast<float>(expected.worst))) << shape.columns;
    EXPECT_FLOAT_EQ(static_cast<float>(loss.worst_steps), static_cast<float>(expected.worst_steps)) << shape.columns;
    EXPECT_NEAR(loss.sum_error, static_cast<double>(expected.error), 1e-6 * static_cast<double>(expected.error));
    EXPECT_NEAR(loss.sum_source, static_cast<double>(expected.source), 1e-6 * static_cast<double>(expected.source));
  }
}

TEST(MeasureValues, DoesNotDependOnHowManyRowsComeTogether) {
  std::mt19937 random(9);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same values on every run, on purpose
  const Shape shape{6, 300, 32};
  const Values values = random_values(shape, random);
  const std::size_t runs = values.steps.size() / shape.rows;
  Loss together;
  measure_values(values.wanted, values.stored, shape.columns, {values.steps, shape.width}, together);
  Loss one_by_one;
  for (std::size_t row = 0; row < shape.rows; ++row) {
    const auto part = [&](const std::vector<float>& all) { return std::span(all).subspan(row * 300, 300); };
    measure_values(part(values.wanted), part(values.stored), shape.columns,
                   {std::span(values.steps).subspan(row * runs, runs), shape.width}, one_by_one);
  }
  EXPECT_EQ(together.sum_error, one_by_one.sum_error);
  EXPECT_EQ(together.sum_source, one_by_one.sum_source);
  EXPECT_EQ(together.worst_steps, one_by_one.worst_steps);
}

TEST(MeasureValues, CountsWhatIsNotFiniteAndSumsTheRest) {
  std::vector<float> wanted(64, 1.0F);
  std::vector<float> stored(64, 1.5F);
  wanted[3] = stored[3] = kNan;
  wanted[7] = stored[7] = kInfinity;
  const std::vector<float> steps(2, 0.25F);
  Loss loss;
  measure_values(wanted, stored, 64, {steps, 32}, loss);
  EXPECT_EQ(loss.changed, 62U);
  EXPECT_EQ(loss.measured, 62U);
  EXPECT_EQ(loss.worst, 0.5);
  EXPECT_EQ(loss.worst_steps, 2.0);
  EXPECT_EQ(loss.sum_error, 62 * 0.25);
  EXPECT_EQ(loss.sum_source, 62.0);

  stored[9] = kInfinity;
  measure_values(wanted, stored, 64, {steps, 32}, loss);
  EXPECT_EQ(loss.worst, std::numeric_limits<double>::infinity());
  EXPECT_EQ(loss.worst_steps, 2.0);
}

TEST(MeasureValues, SumsTinyValuesThatF32WouldLose) {
  const std::vector<float> wanted(256, 1e-30F);
  const std::vector<float> stored(256, 0.0F);
  Loss loss;
  measure_values(wanted, stored, 256, {}, loss);
  EXPECT_EQ(loss.changed, 256U);
  EXPECT_DOUBLE_EQ(loss.relative_error(), 1.0);
  EXPECT_EQ(loss.worst_steps, 0.0);
}

}  // namespace
}  // namespace regauge
