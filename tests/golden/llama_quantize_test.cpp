#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "convert/execute.h"
#include "convert/importance.h"
#include "convert/plan.h"
#include "convert/recipe/recipe.h"
#include "formats/format.h"
#include "models/architecture.h"
#include "tests/support/deep_gguf.h"
#include "tests/support/golden.h"
#include "tests/support/imatrix_bytes.h"
#include "tests/support/oracle.h"
#include "tests/support/oracle_quantize.h"

// Every mixture of llama-quantize, held against llama_model_quantize itself: the same type and the same bytes for every
// tensor of a model, and where no importance matrix leaves its own keys the same file.

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::ScratchDir;

void convert(const fs::path& source, const fs::path& target, ConvertOptions options) {
  const Checkpoint checkpoint = open_checkpoint(source);
  const auto architecture = recognise(checkpoint);
  options.format = "gguf";
  options.overwrite = true;
  const Plan plan = plan_conversion(checkpoint, architecture.get(), target, options);
  execute(plan, checkpoint, options);
}

/// Names of the tensors whose type or bytes differ.
std::map<std::string, std::string> differences(const fs::path& ours, const fs::path& theirs) {
  const Checkpoint made = open_checkpoint(ours);
  const Checkpoint wanted = open_checkpoint(theirs);
  std::map<std::string, std::string> out;
  std::map<std::string, const StoredArray*> arrays;
  for (const StoredArray& array : made.arrays) arrays[array.name] = &array;
  EXPECT_EQ(made.arrays.size(), wanted.arrays.size());
  for (const StoredArray& array : wanted.arrays) {
    const auto found = arrays.find(array.name);
    if (found == arrays.end()) {
      out[array.name] = "missing";
    } else if (found->second->element != array.element) {
      out[array.name] = element_name(*found->second) + " instead of " + element_name(array);
    } else if (made.files[found->second->file].file->read_range(found->second->offset, found->second->bytes) !=
               wanted.files[array.file].file->read_range(array.offset, array.bytes)) {
      out[array.name] = "other bytes as " + element_name(array);
    }
  }
  EXPECT_EQ(made.metadata.get_uint("general.file_type"), wanted.metadata.get_uint("general.file_type"));
  EXPECT_EQ(made.metadata.get_uint("general.quantization_version"),
            wanted.metadata.get_uint("general.quantization_version"));
  return out;
}

/// Weights of importance for every matrix of a file, none of them alike: as a file for us and as values for the owner.
struct MadeImportance {
  std::map<std::string, testing::ImatrixEntry> entries;
  std::vector<testing::OracleQuantizeOptions::Importance> values;
};

MadeImportance importance_for(const fs::path& path) {
  const Checkpoint source = open_checkpoint(path);
  MadeImportance made;
  std::uint32_t random = 7;
  for (const Tensor& tensor : source.tensors) {
    if (tensor.shape.rank() < 2 || !tensor.name.ends_with("weight")) continue;
    const auto matrices = static_cast<std::size_t>(tensor.shape.rank() > 2 ? tensor.shape.dims[0] : 1);
    testing::ImatrixEntry entry;
    for (std::size_t i = 0; i < matrices * static_cast<std::size_t>(tensor.shape.columns()); ++i) {
      random = random * 1664525U + 1013904223U;
      entry.sums.push_back(0.01F + static_cast<float>(random >> 20U) / 256.0F);
    }
    entry.counts.assign(matrices, 1.0F);
    made.values.push_back({tensor.name, entry.sums});
    made.entries.emplace(tensor.name, std::move(entry));
  }
  return made;
}

enum class With { nothing, importance };

void expect_the_same_as_llama_quantize(const fs::path& source, const std::string& mixture, With with = With::nothing) {
  const ScratchDir scratch;
  testing::OracleQuantizeOptions oracle;
  ConvertOptions options;
  options.recipe = std::make_shared<const Recipe>(preset(mixture));
  if (with == With::importance) {
    const MadeImportance made = importance_for(source);
    testing::write_whole_file(scratch / "imatrix.gguf", testing::imatrix_gguf(made.entries, {"text"}, 1).bytes());
    options.importance = std::make_shared<const Importance>(Importance::read(scratch / "imatrix.gguf"));
    oracle.importance = made.values;
  }
  std::string said;
  const bool made =
      testing::oracle_quantize(source, scratch / "theirs.gguf", testing::oracle_file_type(mixture), oracle, &said);
  ASSERT_TRUE(made) << said.substr(said.size() - std::min<std::size_t>(said.size(), 300));
  convert(source, scratch / "ours.gguf", options);
  for (const auto& [name, difference] : differences(scratch / "ours.gguf", scratch / "theirs.gguf"))
    ADD_FAILURE() << name << ": " << difference;
  if (with == With::nothing) {
    EXPECT_TRUE(testing::read_whole_file(scratch / "ours.gguf") == testing::read_whole_file(scratch / "theirs.gguf"));
  }
}

class Mixture : public ::testing::TestWithParam<std::string_view> {
 protected:
  void SetUp() override {
    REGAUGE_ORACLE_OR_SKIP(oracle);
    RecordProperty("ggml", oracle.version());
  }

  /// llama-quantize wants an importance matrix for it.
  static bool needs_importance() { return GetParam() == "Q2_K_S"; }
};

TEST_P(Mixture, OfASmallModelIsLlamaQuantizes) {
  REGAUGE_GOLDEN_OR_SKIP(source, "qwen35_family/hf-bf16.gguf");
  if (!needs_importance()) expect_the_same_as_llama_quantize(source, std::string(GetParam()));
  expect_the_same_as_llama_quantize(source, std::string(GetParam()), With::importance);
}

TEST_P(Mixture, OfADeepModelIsLlamaQuantizes) {
  const ScratchDir scratch;
  const bool tied = GetParam().size() % 2 == 0;
  testing::write_deep_gguf(scratch / "deep.gguf", {.layers = 16, .kv_heads = tied ? 2 : 1, .tied = tied});
  const With with = needs_importance() ? With::importance : With::nothing;
  expect_the_same_as_llama_quantize(scratch / "deep.gguf", std::string(GetParam()), with);
}

TEST_P(Mixture, OfExpertsIsLlamaQuantizes) {
  REGAUGE_GOLDEN_OR_SKIP(source, "qwen35_tiny_moe/tiny-mtp.gguf");
  if (GetParam() == "Q1_0") GTEST_SKIP() << "llama-quantize refuses: rows of 64 have no such blocks";
  if (!needs_importance()) expect_the_same_as_llama_quantize(source, std::string(GetParam()));
  expect_the_same_as_llama_quantize(source, std::string(GetParam()), With::importance);
}

std::vector<std::string_view> mixtures() {
  std::vector<std::string_view> names;
  for (const LlamaFileType& type : llama_file_types()) names.push_back(type.name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Llama, Mixture, ::testing::ValuesIn(mixtures()),
                         [](const auto& mixture) { return std::string(mixture.param); });

}  // namespace
}  // namespace regauge
