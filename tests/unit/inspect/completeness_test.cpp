#include "inspect/completeness.h"

#include <gtest/gtest.h>

namespace regauge::inspect {
namespace {

ExpectedSlot slot(std::string role, int layer, int expert = -1) {
  return {Slot{Component::mlp, layer, expert, std::move(role)}, Shape{1}, DType::bf16, false};
}

TEST(DescribeNumbers, JoinsNeighboursIntoRuns) {
  EXPECT_EQ(describe_numbers({}), "");
  EXPECT_EQ(describe_numbers({4}), "4");
  EXPECT_EQ(describe_numbers({0, 1, 2, 7, 9, 10}), "0-2, 7, 9-10");
}

TEST(DescribeSlots, GroupsBlocksOfOneKind) {
  EXPECT_EQ(describe_slots({slot("up", 3), slot("up", 1), slot("up", 2), slot("head", -1)}, 5),
            "up (layers 1-3), head");
  EXPECT_EQ(describe_slots({slot("up", 3)}, 5), "up (layer 3)");
}

TEST(DescribeSlots, CountsExpertsInsteadOfNamingThem) {
  EXPECT_EQ(describe_slots({slot("gate", 0, 0), slot("gate", 0, 1), slot("gate", 1, 0)}, 5),
            "gate (layers 0-1, 3 experts' matrices)");
}

TEST(DescribeSlots, NamesTheFirstKindsOnly) {
  EXPECT_EQ(describe_slots({slot("a", -1), slot("b", -1), slot("c", -1)}, 2), "a, b and 1 more kinds");
}

}  // namespace
}  // namespace regauge::inspect
