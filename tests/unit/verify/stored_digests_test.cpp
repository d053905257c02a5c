#include "convert/stored_digests.h"

#include <gtest/gtest.h>

#include "convert/execute.h"
#include "formats/format.h"
#include "tests/support/golden.h"
#include "verify/checksum.h"

// Digests of an output that were taken while it was written, against those of reading it.

namespace regauge {
namespace {

using testing::ScratchDir;

Report converted(const std::string& format, const std::filesystem::path& target, int threads) {
  const Checkpoint source = open_checkpoint(testing::sample_path("qwen35-gptq-int4"));
  const auto architecture = recognise(source);
  ConvertOptions options;
  options.format = format;
  options.digests = true;
  options.threads = threads;
  return execute(plan_conversion(source, architecture.get(), target, options), source, options);
}

TEST(StoredDigestsOfARun, AreThoseOfReadingTheOutputs) {
  const ScratchDir scratch;
  for (const int threads : {1, 3}) {
    const Report report = converted("gguf", scratch / (std::to_string(threads) + ".gguf"), threads);
    ASSERT_EQ(report.outputs.size(), 2U);
    for (const OutputResult& output : report.outputs) {
      ASSERT_TRUE(output.stored) << output.path;
      const Checkpoint written = open_checkpoint(output.path);
      const auto sums = sums_of_written(written, *output.stored);
      ASSERT_TRUE(sums);
      EXPECT_EQ(render_lines(*sums), render_lines(checksum(written, {{DigestAlgorithm::xxh3_128}, false, 1})));
      EXPECT_GT(sums->arrays.size(), 30U);
    }
  }
}

TEST(StoredDigestsOfARun, AreNotClaimedOfArraysThatComeInPieces) {
  const ScratchDir scratch;
  EXPECT_FALSE(converted("mlx", scratch / "mlx", 2).outputs.front().stored);
}

TEST(StoredDigestsOfARun, AreNotTakenForAnotherFiles) {
  const ScratchDir scratch;
  const Report report = converted("gguf", scratch / "model.gguf", 2);
  EXPECT_FALSE(sums_of_written(open_checkpoint(report.outputs[1].path), *report.outputs[0].stored));
}

}  // namespace
}  // namespace regauge
