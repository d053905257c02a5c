#include "verify/diff.h"

#include <algorithm>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "formats/format.h"
#include "models/architecture.h"
#include "tests/support/command.h"
#include "tests/support/golden.h"

// Files that other people's converters made, against their sources.

namespace regauge {
namespace {

namespace fs = std::filesystem;

/// A model in one or several files.
class Model {
 public:
  explicit Model(const std::vector<fs::path>& paths) {
    for (const fs::path& path : paths) {
      checkpoints_.push_back(std::make_unique<Checkpoint>(open_checkpoint(path)));
      architectures_.push_back(recognise(*checkpoints_.back()));
      opened_.push_back({checkpoints_.back().get(), architectures_.back().get()});
    }
  }
  const std::vector<OpenedPath>& paths() const { return opened_; }

 private:
  std::vector<std::unique_ptr<Checkpoint>> checkpoints_;
  std::vector<std::unique_ptr<const Architecture>> architectures_;
  std::vector<OpenedPath> opened_;
};

// Weights, configuration and tokenizer: llama.cpp's converter wrote the keys, ours are made from the directory.
TEST(DiffGolden, OfLlamaCppsConversionFindsDialectAlone) {
  REGAUGE_GOLDEN_OR_SKIP(source, "qwen35_family/hf-bf16");
  REGAUGE_GOLDEN_OR_SKIP(model, "qwen35_family/hf-bf16.gguf");
  REGAUGE_GOLDEN_OR_SKIP(mmproj, "qwen35_family/hf-bf16.mmproj.gguf");
  const Diff result = diff(Model({source}).paths(), Model({model, mmproj}).paths());
  EXPECT_TRUE(result.unread.empty());
  for (const KeyDiff& key : result.keys) EXPECT_FALSE(key.counted) << key.where << " " << key.key;
  EXPECT_EQ(result.sense(), Likeness::dialect);
  EXPECT_EQ(result.tensors.size(), 105U);
}

TEST(DiffGolden, OfAQuantizedChildFindsEveryQuantizedModule) {
  REGAUGE_GOLDEN_OR_SKIP(source, "qwen35_family/hf-bf16");
  REGAUGE_GOLDEN_OR_SKIP(child, "qwen35_family/mlx-4bit");
  const Model quantized({child});
  const Diff result = diff(Model({source}).paths(), quantized.paths(), {.only = "mlp", .keys = true, .threads = 0});
  for (const TensorDiff& one : result.tensors) {
    if (one.name.starts_with("mtp.")) continue;
    EXPECT_EQ(one.likeness, Likeness::different) << one.name;
    // Four bits of weights with heavy tails: neither equal nor noise.
    EXPECT_GT(one.measured.relative_error(), 0.02) << one.name;
    EXPECT_LT(one.measured.relative_error(), 0.2) << one.name;
  }
  EXPECT_TRUE(result.keys.empty());
}

TEST(DiffGolden, NamesFusedExpertsAndCountsThemEqual) {
  REGAUGE_GOLDEN_OR_SKIP(source, "qwen35_tiny_moe/hf");
  REGAUGE_GOLDEN_OR_SKIP(model, "qwen35_tiny_moe/tiny-mtp.gguf");
  const Diff result = diff(Model({source}).paths(), Model({model}).paths());
  for (const TensorDiff& one : result.tensors) EXPECT_NE(one.likeness, Likeness::different) << one.name;
  EXPECT_TRUE(std::ranges::any_of(result.dialect, [](const DialectNote& note) {
    return note.what == "several weights share an array in B and have their own in A";
  }));
}

// numpy computes every measure of every quantized matrix from its own decoding.
TEST(DiffGolden, MeasuresAreThoseOfNumpy) {
  REGAUGE_GOLDEN_OR_SKIP(candidate, "qwen35_family/gptq-int4-g128-noact");
  REGAUGE_GOLDEN_OR_SKIP(reference, "qwen35_family/hf-bf16");
  const std::string python = "/usr/bin/python3";
  if (testing::run_command({python, "-c", "import numpy, xxhash"}).exit_code != 0)
    GTEST_SKIP() << "no python3-numpy and python3-xxhash here";
  const auto script = testing::sample_path("../tests/golden/error_metrics.py");
  const auto lines = testing::run_command({python, "-B", script.string(), candidate.string(), reference.string()});
  ASSERT_EQ(lines.exit_code, 0) << lines.err;
  const Diff result = diff(Model({candidate}).paths(), Model({reference}).paths());
  std::map<std::string, const Measured*> measured;
  for (const TensorDiff& one : result.tensors) measured.emplace(one.name, &one.measured);
  std::istringstream in(lines.out);
  std::size_t compared = 0;
  std::string name;
  std::uint64_t different = 0;
  std::uint64_t at = 0;
  double worst = 0;
  double rmse = 0;
  double relative = 0;
  double snr = 0;
  double cosine = 0;
  while (in >> name >> different >> worst >> at >> rmse >> relative >> snr >> cosine) {
    ASSERT_TRUE(measured.contains(name)) << name;
    const Measured& own = *measured.at(name);
    EXPECT_EQ(own.different, different) << name;
    EXPECT_EQ(own.worst, worst) << name;
    EXPECT_EQ(own.worst_at, at) << name;
    // Sums in another order.
    EXPECT_NEAR(own.rmse(), rmse, 1e-12 * rmse) << name;
    EXPECT_NEAR(own.relative_error(), relative, 1e-12 * relative) << name;
    EXPECT_NEAR(own.signal_to_noise(), snr, 1e-10) << name;
    EXPECT_NEAR(own.cosine(), cosine, 1e-12) << name;
    ++compared;
  }
  EXPECT_EQ(compared, 25U);
}

}  // namespace
}  // namespace regauge
