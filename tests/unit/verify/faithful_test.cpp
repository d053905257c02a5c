#include "verify/faithful.h"

#include <limits>

#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/tensors.h"

namespace regauge {
namespace {

using testing::dense_tensor;

Faithfulness judged(std::vector<Tensor> candidate, std::vector<Tensor> reference, const std::vector<Gate>& gates) {
  Checkpoint first;
  first.tensors = std::move(candidate);
  Checkpoint second;
  second.tensors = std::move(reference);
  const DiffOptions options{.only = "", .keys = false, .decode_all = true, .threads = 2};
  return judge(diff(std::vector{OpenedPath{&first, nullptr}}, std::vector{OpenedPath{&second, nullptr}}, options),
               gates);
}

Tensor vector_of(const std::string& name, float a, float b) { return dense_tensor(name, Shape{2}, std::vector{a, b}); }

// 5 over 10 in one tensor; over both, 5 over the root of 200.
TEST(Faithful, SumsOverAllTensorsAndNotOverThoseThatDiffer) {
  const Faithfulness result =
      judged({vector_of("x", 9, 12), vector_of("y", 6, 8)}, {vector_of("x", 6, 8), vector_of("y", 6, 8)}, {});
  EXPECT_DOUBLE_EQ(result.whole.relative_error(), 5 / std::sqrt(200.0));
  EXPECT_EQ(result.whole.elements, 4U);
  EXPECT_TRUE(result.passed());
}

TEST(Faithful, GatesOfTheModelAComponentAndEachTensorAreKeptApart) {
  const auto result_with = [](const char* bound) {
    return judged({vector_of("x", 9, 12), vector_of("y", 6, 8)}, {vector_of("x", 6, 8), vector_of("y", 6, 8)},
                  {parse_gate(Gate::Bound::max_relative_error, bound)});
  };
  EXPECT_TRUE(result_with("0.36").passed());
  EXPECT_FALSE(result_with("0.35").passed());
  EXPECT_TRUE(result_with("other=0.36").passed());
  EXPECT_TRUE(result_with("text=0.36").passed());
  EXPECT_FALSE(result_with("text=0.35").passed());
  const Faithfulness each = result_with("tensor=0.36");
  ASSERT_EQ(each.broken.size(), 1U);
  EXPECT_EQ(each.broken.front().where, "x");
  EXPECT_DOUBLE_EQ(each.broken.front().measured, 0.5);
  // A gate that guards nothing does not hold.
  EXPECT_EQ(result_with("mlp=1").idle, std::vector<std::string>{"mlp"});
  EXPECT_FALSE(result_with("mlp=1").passed());
}

TEST(Faithful, AnExactCandidatePassesEverySignalGate) {
  EXPECT_TRUE(judged({vector_of("x", 1, 2)}, {vector_of("x", 1, 2)},
                     {parse_gate(Gate::Bound::min_signal_to_noise, "tensor=200")})
                  .passed());
}

TEST(Faithful, ANanWhereTheReferenceHasANumberBreaksEveryGate) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const auto bound : {Gate::Bound::max_relative_error, Gate::Bound::min_signal_to_noise}) {
    const auto limit = bound == Gate::Bound::max_relative_error ? "1000" : "-1000";
    EXPECT_FALSE(judged({vector_of("x", nan, 2)}, {vector_of("x", 1, 2)}, {parse_gate(bound, limit)}).passed());
  }
}

TEST(Faithful, AMissingWeightFailsAndOneMoreDoesNot) {
  EXPECT_FALSE(judged({vector_of("x", 1, 2)}, {vector_of("x", 1, 2), vector_of("y", 1, 3)}, {}).passed());
  EXPECT_TRUE(judged({vector_of("x", 1, 2), vector_of("y", 1, 3)}, {vector_of("x", 1, 2)}, {}).passed());
}

TEST(Faithful, GatesThatAreNoneAreRefused) {
  for (const char* text : {"", "x", "0.1x", "foo=0.1", "mlp=", "mlp", "nan", "=1"}) {
    try {
      parse_gate(Gate::Bound::max_relative_error, text);
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid) << text;
    }
  }
}

}  // namespace
}  // namespace regauge
