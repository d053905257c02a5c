#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "convert/execute.h"
#include "convert/plan.h"
#include "formats/format.h"
#include "models/architecture.h"
#include "models/original_values.h"
#include "tests/support/golden.h"
#include "verify/compare.h"
#include "verify/effective.h"

// Conversions to GGUF against files that llama.cpp's own converter and an independent repack made: the same keys, types,
// shapes and bytes, and every written tensor equal to its source in effective form.

namespace regauge {
namespace {

using testing::ScratchDir;

struct Opened {
  Checkpoint checkpoint;
  std::unique_ptr<const Architecture> architecture;

  explicit Opened(const std::filesystem::path& path)
      : checkpoint(open_checkpoint(path)), architecture(recognise(checkpoint)) {}
  OpenedPath path() const { return {&checkpoint, architecture.get()}; }
};

Report convert(const Opened& source, const std::filesystem::path& target, ConvertOptions options = {}) {
  options.format = target.extension() == ".gguf" ? "gguf" : "safetensors";
  options.overwrite = true;
  const Plan plan = plan_conversion(source.checkpoint, source.architecture.get(), target, options);
  return execute(plan, source.checkpoint, options);
}

std::vector<std::byte> array_bytes(const Checkpoint& checkpoint, const StoredArray& array) {
  return checkpoint.files[array.file].file->read_range(array.offset, array.bytes);
}

std::uint64_t ulps(const std::vector<std::byte>& a, const std::vector<std::byte>& b) {
  std::uint64_t worst = 0;
  for (std::size_t i = 0; i < a.size(); i += 4) {
    worst = std::max<std::uint64_t>(
        worst, static_cast<std::uint64_t>(std::abs(static_cast<std::int64_t>(load_le<std::int32_t>(a.data() + i)) -
                                                   load_le<std::int32_t>(b.data() + i))));
  }
  return worst;
}

void expect_same_keys(const Checkpoint& golden, const Checkpoint& made, const std::set<std::string>& aside) {
  std::vector<std::string> golden_keys;
  std::vector<std::string> made_keys;
  for (const auto& [key, value] : golden.metadata.entries()) {
    if (!aside.contains(key)) golden_keys.push_back(key);
  }
  for (const auto& [key, value] : made.metadata.entries()) {
    // For the way back; llama.cpp's converter has nothing like it.
    if (aside.contains(key) || parse_original_key(key)) continue;
    made_keys.push_back(key);
    const MetaValue* expected = golden.metadata.find(key);
    if (expected == nullptr) continue;
    EXPECT_TRUE(value == *expected) << key << ": " << to_string(value) << ", golden " << to_string(*expected);
  }
  EXPECT_EQ(made_keys, golden_keys);
}

void expect_same_arrays(const Checkpoint& golden, const Checkpoint& made) {
  EXPECT_EQ(golden.arrays.size(), made.arrays.size());
  std::size_t compared = 0;
  for (const StoredArray& expected : golden.arrays) {
    const StoredArray* array = made.find_array(expected.name);
    ASSERT_NE(array, nullptr) << expected.name;
    EXPECT_EQ(element_name(*array), element_name(expected)) << expected.name;
    EXPECT_EQ(to_string(array->shape), to_string(expected.shape)) << expected.name;
    const auto golden_bytes = array_bytes(golden, expected);
    const auto made_bytes = array_bytes(made, *array);
    if (expected.name.ends_with(".ssm_a")) {
      EXPECT_LE(ulps(golden_bytes, made_bytes), 2U) << expected.name;
    } else {
      EXPECT_EQ(golden_bytes, made_bytes) << expected.name;
    }
    ++compared;
  }
  ::testing::Test::RecordProperty("arrays_compared", static_cast<int>(compared));
}

void expect_same_model(const std::map<std::string, Target>& source, const std::map<std::string, Target>& made) {
  const Comparison comparison = compare_values(source, made);
  EXPECT_TRUE(comparison.only_first.empty()) << comparison.only_first.front();
  EXPECT_TRUE(comparison.only_second.empty()) << comparison.only_second.front();
  EXPECT_TRUE(comparison.other_shape.empty());
  for (const TensorDifference& difference : comparison.tensors) EXPECT_EQ(difference.different, 0U) << difference.name;
  EXPECT_FALSE(comparison.tensors.empty());
}

void expect_same_model(std::span<const OpenedPath> source, std::span<const OpenedPath> made) {
  expect_same_model(effective_form(source), effective_form(made));
}

const std::set<std::string> kNamesAside{"general.name", "general.size_label"};

TEST(GgufGolden, Bf16CheckpointEqualsLlamaCppsConverter) {
  REGAUGE_GOLDEN_OR_SKIP(source_path, "qwen35_family/hf-bf16");
  REGAUGE_GOLDEN_OR_SKIP(golden_path, "qwen35_family/hf-bf16.gguf");
  REGAUGE_GOLDEN_OR_SKIP(mmproj_path, "qwen35_family/hf-bf16.mmproj.gguf");
  const ScratchDir scratch;
  const Opened source(source_path);
  convert(source, scratch / "model.gguf");
  const Opened model(scratch / "model.gguf");
  const Opened mmproj(scratch / "mmproj-model.gguf");
  const Checkpoint golden = open_checkpoint(golden_path);
  expect_same_keys(golden, model.checkpoint, kNamesAside);
  expect_same_arrays(golden, model.checkpoint);
  const Checkpoint golden_mmproj = open_checkpoint(mmproj_path);
  expect_same_keys(golden_mmproj, mmproj.checkpoint, kNamesAside);
  expect_same_arrays(golden_mmproj, mmproj.checkpoint);
  // The size labels count the same elements, so they agree as well.
  for (const char* key : {"general.size_label"}) {
    EXPECT_EQ(model.checkpoint.metadata.get_string(key), golden.metadata.get_string(key));
    EXPECT_EQ(mmproj.checkpoint.metadata.get_string(key), golden_mmproj.metadata.get_string(key));
  }
  expect_same_model(std::vector{source.path()}, std::vector{model.path(), mmproj.path()});
}

TEST(GgufGolden, ContiguousGptqEqualsTheLosslessRepack) {
  REGAUGE_GOLDEN_OR_SKIP(source_path, "qwen35_family/gptq-int4-g128-noact");
  REGAUGE_GOLDEN_OR_SKIP(golden_path, "qwen35_family/gptq-int4-g128-noact.gguf");
  const ScratchDir scratch;
  const Opened source(source_path);
  const Report report = convert(source, scratch / "model.gguf");
  const Opened model(scratch / "model.gguf");
  const Opened mmproj(scratch / "mmproj-model.gguf");
  const Checkpoint golden = open_checkpoint(golden_path);
  expect_same_keys(golden, model.checkpoint, kNamesAside);
  expect_same_arrays(golden, model.checkpoint);
  expect_same_model(std::vector{source.path()}, std::vector{model.path(), mmproj.path()});
  for (const OutputResult& output : report.outputs) {
    for (const StepResult& step : output.steps) EXPECT_LE(step.fidelity, Fidelity::values);
  }
}

class EffectiveForm : public ::testing::TestWithParam<std::string> {};

// Whatever the route, what was written means what was read; also where only dense values could say it.
TEST_P(EffectiveForm, SurvivesTheConversionToGguf) {
  REGAUGE_GOLDEN_OR_SKIP(source_path, GetParam());
  const ScratchDir scratch;
  const Opened source(source_path);
  ConvertOptions options;
  options.allow_dense = true;
  options.eora = EoraPolicy::drop;
  // Without image statistics there is no vision file to write, and leaving the tower out takes saying so.
  options.drop_vision = !source.checkpoint.has_sidecar("preprocessor_config.json");
  const Report report = convert(source, scratch / "model.gguf", options);
  std::vector<Opened> made;
  for (const OutputResult& output : report.outputs) made.emplace_back(output.path);
  std::vector<OpenedPath> paths;
  for (const Opened& opened : made) paths.push_back(opened.path());
  auto wanted = effective_form(std::vector{source.path()});
  if (options.drop_vision)
    std::erase_if(wanted, [](const auto& entry) { return entry.second.component == Component::vision; });
  expect_same_model(wanted, effective_form(paths));
}

TEST_P(EffectiveForm, SurvivesTheConversionToSafetensors) {
  REGAUGE_GOLDEN_OR_SKIP(source_path, GetParam());
  const ScratchDir scratch;
  const Opened source(source_path);
  ConvertOptions options;
  options.dense = DType::f32;
  options.eora = EoraPolicy::drop;
  convert(source, scratch / "values.safetensors", options);
  // A lone safetensors file has no configuration, so it is read with its source's.
  Opened made(scratch / "values.safetensors");
  made.checkpoint.config = source.checkpoint.config;
  made.architecture = recognise(made.checkpoint);
  if (source.checkpoint.dialect == Dialect::gguf) GTEST_SKIP() << "no configuration to read the values with";
  expect_same_model(std::vector{source.path()}, std::vector{made.path()});
}

INSTANTIATE_TEST_SUITE_P(Golden, EffectiveForm,
                         ::testing::Values("qwen35_family/hf-bf16", "qwen35_family/gptq-mixed-eora",
                                           "qwen35_family/gptq-int4-g64", "qwen35_family/gptq-int4-g128-noact",
                                           "qwen35_family/mlx-8865", "qwen35_family/mlx-4bit", "qwen35_tiny/hf",
                                           "qwen35_tiny_moe/hf"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::ranges::replace_if(name, [](char c) { return c == '/' || c == '-'; }, '_');
                           return name;
                         });

TEST(GgufGolden, BytesDoNotDependOnTheThreads) {
  REGAUGE_GOLDEN_OR_SKIP(source_path, "qwen35_family/gptq-int4-g128-noact");
  const ScratchDir scratch;
  const Opened source(source_path);
  std::map<int, std::vector<std::byte>> files;
  for (const int threads : {1, 2, 7}) {
    ConvertOptions options;
    options.threads = threads;
    options.model_name = "same";
    const auto target = scratch / ("t" + std::to_string(threads) + ".gguf");
    convert(source, target, options);
    files[threads] = testing::read_whole_file(target);
  }
  EXPECT_TRUE(files[1] == files[2]);
  EXPECT_TRUE(files[1] == files[7]);
}

TEST(GgufGolden, AGgufCopiesToTheSameTensorsAndKeys) {
  REGAUGE_GOLDEN_OR_SKIP(source_path, "gguf/tiny-qwen35-q4_k_m.gguf");
  const ScratchDir scratch;
  const Opened source(source_path);
  const Report report = convert(source, scratch / "copy.gguf");
  const Checkpoint made = open_checkpoint(scratch / "copy.gguf");
  expect_same_keys(source.checkpoint, made, {});
  expect_same_arrays(source.checkpoint, made);
  for (const StepResult& step : report.outputs.front().steps) EXPECT_EQ(step.fidelity, Fidelity::bytes);
}

}  // namespace
}  // namespace regauge
