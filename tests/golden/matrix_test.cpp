#include <algorithm>
#include <map>
#include <memory>
#include <ostream>
#include <set>

#include <gtest/gtest.h>

#include "convert/copy_whole.h"
#include "convert/execute.h"
#include "convert/plan.h"
#include "formats/format.h"
#include "models/architecture.h"
#include "tests/support/golden.h"
#include "tests/support/opened.h"
#include "verify/compare.h"
#include "verify/effective.h"

// Every checkpoint of the family into every format and back: each verdict is held against the decoded values, in effective
// form, of what was written.

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::Opened;
using testing::ScratchDir;

std::vector<OpenedPath> paths_of(const std::vector<Opened>& opened) {
  std::vector<OpenedPath> paths;
  for (const Opened& one : opened) paths.push_back(one.path());
  return paths;
}

/// What a run says of a weight: its verdict and the worst error it admits.
struct Verdict {
  Fidelity fidelity = Fidelity::bytes;
  double worst = 0.0;
};

struct Converted {
  std::vector<Opened> outputs;
  std::map<std::string, Verdict> verdicts;  // by canonical name
  std::set<std::string> left_out;
};

Converted convert(const std::vector<Opened>& source, const fs::path& folder, const std::string& format,
                  ConvertOptions options) {
  options.format = format;
  options.allow_dense = true;
  options.eora = EoraPolicy::drop;
  options.directory = format == "safetensors";
  if (format == "safetensors" && !options.dense) options.dense = DType::f32;
  const auto sources = paths_of(source);
  const Plan plan = plan_conversion(sources, folder / (format == "gguf" ? "model.gguf" : "model-" + format), options);
  const Report report = execute(plan, *source.front().checkpoint, options);
  Converted made;
  for (std::size_t o = 0; o < plan.outputs.size(); ++o) {
    made.outputs.emplace_back(report.outputs[o].path);
    for (std::size_t s = 0; s < plan.outputs[o].steps.size(); ++s) {
      const StepResult& result = report.outputs[o].steps[s];
      for (const TargetPiece& piece : plan.outputs[o].targets[s].pieces)
        made.verdicts[piece.canonical] = {result.fidelity, result.loss.worst};
    }
  }
  for (const LeftOut& left : plan.left_out) made.left_out.insert(left.name);
  return made;
}

/// Every weight of `source` is in `made` and as near as its verdict says.
void expect_verdicts_hold(const std::vector<Opened>& source, const Converted& made) {
  const auto wanted = effective_form(paths_of(source));
  const auto found = effective_form(paths_of(made.outputs));
  const Comparison comparison = compare_values(wanted, found);
  EXPECT_EQ(comparison.only_first, std::vector<std::string>{});
  EXPECT_EQ(comparison.only_second, std::vector<std::string>{});
  EXPECT_EQ(comparison.other_shape, std::vector<std::string>{});
  EXPECT_FALSE(comparison.tensors.empty());
  for (const TensorDifference& tensor : comparison.tensors) {
    const auto verdict = made.verdicts.find(tensor.name);
    // A checkpoint that keeps its names has verdicts under those: they are all of bytes or values.
    const bool rounded = verdict != made.verdicts.end() && verdict->second.fidelity == Fidelity::rounded;
    if (rounded) {
      EXPECT_LE(tensor.worst, verdict->second.worst) << tensor.name;
    } else {
      EXPECT_EQ(tensor.different, 0U) << tensor.name << ", off by " << tensor.worst;
    }
  }
}

struct Direction {
  std::string source;
  std::string home;  // the source's own format
  std::string target;

  friend void PrintTo(const Direction& direction, std::ostream* out) {
    *out << direction.source << " to " << direction.target;
  }
};

class Matrix : public ::testing::TestWithParam<Direction> {};

TEST_P(Matrix, VerdictsHoldThereAndBack) {
  const auto& [name, home, target] = GetParam();
  REGAUGE_GOLDEN_OR_SKIP(path, "qwen35_family/" + name);
  const ScratchDir scratch;
  std::vector<Opened> source;
  source.emplace_back(path);
  const Converted there = convert(source, scratch.path(), target, {});
  expect_verdicts_hold(source, there);

  fs::create_directory(scratch / "back");
  const Converted back = convert(there.outputs, scratch / "back", home, {});
  expect_verdicts_hold(there.outputs, back);
}

// Under --require values nothing may be rounded, by no dialect either.
TEST_P(Matrix, RequiredValuesAreTheSourcesValuesThereAndBack) {
  const auto& [name, home, target] = GetParam();
  REGAUGE_GOLDEN_OR_SKIP(path, "qwen35_family/" + name);
  const ScratchDir scratch;
  std::vector<Opened> source;
  source.emplace_back(path);
  if (std::ranges::any_of(source.front().checkpoint->tensors, [](const Tensor& t) { return t.has_low_rank(); }))
    GTEST_SKIP() << "factors are left out, which is no value";
  ConvertOptions options;
  options.require = Fidelity::values;
  const Converted there = convert(source, scratch.path(), target, options);
  fs::create_directory(scratch / "back");
  const Converted back = convert(there.outputs, scratch / "back", home, options);
  const Comparison comparison =
      compare_values(effective_form(paths_of(source)), effective_form(paths_of(back.outputs)));
  EXPECT_TRUE(comparison.only_first.empty() && comparison.only_second.empty() && comparison.other_shape.empty());
  for (const TensorDifference& tensor : comparison.tensors)
    EXPECT_EQ(tensor.different, 0U) << tensor.name << ", off by " << tensor.worst;
}

std::vector<Direction> all_directions() {
  std::vector<Direction> directions;
  for (const auto& [name, home] : std::vector<std::pair<std::string, std::string>>{{"hf-bf16", "safetensors"},
                                                                                   {"gptq-mixed-eora", "gptq"},
                                                                                   {"gptq-int4-g64", "gptq"},
                                                                                   {"gptq-int4-g128-noact", "gptq"},
                                                                                   {"mlx-8865", "mlx"},
                                                                                   {"mlx-4bit", "mlx"}}) {
    for (const char* target : {"gguf", "gptq", "mlx", "safetensors"}) directions.push_back({name, home, target});
  }
  return directions;
}

INSTANTIATE_TEST_SUITE_P(Family, Matrix, ::testing::ValuesIn(all_directions()), [](const auto& test) {
  std::string name = test.param.source + "_" + test.param.target;
  std::ranges::replace(name, '-', '_');
  return name;
});

std::vector<std::byte> array_bytes(const Checkpoint& checkpoint, const StoredArray& array) {
  return checkpoint.files[array.file].file->read_range(array.offset, array.bytes);
}

class FreshWrite : public ::testing::TestWithParam<std::pair<std::string, std::string>> {};

// What GPTQModel and MLX wrote, taken apart and packed again, is what they wrote; and the second write is the first.
TEST_P(FreshWrite, GivesTheArraysThatTheFormatsOwnSoftwareWrote) {
  const auto& [name, format] = GetParam();
  REGAUGE_GOLDEN_OR_SKIP(path, name);
  const ScratchDir scratch;
  const Opened source(path);
  ConvertOptions options;
  options.format = format;
  options.eora = EoraPolicy::drop;
  options.directory = true;
  const auto write = [&](const Opened& from, const fs::path& target) {
    const Plan plan = plan_conversion(*from.checkpoint, from.architecture.get(), target, options);
    execute(plan, *from.checkpoint, options);
    return Opened(target);
  };
  const Opened first = write(source, scratch / "first");
  std::size_t compared = 0;
  for (const StoredArray& array : first.checkpoint->arrays) {
    const StoredArray* original = source.checkpoint->find_array(array.name);
    ASSERT_NE(original, nullptr) << array.name;
    EXPECT_EQ(original->shape, array.shape) << array.name;
    EXPECT_TRUE(array_bytes(*first.checkpoint, array) == array_bytes(*source.checkpoint, *original)) << array.name;
    ++compared;
  }
  EXPECT_GT(compared, 0U);
  const Opened second = write(first, scratch / "second");
  for (const auto& entry : fs::directory_iterator(scratch / "first")) {
    EXPECT_TRUE(testing::read_whole_file(entry.path()) ==
                testing::read_whole_file(scratch / "second" / entry.path().filename()))
        << entry.path().filename();
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, FreshWrite,
                         ::testing::Values(std::pair("qwen35_family/gptq-int4-g64", "gptq"),
                                           std::pair("qwen35_family/gptq-int4-g128-noact", "gptq"),
                                           std::pair("qwen35_family/gptq-mixed-eora", "gptq"),
                                           std::pair("qwen35_family/mlx-8865", "mlx"),
                                           std::pair("qwen35_family/mlx-4bit", "mlx"),
                                           std::pair("qwen35_family/hf-bf16", "safetensors")),
                         [](const auto& test) {
                           std::string name = test.param.first.substr(test.param.first.find('/') + 1);
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

// A model of groups of 128 that went through blocks of 32 is as it was.
TEST(RoundTrip, GptqThroughGgufIsTheSameArrays) {
  REGAUGE_GOLDEN_OR_SKIP(path, "qwen35_family/gptq-int4-g128-noact");
  const ScratchDir scratch;
  std::vector<Opened> source;
  source.emplace_back(path);
  const Converted there = convert(source, scratch.path(), "gguf", {});
  fs::create_directory(scratch / "back");
  const Converted back = convert(there.outputs, scratch / "back", "gptq", {});
  for (const StoredArray& array : source.front().checkpoint->arrays) {
    const StoredArray* again = back.outputs.front().checkpoint->find_array(array.name);
    ASSERT_NE(again, nullptr) << array.name;
    EXPECT_TRUE(array_bytes(*source.front().checkpoint, array) == array_bytes(*back.outputs.front().checkpoint, *again))
        << array.name;
  }
}

TEST(RoundTrip, HuggingFaceThroughGgufIsTheSameArrays) {
  REGAUGE_GOLDEN_OR_SKIP(path, "qwen35_family/hf-bf16");
  const ScratchDir scratch;
  std::vector<Opened> source;
  source.emplace_back(path);
  const Converted there = convert(source, scratch.path(), "gguf", {});
  ConvertOptions options;
  options.format = "safetensors";
  options.directory = true;
  const auto sources = paths_of(there.outputs);
  const Plan plan = plan_conversion(sources, scratch / "back", options);
  execute(plan, *there.outputs.front().checkpoint, options);
  const Opened back(scratch / "back");
  ASSERT_EQ(back.checkpoint->arrays.size(), source.front().checkpoint->arrays.size());
  for (const StoredArray& array : source.front().checkpoint->arrays) {
    const StoredArray* again = back.checkpoint->find_array(array.name);
    ASSERT_NE(again, nullptr) << array.name;
    EXPECT_TRUE(array_bytes(*source.front().checkpoint, array) == array_bytes(*back.checkpoint, *again)) << array.name;
  }
}

}  // namespace
}  // namespace regauge
