#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/digest.h"
#include "base/error.h"
#include "convert/execute.h"
#include "convert/plan.h"
#include "formats/format.h"
#include "models/architecture.h"
#include "models/low_rank.h"
#include "models/permutations.h"
#include "tests/support/golden.h"
#include "tests/support/opened.h"
#include "verify/diff.h"

// EoRA factors that GPTQModel's own code made: through every format and back their bytes are the ones they were, the adapter
// file is the one that real llama.cpp gave the expected logits with, and merging gives the matrices computed apart from us.

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::convert;
using testing::GoldenFile;
using testing::Opened;
using testing::ScratchDir;

ConvertOptions to(const std::string& format) {
  ConvertOptions options;
  options.format = format;
  options.allow_dense = true;
  options.directory = true;
  return options;
}

using Arrays = std::map<std::string, std::vector<std::byte>>;

/// Bytes of the arrays of a file by name, type and shape. A model without its vision tower has text-only names.
Arrays arrays_of(const fs::path& path) {
  const Checkpoint checkpoint = open_checkpoint(path);
  Arrays arrays;
  constexpr std::string_view kMultimodal = ".language_model";
  for (const StoredArray& array : checkpoint.arrays) {
    std::string name = array.name;
    if (const auto at = name.find(kMultimodal); at != std::string::npos) name.erase(at, kMultimodal.size());
    arrays[name + " " + element_name(array) + " " + to_string(array.shape)] =
        checkpoint.files[array.file].file->read_range(array.offset, array.bytes);
  }
  return arrays;
}

void expect_same(const Arrays& expected, const Arrays& found) {
  ASSERT_FALSE(expected.empty());
  EXPECT_EQ(expected.size(), found.size());
  for (const auto& [name, bytes] : expected) {
    const auto other = found.find(name);
    ASSERT_NE(other, found.end()) << name;
    EXPECT_TRUE(bytes == other->second) << name;
  }
}

constexpr const char* kFamily = "qwen35_family/gptq-mixed-eora";

TEST(Eora, AsAnAdapterFileIsThatWhichLlamaCppRan) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kFamily);
  REGAUGE_FULL_GOLDEN_OR_SKIP(golden, "qwen35_family/gptq-mixed-eora.adapter.gguf");
  const ScratchDir scratch;
  ConvertOptions options = to("gguf");
  options.fold = false;  // the golden file is in the canonical order of columns
  const Report report = convert(Opened(source), scratch / "m.gguf", options);
  expect_same(arrays_of(golden), arrays_of(scratch / "m-LoRA.gguf"));
  const Checkpoint adapter = open_checkpoint(scratch / "m-LoRA.gguf");
  const Checkpoint expected = open_checkpoint(golden);
  for (const char* key : {"general.architecture", "general.type", "adapter.type", "general.quantization_version"}) {
    ASSERT_NE(adapter.metadata.find(key), nullptr) << key;
    EXPECT_TRUE(*adapter.metadata.find(key) == *expected.metadata.find(key)) << key;
  }
  // Absent it means a scale of 1 for every rank.
  EXPECT_EQ(adapter.metadata.find("adapter.lora.alpha"), nullptr);
  for (const OutputResult& output : report.outputs) {
    if (output.path.filename() != "m-LoRA.gguf") continue;
    for (const StepResult& step : output.steps) EXPECT_LE(step.fidelity, Fidelity::values);
  }
}

struct Way {
  std::string name;
  std::string format;
  std::string target;
  std::string adapter;  ///< what has to be attached on the way back
  bool one_file = false;
  bool fold = true;
  EoraPolicy eora = EoraPolicy::keep;
};

std::ostream& operator<<(std::ostream& out, const Way& way) { return out << way.name; }

class EoraWay : public ::testing::TestWithParam<Way> {};

TEST_P(EoraWay, ThereAndBackGivesTheSameBytes) {
  const Way& way = GetParam();
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kFamily);
  const ScratchDir scratch;
  ConvertOptions options = to(way.format);
  options.directory = !way.one_file;
  options.fold = way.fold;
  convert(Opened(source), scratch / way.target, options);

  Opened there(scratch / way.target);
  if (!way.adapter.empty()) there.attach(scratch / way.adapter);
  ASSERT_TRUE(std::ranges::any_of(there.checkpoint->tensors, &Tensor::has_low_rank));
  if (there.architecture != nullptr) {
    const Opened first(source);
    const std::vector<OpenedPath> a{first.path()};
    const std::vector<OpenedPath> b{there.path()};
    std::size_t factors = 0;
    for (const TensorDiff& tensor : diff(a, b, {}).tensors) {
      if (tensor.component != Component::adapter) continue;
      ++factors;
      EXPECT_LE(tensor.likeness, Likeness::values) << tensor.name;
    }
    EXPECT_EQ(factors, 50U);
  }
  if (way.one_file) {  // it has no configuration to go back by
    std::map<std::string, std::vector<std::byte>> upright;
    for (const Tensor& tensor : there.checkpoint->tensors) {
      if (!tensor.has_low_rank()) continue;
      for (const PartId id : {PartId::lowrank_a, PartId::lowrank_b}) {
        const Part& part = tensor.part(id);
        auto& bytes = upright[factor_array(FactorForm::peft, tensor.name, id)];
        bytes.resize(static_cast<std::size_t>(part.rows->rows()) * part.rows->row_bytes());
        part.rows->read({0, part.rows->rows()}, bytes);
      }
    }
    const GoldenFile golden(fs::path(source) / "eora/adapter_model.safetensors");
    for (const auto& [name, bytes] : upright) EXPECT_TRUE(std::ranges::equal(bytes, golden[name].bytes)) << name;
    EXPECT_EQ(upright.size(), 50U);
    return;
  }
  convert(there, scratch / "back", to("gptq"));
  expect_same(arrays_of(fs::path(source) / "eora/adapter_model.safetensors"),
              arrays_of(scratch / "back/eora/adapter_model.safetensors"));
}

INSTANTIATE_TEST_SUITE_P(Formats, EoraWay,
                         ::testing::Values(Way{"gguf", "gguf", "m.gguf", "m-LoRA.gguf"},
                                           Way{"gguf_columns_as_they_are", "gguf", "m.gguf", "m-LoRA.gguf", false,
                                               false},
                                           Way{"mlx", "mlx", "mlx", ""}, Way{"gptq", "gptq", "v1", ""},
                                           Way{"dense_directory", "safetensors", "hf", ""},
                                           Way{"one_safetensors_file", "safetensors", "one.safetensors", "", true}),
                         [](const auto& test) { return test.param.name; });

TEST(Eora, OfOneFormatGoesToAModelOfAnother) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kFamily);
  const ScratchDir scratch;
  const Opened whole(source);
  convert(whole, scratch / "mlx", to("mlx"));
  convert(whole, scratch / "m.gguf", to("gguf"));
  ConvertOptions bare = to("gguf");
  bare.eora = EoraPolicy::drop;
  convert(whole, scratch / "bare.gguf", bare);
  for (const fs::path& adapter : {fs::path(source) / "eora", scratch / "mlx/adapters", scratch / "m-LoRA.gguf"}) {
    SCOPED_TRACE(adapter);
    Opened model(scratch / "bare.gguf");
    model.attach(adapter);
    ConvertOptions back = to("gptq");
    back.overwrite = true;
    convert(model, scratch / "back", back);
    expect_same(arrays_of(fs::path(source) / "eora/adapter_model.safetensors"),
                arrays_of(scratch / "back/eora/adapter_model.safetensors"));
  }
}

/// Every merged matrix hashed as the golden file says: little endian f32, row by row, in HF order.
TEST(Eora, MergedIsTheMatrixComputedInF64) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kFamily);
  REGAUGE_FULL_GOLDEN_OR_SKIP(expected, "qwen35_family/gptq-mixed-eora.expected.json");
  const ScratchDir scratch;
  ConvertOptions options = to("safetensors");
  options.directory = false;
  options.dense = DType::f32;
  options.eora = EoraPolicy::merge;
  convert(Opened(source), scratch / "merged.safetensors", options);
  const Checkpoint merged = open_checkpoint(scratch / "merged.safetensors");
  const auto text = testing::read_whole_file(expected);
  const auto json = nlohmann::json::parse(reinterpret_cast<const char*>(text.data()),
                                          reinterpret_cast<const char*>(text.data()) + text.size());
  std::size_t compared = 0;
  for (const auto& module : json["modules"]) {
    if (!module.contains("sha256_merged_f32")) continue;
    const StoredArray* array = merged.find_array(module["name"].get<std::string>() + ".weight");
    ASSERT_NE(array, nullptr);
    const auto bytes = merged.files[array->file].file->read_range(array->offset, array->bytes);
    EXPECT_EQ(hex(Sha256::of(bytes)), module["sha256_merged_f32"].get<std::string>()) << array->name;
    ++compared;
  }
  EXPECT_EQ(compared, 25U);
  EXPECT_TRUE(std::ranges::none_of(merged.tensors, &Tensor::has_low_rank));
}

TEST(Eora, MergedIntoSomeModulesStaysBesideTheOthers) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kFamily);
  const ScratchDir scratch;
  ConvertOptions options = to("gptq");
  options.eora = EoraPolicy::merge;
  options.merge_only = {"*.self_attn.*"};
  convert(Opened(source), scratch / "m", options);
  const Checkpoint made = open_checkpoint(scratch / "m");
  std::size_t kept = 0;
  for (const Tensor& tensor : made.tensors) {
    const bool attention = tensor.name.find(".layers.3.self_attn.") != std::string::npos &&
                           tensor.name.find("_proj") != std::string::npos && !tensor.name.starts_with("mtp.");
    if (attention) {
      EXPECT_TRUE(tensor.encoding == Encoding(Dense{DType::f32})) << tensor.name;
      EXPECT_FALSE(tensor.has_low_rank()) << tensor.name;
    }
    kept += tensor.has_low_rank() ? 1 : 0;
  }
  EXPECT_EQ(kept, 21U);
}

TEST(Eora, OfAnotherScaleIsRefused) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kFamily);
  REGAUGE_FULL_GOLDEN_OR_SKIP(golden, "qwen35_family/gptq-mixed-eora.adapter.gguf");
  const ScratchDir scratch;
  ConvertOptions bare = to("gguf");
  bare.eora = EoraPolicy::drop;
  convert(Opened(source), scratch / "bare.gguf", bare);
  const Opened model(scratch / "bare.gguf");
  Checkpoint adapter = open_checkpoint(golden);
  adapter.metadata.set("adapter.lora.alpha", 128.0F);
  try {
    attach_adapter(*model.checkpoint, *model.architecture, std::move(adapter));
    FAIL() << "an alpha of twice the rank was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
  }
}

/// Elements of two bytes in the other order.
std::vector<std::byte> turned(std::span<const std::byte> bytes, std::int64_t rows, std::int64_t columns) {
  std::vector<std::byte> out(bytes.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) {
      for (std::int64_t b = 0; b < 2; ++b) {
        out[static_cast<std::size_t>(2 * (c * rows + r) + b)] =
            bytes[static_cast<std::size_t>(2 * (r * columns + c) + b)];
      }
    }
  }
  return out;
}

TEST(Eora, LiesTheOtherWayRoundInMlxAndAmongTheWeights) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kFamily);
  const ScratchDir scratch;
  const Opened opened(source);
  ConvertOptions unfolded = to("mlx");
  unfolded.fold = false;
  convert(opened, scratch / "mlx", unfolded);
  ConvertOptions one = to("safetensors");
  one.directory = false;
  convert(opened, scratch / "one.safetensors", one);
  const GoldenFile golden(fs::path(source) / "eora/adapter_model.safetensors");
  const GoldenFile mlx(scratch / "mlx/adapters/adapters.safetensors");
  const GoldenFile among(scratch / "one.safetensors");
  const std::string prefix = "base_model.model.model.language_model.";
  for (const auto& [name, entry] : golden.entries()) {
    const bool is_a = name.ends_with(".lora_A.weight");
    const std::string path =
        name.substr(prefix.size(), name.size() - prefix.size() - std::string(".lora_A.weight").size());
    const auto expected = turned(entry.bytes, entry.shape[0], entry.shape[1]);
    const std::vector<std::int64_t> shape{entry.shape[1], entry.shape[0]};
    const auto& in_mlx = mlx.entries().at("language_model.model." + path + (is_a ? ".lora_a" : ".lora_b"));
    const auto& in_model = among.entries().at("model.language_model." + path + (is_a ? ".lora_A" : ".lora_B"));
    EXPECT_EQ(in_mlx.shape, shape) << name;
    EXPECT_EQ(in_model.shape, shape) << name;
    EXPECT_TRUE(std::ranges::equal(in_mlx.bytes, expected)) << name;
    EXPECT_TRUE(std::ranges::equal(in_model.bytes, expected)) << name;
  }
  EXPECT_EQ(golden.entries().size(), 50U);
}

}  // namespace
}  // namespace regauge
