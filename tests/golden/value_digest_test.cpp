#include "verify/value_digest.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "convert/execute.h"
#include "convert/plan.h"
#include "formats/format.h"
#include "tests/support/command.h"
#include "tests/support/golden.h"
#include "verify/compare.h"

// One model in several formats has one value digest for each part that they share.

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::ScratchDir;

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
  ValueDigests digests() const { return value_digests(opened_); }

 private:
  std::vector<std::unique_ptr<Checkpoint>> checkpoints_;
  std::vector<std::unique_ptr<const Architecture>> architectures_;
  std::vector<OpenedPath> opened_;
};

std::vector<fs::path> convert(const Model& source, const fs::path& target, ConvertOptions options) {
  options.overwrite = true;
  const Plan plan = plan_conversion(source.paths(), target, options);
  const Report report = execute(plan, *source.paths().front().checkpoint, options);
  std::vector<fs::path> made;
  for (const OutputResult& output : report.outputs) made.push_back(output.path);
  return made;
}

ConvertOptions to(const std::string& format) {
  ConvertOptions options;
  options.format = format;
  options.require = Fidelity::values;
  return options;
}

/// Names of tensors that both have and whose digests differ.
std::set<std::string> differing(const ValueDigests& a, const ValueDigests& b) {
  std::set<std::string> names;
  for (const auto& [name, digest] : a.tensors) {
    const auto other = b.tensors.find(name);
    if (other != b.tensors.end() && other->second != digest) names.insert(name);
  }
  return names;
}

// An independent repack stores ssm_a by numpy's f32 exp, up to two steps away: those tensors and no others differ.
TEST(ValueDigestGolden, OfAForeignRepackDiffersInDecaysAlone) {
  REGAUGE_GOLDEN_OR_SKIP(source_path, "qwen35_family/gptq-int4-g128-noact");
  REGAUGE_GOLDEN_OR_SKIP(golden_path, "qwen35_family/gptq-int4-g128-noact.gguf");
  const Model source({source_path});
  const Model repack({golden_path});
  const ValueDigests ours = source.digests();
  const ValueDigests theirs = repack.digests();
  for (const std::string& name : differing(ours, theirs)) EXPECT_TRUE(name.ends_with(".linear_attn.A_log")) << name;
  const Comparison comparison = compare_values(effective_form(source.paths()), effective_form(repack.paths()));
  std::size_t decays = 0;
  for (const TensorDifference& difference : comparison.tensors) {
    EXPECT_LE(difference.worst_ulps, difference.name.ends_with(".linear_attn.A_log") ? 2U : 0U) << difference.name;
    const bool same = ours.tensors.at(difference.name) == theirs.tensors.at(difference.name);
    EXPECT_EQ(same, difference.different == 0) << difference.name;
    decays += same ? 0 : 1;
  }
  EXPECT_EQ(ours.roots.at("text") == theirs.roots.at("text"), decays == 0);
  // Every weight of the text model is in both.
  EXPECT_TRUE(std::ranges::all_of(theirs.tensors, [&](const auto& leaf) { return ours.tensors.contains(leaf.first); }));
}

TEST(ValueDigestGolden, OfLlamaCppsConversionIsThatOfItsSource) {
  REGAUGE_GOLDEN_OR_SKIP(source_path, "qwen35_family/hf-bf16");
  REGAUGE_GOLDEN_OR_SKIP(model_path, "qwen35_family/hf-bf16.gguf");
  REGAUGE_GOLDEN_OR_SKIP(mmproj_path, "qwen35_family/hf-bf16.mmproj.gguf");
  const ValueDigests source = Model({source_path}).digests();
  const ValueDigests made = Model({model_path, mmproj_path}).digests();
  for (const std::string& name : differing(source, made)) EXPECT_TRUE(name.ends_with(".A_log")) << name;
  EXPECT_EQ(source.roots.at("mtp"), made.roots.at("mtp"));
  EXPECT_EQ(source.roots.at("vision"), made.roots.at("vision"));
  EXPECT_EQ(source.tensors.size(), made.tensors.size());
}

TEST(ValueDigestGolden, SurvivesTheWayThroughMlxAndGguf) {
  REGAUGE_GOLDEN_OR_SKIP(source_path, "qwen35_family/gptq-int4-g128-noact");
  const ScratchDir scratch;
  const Model source({source_path});
  const ValueDigests wanted = source.digests();
  const Model mlx(convert(source, scratch / "mlx", to("mlx")));
  EXPECT_EQ(mlx.digests().roots, wanted.roots);
  const Model gguf(convert(mlx, scratch / "model.gguf", to("gguf")));
  EXPECT_EQ(gguf.digests().roots, wanted.roots);
  const Model back(convert(gguf, scratch / "gptq", to("gptq")));
  EXPECT_EQ(back.digests().roots, wanted.roots);
  EXPECT_EQ(back.digests().model, wanted.model);
}

// Folding act-order away moves columns and rows about; the order is recorded, so the values are found again.
TEST(ValueDigestGolden, SeesThroughARecordedPermutation) {
  REGAUGE_GOLDEN_OR_SKIP(source_path, "qwen35_family/gptq-int4-g64");
  const ScratchDir scratch;
  const Model source({source_path});
  ConvertOptions options = to("gguf");
  options.allow_dense = true;
  const Model made(convert(source, scratch / "model.gguf", options));
  EXPECT_EQ(made.digests().roots, source.digests().roots);
}

// EoRA factors lie inside a directory of the checkpoint, or in a GGUF adapter whose value heads are in another order.
TEST(ValueDigestGolden, OfAnAdapterIsThatOfItsDirectory) {
  REGAUGE_GOLDEN_OR_SKIP(source_path, "qwen35_family/gptq-mixed-eora");
  REGAUGE_GOLDEN_OR_SKIP(adapter_path, "qwen35_family/gptq-mixed-eora.adapter.gguf");
  const ValueDigests wanted = Model({source_path}).digests();
  ASSERT_TRUE(wanted.roots.contains("adapter"));
  const Checkpoint base = [&] {
    OpenOptions options;
    options.find_adapter = false;
    return open_checkpoint(source_path, options);
  }();
  const auto architecture = recognise(base);
  const Model adapter({adapter_path});
  const std::vector<OpenedPath> together{{&base, architecture.get()}, adapter.paths().front()};
  const ValueDigests apart = value_digests(together);
  EXPECT_EQ(apart.roots, wanted.roots);
}

// The records of tests/golden/data/value_digests are what the script says today.
TEST(ValueDigestGolden, RecordsAreTheIndependentProgramsOwn) {
  const std::string python = "/usr/bin/python3";
  if (testing::run_command({python, "-c", "import xxhash"}).exit_code != 0) GTEST_SKIP() << "no python3-xxhash here";
  for (const std::string sample : {"qwen35-bf16-tiny", "qwen35-gptq-int4"}) {
    REGAUGE_GOLDEN_OR_SKIP(recorded, "value_digests/" + sample + ".txt");
    const auto result = testing::run_command({python, testing::sample_path("../tests/golden/value_digests.py").string(),
                                              testing::sample_path(sample).string()});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const auto bytes = testing::read_whole_file(recorded);
    EXPECT_EQ(result.out, std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  }
}

}  // namespace
}  // namespace regauge
