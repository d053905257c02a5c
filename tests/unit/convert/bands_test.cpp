#include "convert/bands.h"

#include <cstring>

#include <gtest/gtest.h>

#include "base/error.h"
#include "convert/memory.h"
#include "convert/route/copy.h"
#include "convert/route/reencode_dense.h"
#include "tests/support/tensors.h"
#include "tests/unit/convert/targets.h"

namespace regauge {
namespace {

TEST(Strip, OfRowsIsOneRun) {
  const StepArray array{{"w", DType::bf16, Shape{10, 6}}, BandLayout::rows};
  const Strip strip = strip_of(array, {2, 5}, 10);
  EXPECT_EQ(strip.offset, 2U * 6 * 2);
  EXPECT_EQ(strip.bytes, 3U * 6 * 2);
  EXPECT_EQ(strip.count, 1U);
}

TEST(Strip, OfATransposeIsAPieceOfEveryStoredRow) {
  // GPTQ's qweight of 64 outputs x 128 inputs at 4 bits: [16, 64] words.
  const StepArray array{{"qweight", DType::i32, Shape{16, 64}}, BandLayout::columns};
  const Strip strip = strip_of(array, {32, 64}, 64);
  EXPECT_EQ(strip.offset, 32U * 4);
  EXPECT_EQ(strip.bytes, 32U * 4);
  EXPECT_EQ(strip.stride, 64U * 4);
  EXPECT_EQ(strip.count, 16U);
}

TEST(Strip, OfAWholeArrayGoesWithTheFirstBand) {
  const StepArray array{{"g_idx", DType::i32, Shape{128}}, BandLayout::whole};
  EXPECT_EQ(strip_of(array, {0, 32}, 64).total(), 512U);
  EXPECT_EQ(strip_of(array, {32, 64}, 64).total(), 0U);
}

/// A plan of one F32 matrix that goes to BF16.
Plan plan_of(const Tensor& tensor, std::int64_t quantum) {
  Plan plan;
  PlannedOutput& output = plan.outputs.emplace_back();
  output.targets.push_back(testing::whole(tensor));
  Step& step = output.steps.emplace_back();
  step.name = tensor.name;
  step.arrays.push_back({{tensor.name, DType::bf16, tensor.shape}, BandLayout::rows});
  step.route = Route::reencode;
  step.quantum = quantum;
  step.maker = make_dense(output.targets.front(), DType::bf16);
  return plan;
}

class Memory : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kMiB = 1 << 20;
  Tensor tensor_ = testing::dense_tensor("w", Shape{2048, 512}, std::vector<float>(2048 * 512));
};

TEST_F(Memory, BandsOfLessMemoryAreLowerAndWholeQuanta) {
  const Plan plan = plan_of(tensor_, 32);
  const Step& step = plan.outputs.front().steps.front();
  const Target& target = plan.outputs.front().targets.front();
  std::int64_t last = 0;
  for (const std::uint64_t bytes : {std::uint64_t{1}, kMiB, 4 * kMiB, 64 * kMiB}) {
    const std::int64_t height = band_height(step, target, bytes, false);
    EXPECT_GE(height, last);
    EXPECT_GE(height, 32);
    EXPECT_EQ(height % 32, 0);
    if (height > 32) {
      EXPECT_LE(band_bytes(step, target, height, false), bytes);
    }
    last = height;
  }
  EXPECT_EQ(last, step.maker->band_rows()) << "no higher than the maker likes";
}

TEST_F(Memory, CheckingNeedsMore) {
  const Plan plan = plan_of(tensor_, 1);
  const Step& step = plan.outputs.front().steps.front();
  const Target& target = plan.outputs.front().targets.front();
  // The band once more, and its values twice.
  EXPECT_GE(band_bytes(step, target, 100, true), band_bytes(step, target, 100, false) + 100 * 512 * (2 + 4 + 4));
}

TEST_F(Memory, IsSharedByAsManyWorkersAsItFeeds) {
  const Plan plan = plan_of(tensor_, 1);
  ConvertOptions options;
  options.threads = 16;
  EXPECT_EQ(share_memory(plan, options, 0).workers, 16);
  int last = 17;
  for (const std::uint64_t mib : {std::uint64_t{4096}, std::uint64_t{64}, std::uint64_t{32}, std::uint64_t{16}}) {
    options.max_memory = mib * kMiB;
    const MemoryShare share = share_memory(plan, options, kMiB);
    EXPECT_LE(share.workers, last);
    EXPECT_LT(static_cast<std::uint64_t>(share.workers) * share.worker_bytes, options.max_memory);
    last = share.workers;
  }
  EXPECT_LT(last, 4);
}

TEST_F(Memory, ThatHoldsNoBandIsRefusedWithWhatItTakes) {
  const Plan plan = plan_of(tensor_, 1024);
  ConvertOptions options;
  options.max_memory = 10 * kMiB;
  try {
    share_memory(plan, options, 2 * kMiB);
    FAIL() << "1024 rows of 512 values take more";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid);
    EXPECT_EQ(error.tensor_name(), "w");
    // What it asks for is enough.
    const auto words = error.message();
    options.max_memory = std::stoull(words.substr(words.find("enough: ") + 8));
    EXPECT_EQ(share_memory(plan, options, 2 * kMiB).workers, 1);
  }
}

TEST(AnonymousMemory, GrowsWithWhatIsTouched) {
  const std::uint64_t before = anonymous_bytes();
  ASSERT_GT(before, 0U);
  std::vector<std::byte> buffer(64 << 20, std::byte{1});
  EXPECT_GE(anonymous_bytes(), before + (60 << 20));
  EXPECT_EQ(buffer.back(), std::byte{1});
}

}  // namespace
}  // namespace regauge
