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

/// One line of tests/golden/error_metrics.py.
struct NumpyLine {
  std::string name;
  std::uint64_t different = 0;
  double worst = 0;
  std::uint64_t at = 0;
  double rmse = 0;
  double relative = 0;
  double snr = 0;
  double cosine = 0;
  double worst_steps = 0;
  double rms_steps = 0;
};

std::istream& operator>>(std::istream& in, NumpyLine& line) {
  return in >> line.name >> line.different >> line.worst >> line.at >> line.rmse >> line.relative >> line.snr >>
         line.cosine >> line.worst_steps >> line.rms_steps;
}

void expect_measures(const Measured& own, const NumpyLine& numpy) {
  SCOPED_TRACE(numpy.name);
  EXPECT_EQ(own.different, numpy.different);
  EXPECT_EQ(own.worst, numpy.worst);
  EXPECT_EQ(own.worst_at, numpy.at);
  EXPECT_EQ(own.worst_steps, numpy.worst_steps);
  // Sums in another order.
  EXPECT_NEAR(own.rmse(), numpy.rmse, 1e-12 * numpy.rmse);
  EXPECT_NEAR(own.relative_error(), numpy.relative, 1e-12 * numpy.relative);
  EXPECT_NEAR(own.signal_to_noise(), numpy.snr, 1e-10);
  EXPECT_NEAR(own.cosine(), numpy.cosine, 1e-12);
  EXPECT_NEAR(own.rms_steps(), numpy.rms_steps, 1e-12 * numpy.rms_steps);
}

struct Variant {
  const char* name;
  std::size_t modules;
};

class DiffGoldenOf : public ::testing::TestWithParam<Variant> {};

// numpy computes every measure of every quantized matrix from its own decoding.
TEST_P(DiffGoldenOf, MeasuresAreThoseOfNumpy) {
  REGAUGE_GOLDEN_OR_SKIP(candidate, std::string("qwen35_family/") + GetParam().name);
  REGAUGE_GOLDEN_OR_SKIP(reference, "qwen35_family/hf-bf16");
  const std::string python = "/usr/bin/python3";
  if (testing::run_command({python, "-c", "import numpy"}).exit_code != 0) GTEST_SKIP() << "no python3-numpy here";
  const auto script = testing::sample_path("../tests/golden/error_metrics.py");
  const auto lines = testing::run_command({python, "-B", script.string(), candidate.string(), reference.string()});
  ASSERT_EQ(lines.exit_code, 0) << lines.err;
  const Diff result = diff(Model({candidate}).paths(), Model({reference}).paths());
  std::map<std::string, const Measured*> measured;
  for (const TensorDiff& one : result.tensors) measured.emplace(one.name, &one.measured);
  std::istringstream in(lines.out);
  std::size_t compared = 0;
  for (NumpyLine line; in >> line; ++compared) {
    ASSERT_TRUE(measured.contains(line.name)) << line.name;
    expect_measures(*measured.at(line.name), line);
  }
  EXPECT_EQ(compared, GetParam().modules);
}

INSTANTIATE_TEST_SUITE_P(Family, DiffGoldenOf,
                         ::testing::Values(Variant{"gptq-int4-g128-noact", 25}, Variant{"gptq-int4-g64", 25},
                                           Variant{"gptq-mixed-eora", 25}, Variant{"mlx-4bit", 33},
                                           Variant{"mlx-8865", 33}),
                         [](const auto& param) {
                           std::string name = param.param.name;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace regauge
