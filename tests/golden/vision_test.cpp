#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "convert/execute.h"
#include "convert/plan.h"
#include "formats/format.h"
#include "models/architecture.h"
#include "tests/support/golden.h"
#include "tests/support/opened.h"
#include "tests/support/patch.h"

// The vision tower from every kind of source into a GGUF of its own and back, held against the file that llama.cpp's
// own converter made and the arrays of the original; and towers that are not whole, which give no file at all.

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::Bytes;
using testing::GgufPatch;
using testing::Opened;
using testing::SafetensorsPatch;
using testing::ScratchDir;

const std::string kFamily = "qwen35_family/";
const std::string kHfPrefix = "model.visual.";
const std::string kPatchKernel = "patch_embed.proj.weight";

void convert(const std::vector<fs::path>& sources, const fs::path& target, const std::string& format) {
  std::vector<Opened> opened;
  for (const fs::path& path : sources) opened.emplace_back(path);
  std::vector<OpenedPath> paths;
  for (const Opened& one : opened) paths.push_back(one.path());
  ConvertOptions options;
  options.format = format;
  options.directory = format != "gguf";
  options.allow_dense = true;
  options.eora = EoraPolicy::drop;
  const Plan plan = plan_conversion(paths, target, options);
  execute(plan, *opened.front().checkpoint, options);
}

/// The arrays of the tower in a directory, under Hugging Face's names.
std::vector<SafetensorsPatch::Array> tower_of(const fs::path& directory) {
  std::vector<SafetensorsPatch::Array> tower;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() != ".safetensors") continue;
    for (auto& array : SafetensorsPatch(entry.path()).arrays) {
      if (array.name.starts_with(kHfPrefix)) tower.push_back(std::move(array));
    }
  }
  std::ranges::sort(tower, {}, &SafetensorsPatch::Array::name);
  return tower;
}

/// Axes 0, 2, 3, 4, 1 of [O, C, T, P, P], as mlx-vlm stores the kernel, by counting elements.
/// Source: Blaizzy/mlx-vlm mlx_vlm/models/qwen3_5/vision.py, sanitize.
SafetensorsPatch::Array channels_last(const SafetensorsPatch::Array& kernel) {
  const std::int64_t outputs = kernel.shape[0], channels = kernel.shape[1], frames = kernel.shape[2];
  const std::int64_t height = kernel.shape[3], width = kernel.shape[4];
  SafetensorsPatch::Array out = kernel;
  out.shape = {outputs, frames, height, width, channels};
  const std::size_t size = kernel.bytes.size() / static_cast<std::size_t>(outputs * channels * frames * height * width);
  std::size_t to = 0;
  for (std::int64_t o = 0; o < outputs; ++o) {
    for (std::int64_t t = 0; t < frames; ++t) {
      for (std::int64_t y = 0; y < height; ++y) {
        for (std::int64_t x = 0; x < width; ++x) {
          for (std::int64_t c = 0; c < channels; ++c, to += size) {
            const std::int64_t from = (((o * channels + c) * frames + t) * height + y) * width + x;
            std::copy_n(kernel.bytes.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(from) * size), size,
                        out.bytes.begin() + static_cast<std::ptrdiff_t>(to));
          }
        }
      }
    }
  }
  return out;
}

/// What mlx-vlm would make of the family's base: mlx-lm's text model and the tower, in one file of its names.
void make_mlx_vlm(const fs::path& text, const fs::path& base, const fs::path& target) {
  fs::copy(text, target, fs::copy_options::recursive);
  fs::copy(base / "preprocessor_config.json", target);
  SafetensorsPatch model(target / "model.safetensors");
  for (const auto& array : tower_of(base)) {
    SafetensorsPatch::Array renamed = array.name == kHfPrefix + kPatchKernel ? channels_last(array) : array;
    renamed.name = "vision_tower." + array.name.substr(kHfPrefix.size());
    model.arrays.push_back(std::move(renamed));
  }
  model.save(target / "model.safetensors");
  fs::remove(target / "model.safetensors.index.json");
  nlohmann::ordered_json tower;
  testing::patch_json(base / "config.json", [&](auto& config) { tower = config["vision_config"]; });
  testing::patch_json(target / "config.json", [&](auto& config) { config["vision_config"] = tower; });
}

void expect_golden_tower(const fs::path& made) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(path, kFamily + "hf-bf16.mmproj.gguf");
  const GgufPatch golden(path);
  const GgufPatch found(made);
  ASSERT_EQ(found.tensors.size(), golden.tensors.size());
  for (std::size_t i = 0; i < golden.tensors.size(); ++i) {
    SCOPED_TRACE(golden.tensors[i].name);
    const auto tensor = std::ranges::find(found.tensors, golden.tensors[i].name, &GgufPatch::Tensor::name);
    ASSERT_NE(tensor, found.tensors.end());
    EXPECT_EQ(tensor->shape, golden.tensors[i].shape);
    EXPECT_EQ(tensor->type, golden.tensors[i].type);
    EXPECT_TRUE(tensor->bytes == golden.tensors[i].bytes);
  }
}

void expect_tower_of(const fs::path& base, const fs::path& directory) {
  const auto wanted = tower_of(base);
  const auto found = tower_of(directory);
  ASSERT_FALSE(wanted.empty());
  ASSERT_EQ(found.size(), wanted.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    SCOPED_TRACE(wanted[i].name);
    EXPECT_EQ(found[i].name, wanted[i].name);
    EXPECT_EQ(found[i].dtype, wanted[i].dtype);
    EXPECT_EQ(found[i].shape, wanted[i].shape);
    EXPECT_TRUE(found[i].bytes == wanted[i].bytes);
  }
}

class VisionTower : public ::testing::TestWithParam<std::string> {
 protected:
  /// The parameter is a golden directory, or "mlx-vlm" for one that is put together of two.
  fs::path source(const fs::path& base) const {
    if (GetParam() != "mlx-vlm") return *testing::find_full_golden(kFamily + GetParam());
    make_mlx_vlm(*testing::find_full_golden(kFamily + "mlx-8865"), base, scratch_ / "vlm");
    return scratch_ / "vlm";
  }
  const ScratchDir scratch_;
};

TEST_P(VisionTower, BecomesLlamaCppsFileAndComesBackBitForBit) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(golden_base, kFamily + "hf-bf16");
  const fs::path base = scratch_ / "base";
  fs::copy(golden_base, base, fs::copy_options::recursive);
  convert({source(base)}, scratch_ / "model.gguf", "gguf");
  expect_golden_tower(scratch_ / "mmproj-model.gguf");
  convert({scratch_ / "model.gguf", scratch_ / "mmproj-model.gguf"}, scratch_ / "back", "safetensors");
  expect_tower_of(golden_base, scratch_ / "back");
}

INSTANTIATE_TEST_SUITE_P(Sources, VisionTower,
                         ::testing::Values("hf-bf16", "gptq-mixed-eora", "gptq-int4-g64", "gptq-int4-g128-noact",
                                           "mlx-vlm"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

TEST(VisionTowerOfLlamaCpp, ComesBackToHuggingFaceBitForBit) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(base, kFamily + "hf-bf16");
  REGAUGE_FULL_GOLDEN_OR_SKIP(model, kFamily + "hf-bf16.gguf");
  REGAUGE_FULL_GOLDEN_OR_SKIP(tower, kFamily + "hf-bf16.mmproj.gguf");
  const ScratchDir scratch;
  convert({model, tower}, scratch / "back", "safetensors");
  expect_tower_of(base, scratch / "back");
}

// And as mlx-vlm stores it: the very kernel that its own transposition gives.
TEST(VisionTowerOfLlamaCpp, BecomesMlxVlmsArrays) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(base, kFamily + "hf-bf16");
  REGAUGE_FULL_GOLDEN_OR_SKIP(model, kFamily + "hf-bf16.gguf");
  REGAUGE_FULL_GOLDEN_OR_SKIP(tower, kFamily + "hf-bf16.mmproj.gguf");
  const ScratchDir scratch;
  convert({model, tower}, scratch / "mlx", "mlx");
  SafetensorsPatch found(scratch / "mlx/model.safetensors");
  std::size_t compared = 0;
  for (const auto& array : tower_of(base)) {
    SCOPED_TRACE(array.name);
    const auto wanted = array.name == kHfPrefix + kPatchKernel ? channels_last(array) : array;
    const auto& made = found.array("vision_tower." + array.name.substr(kHfPrefix.size()));
    EXPECT_EQ(made.shape, wanted.shape);
    EXPECT_EQ(made.dtype, wanted.dtype);
    EXPECT_TRUE(made.bytes == wanted.bytes);
    ++compared;
  }
  EXPECT_GT(compared, 0U);
}

/// Why it cannot be converted; nothing when it can.
std::optional<ErrorCode> code_of(const std::vector<fs::path>& sources, const fs::path& target,
                                 const std::string& format) {
  try {
    convert(sources, target, format);
  } catch (const Error& error) {
    return error.code();
  }
  return std::nullopt;
}

/// What is wrong with a source, and that it gives no vision file: no small one either.
struct Fault {
  std::string name;
  ErrorCode code;
  std::function<void(const fs::path&)> damage;  ///< of a copy of the GPTQ sample
};

void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.name; }

class BrokenTower : public ::testing::TestWithParam<Fault> {};

TEST_P(BrokenTower, IsAnErrorAndLeavesNoFile) {
  const ScratchDir scratch;
  const fs::path source = scratch / "source";
  fs::copy(testing::sample_path("qwen35-gptq-int4"), source, fs::copy_options::recursive);
  GetParam().damage(source);
  fs::create_directory(scratch / "out");
  EXPECT_EQ(code_of({source}, scratch / "out/model.gguf", "gguf"), GetParam().code);
  EXPECT_TRUE(fs::is_empty(scratch / "out"));
}

std::function<void(const fs::path&)> arrays(const std::function<void(SafetensorsPatch&)>& change) {
  return [change](const fs::path& source) {
    SafetensorsPatch model(source / "model.safetensors");
    change(model);
    model.save(source / "model.safetensors");
  };
}

std::function<void(const fs::path&)> renamed_to(const std::string& prefix) {
  return arrays([prefix](SafetensorsPatch& model) {
    for (auto& array : model.arrays) {
      if (array.name.starts_with(kHfPrefix)) array.name = prefix + array.name.substr(kHfPrefix.size());
    }
  });
}

std::function<void(const fs::path&)> without(const std::string& part) {
  return arrays([part](SafetensorsPatch& model) {
    model.erase([&](const std::string& name) { return name.starts_with(kHfPrefix + part); });
  });
}

std::function<void(const fs::path&)> statistics(const std::function<void(nlohmann::ordered_json&)>& change) {
  return [change](const fs::path& source) { testing::patch_json(source / "preprocessor_config.json", change); };
}

INSTANTIATE_TEST_SUITE_P(
    Faults, BrokenTower,
    ::testing::Values(
        Fault{"no_statistics", ErrorCode::not_found,
              [](const fs::path& source) { fs::remove(source / "preprocessor_config.json"); }},
        Fault{"no_mean", ErrorCode::not_found, statistics([](auto& json) { json.erase("image_mean"); })},
        Fault{"no_deviation", ErrorCode::not_found, statistics([](auto& json) { json.erase("image_std"); })},
        Fault{"a_mean_of_two_colours", ErrorCode::malformed,
              statistics([](auto& json) { json["image_mean"].erase(2); })},
        Fault{"a_mean_of_words", ErrorCode::malformed, statistics([](auto& json) { json["image_mean"][0] = "half"; })},
        Fault{"renamed_prefix", ErrorCode::refused, renamed_to("model.vision_model.")},
        Fault{"foreign_root", ErrorCode::refused, renamed_to("thinker.visual.")},
        Fault{"no_merger", ErrorCode::malformed, without("merger.")},
        Fault{"no_blocks", ErrorCode::malformed, without("blocks.")},
        Fault{"no_position_embedding", ErrorCode::malformed, without("pos_embed.")},
        Fault{"one_bias_missing", ErrorCode::malformed, without("blocks.1.mlp.linear_fc2.bias")},
        Fault{"an_empty_merger", ErrorCode::refused, arrays([](SafetensorsPatch& model) {
                for (auto* array : model.ending("merger.linear_fc2.weight")) {
                  array->shape[0] = 0;
                  array->bytes.clear();
                }
              })},
        Fault{"one_frame", ErrorCode::refused, arrays([](SafetensorsPatch& model) {
                for (auto* array : model.ending(kPatchKernel)) {
                  array->shape[2] = 1;
                  array->bytes.resize(array->bytes.size() / 2);
                }
              })}),
    [](const auto& test) { return test.param.name; });

/// An mmproj file of which not everything is there, on its way to a directory.
class BrokenMmproj : public ::testing::TestWithParam<std::size_t> {};

TEST_P(BrokenMmproj, GivesNoDirectory) {
  const ScratchDir scratch;
  convert({testing::sample_path("qwen35-gptq-int4")}, scratch / "model.gguf", "gguf");
  GgufPatch tower(scratch / "mmproj-model.gguf");
  ASSERT_GT(tower.tensors.size(), GetParam());
  tower.tensors.resize(GetParam());
  tower.save(scratch / "mmproj-model.gguf");
  EXPECT_EQ(code_of({scratch / "model.gguf", scratch / "mmproj-model.gguf"}, scratch / "back", "safetensors"),
            ErrorCode::malformed);
  EXPECT_FALSE(fs::exists(scratch / "back"));
}

INSTANTIATE_TEST_SUITE_P(TensorsLeft, BrokenMmproj, ::testing::Values(0U, 1U, 33U));

}  // namespace
}  // namespace regauge
