#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/json.h"
#include "convert/execute.h"
#include "convert/graft.h"
#include "convert/plan.h"
#include "formats/format.h"
#include "models/architecture.h"
#include "tests/support/golden.h"
#include "tests/support/opened.h"
#include "verify/diff.h"
#include "verify/sound.h"

// Parts of one member of the family into another: what joins has the donor's values, what was there has its own bytes.

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::GoldenFile;
using testing::Opened;
using testing::ScratchDir;

Report graft(const Opened& base, const Opened* mtp, const Opened* vision, const fs::path& target, bool eora = false) {
  GraftRequest request{base.path(), std::nullopt, std::nullopt, eora};
  if (mtp != nullptr) request.mtp = mtp->path();
  if (vision != nullptr) request.vision = vision->path();
  ConvertOptions options;
  options.allow_dense = true;
  const Plan plan = plan_graft(request, target, options);
  return execute(plan, *base.checkpoint, options);
}

/// Every weight of `part` in `made` equals that of `donor`; the number of them.
std::size_t expect_like(const fs::path& made, const fs::path& donor, Component part) {
  const Opened a(donor);
  const Opened b(made);
  const std::vector<OpenedPath> first{a.path()};
  const std::vector<OpenedPath> second{b.path()};
  std::size_t compared = 0;
  for (const TensorDiff& tensor : diff(first, second, {}).tensors) {
    if (tensor.component != part) continue;
    EXPECT_LE(tensor.likeness, Likeness::values) << tensor.name;
    ++compared;
  }
  return compared;
}

using Arrays = std::map<std::string, std::vector<std::byte>>;

Arrays arrays_of(const fs::path& path) {
  const Checkpoint checkpoint = open_checkpoint(path);
  Arrays arrays;
  for (const StoredArray& array : checkpoint.arrays)
    arrays[array.name] = checkpoint.files[array.file].file->read_range(array.offset, array.bytes);
  return arrays;
}

void expect_holds(const fs::path& made, const fs::path& base) {
  const Arrays now = arrays_of(made);
  for (const auto& [name, bytes] : arrays_of(base)) {
    ASSERT_TRUE(now.contains(name)) << name;
    EXPECT_TRUE(now.at(name) == bytes) << name;
  }
}

Json json_of(const fs::path& path) {
  const auto bytes = testing::read_whole_file(path);
  return parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path.native());
}

bool has_finding(const Checkpoint& checkpoint, std::string_view code) {
  return std::ranges::any_of(checkpoint.findings, [&](const Finding& finding) { return finding.code == code; });
}

TEST(Graft, GivesAGptqDirectoryTheMtpLayerThatItAnnouncesAndLost) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(base, "qwen35_family/gptq-int4-g64");
  REGAUGE_FULL_GOLDEN_OR_SKIP(donor, "qwen35_family/hf-bf16");
  const ScratchDir scratch;
  const Opened from(donor);
  graft(Opened(base), &from, nullptr, scratch / "out");
  expect_holds(scratch / "out", base);
  EXPECT_EQ(expect_like(scratch / "out", donor, Component::mtp), 15U);
  // The one file of the base is the first of two shards now, byte for byte.
  EXPECT_TRUE(testing::read_whole_file(scratch / "out/model-00001-of-00002.safetensors") ==
              testing::read_whole_file(fs::path(base) / "model.safetensors"));
  const Json index = json_of(scratch / "out/model.safetensors.index.json");
  EXPECT_EQ(index["weight_map"].size(), open_checkpoint(scratch / "out").arrays.size());
  // vLLM and GPTQModel take every Linear for quantized that no rule excludes.
  const Json rules = json_of(scratch / "out/quantize_config.json")["dynamic"];
  ASSERT_FALSE(rules.empty());
  EXPECT_TRUE(rules.begin().key().starts_with("-:")) << rules.begin().key();
  const Json config = json_of(scratch / "out/config.json");
  EXPECT_EQ(config["quantization_config"]["dynamic"], rules);
  // What the quantizer had said is still there.
  EXPECT_EQ(config["quantization_config"]["meta"],
            json_of(fs::path(base) / "config.json")["quantization_config"]["meta"]);
  const Checkpoint made = open_checkpoint(scratch / "out");
  EXPECT_TRUE(examine_soundness(made).sound());
  EXPECT_FALSE(has_finding(made, "gptq-rule-unused"));
  EXPECT_FALSE(has_finding(made, "index-total-size"));
}

TEST(Graft, KeepsTheShardsOfTheBaseUnderTheirNames) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(whole, "qwen35_family/gptq-mixed-eora");
  REGAUGE_FULL_GOLDEN_OR_SKIP(donor, "qwen35_family/hf-bf16");
  const ScratchDir scratch;
  // A base in three shards without the parts: the whole one, converted without them.
  ConvertOptions options;
  options.format = "gptq";
  options.directory = true;
  options.drop_mtp = options.drop_vision = true;
  options.eora = EoraPolicy::drop;
  options.shard_bytes = 1'000'000;
  {
    const Opened source(whole);
    const Plan plan = plan_conversion(*source.checkpoint, source.architecture.get(), scratch / "base", options);
    execute(plan, *source.checkpoint, options);
  }
  const Opened from(donor);
  graft(Opened(scratch / "base"), &from, &from, scratch / "out");
  for (const SourceFile& file : open_checkpoint(scratch / "base").files) {
    EXPECT_TRUE(testing::read_whole_file(scratch / "base" / file.name) ==
                testing::read_whole_file(scratch / "out" / file.name))
        << file.name;
  }
  EXPECT_EQ(expect_like(scratch / "out", donor, Component::mtp), 15U);
  EXPECT_EQ(expect_like(scratch / "out", donor, Component::vision), 34U);
}

TEST(Graft, GivesAnMlxLmDirectoryAVisionTowerFromEitherForm) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(base, "qwen35_family/mlx-4bit");
  REGAUGE_FULL_GOLDEN_OR_SKIP(directory, "qwen35_family/hf-bf16");
  REGAUGE_FULL_GOLDEN_OR_SKIP(mmproj, "qwen35_family/hf-bf16.mmproj.gguf");
  for (const fs::path& donor : {fs::path(directory), fs::path(mmproj)}) {
    SCOPED_TRACE(donor);
    const ScratchDir scratch;
    const Opened from(donor);
    graft(Opened(base), nullptr, &from, scratch / "out");
    expect_holds(scratch / "out", base);
    EXPECT_EQ(expect_like(scratch / "out", directory, Component::vision), 34U);
    const Json config = json_of(scratch / "out/config.json");
    EXPECT_EQ(config["vision_config"]["depth"], 2);
    EXPECT_EQ(config["quantization"], json_of(fs::path(base) / "config.json")["quantization"]);
    EXPECT_TRUE(fs::exists(scratch / "out/preprocessor_config.json"));
    EXPECT_TRUE(Opened(scratch / "out").architecture->has_vision());
  }
}

TEST(Graft, PutsTheMtpLayerOfAnMlxDirectoryInAFileOfItsOwn) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(base, "qwen35_family/mlx-4bit");
  REGAUGE_FULL_GOLDEN_OR_SKIP(donor, "qwen35_family/hf-bf16.gguf");
  const ScratchDir scratch;
  const Opened from(donor);
  graft(Opened(base), &from, nullptr, scratch / "out");
  EXPECT_TRUE(fs::exists(scratch / "out/mtp.safetensors"));
  EXPECT_TRUE(testing::read_whole_file(scratch / "out/model.safetensors") ==
              testing::read_whole_file(fs::path(base) / "model.safetensors"));
  // MLX norms are bf16(1 + w), which its own converter rounds as well.
  const Opened made(scratch / "out");
  EXPECT_TRUE(std::ranges::any_of(made.checkpoint->tensors,
                                  [](const Tensor& tensor) { return tensor.name == "language_model.mtp.fc.weight"; }));
}

TEST(Graft, GivesAGgufTheMtpBlockOfAnother) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(base, "qwen35_family/gptq-int4-g128-noact.gguf");
  REGAUGE_FULL_GOLDEN_OR_SKIP(donor, "qwen35_family/hf-bf16.gguf");
  REGAUGE_FULL_GOLDEN_OR_SKIP(tower, "qwen35_family/hf-bf16.mmproj.gguf");
  const ScratchDir scratch;
  const Opened from(donor);
  const Opened vision(tower);
  graft(Opened(base), &from, &vision, scratch / "out.gguf");
  expect_holds(scratch / "out.gguf", base);
  EXPECT_EQ(expect_like(scratch / "out.gguf", donor, Component::mtp), 15U);
  expect_holds(scratch / "mmproj-out.gguf", tower);
  const Checkpoint made = open_checkpoint(scratch / "out.gguf");
  const Checkpoint golden = open_checkpoint(donor);
  for (const char* key : {"qwen35.block_count", "qwen35.nextn_predict_layers", "qwen35.attention.recurrent_layers"}) {
    ASSERT_NE(made.metadata.find(key), nullptr) << key;
    EXPECT_TRUE(*made.metadata.find(key) == *golden.metadata.find(key)) << key;
  }
}

TEST(Graft, BringsFactorsBackToADirectoryThatLostThem) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(whole, "qwen35_family/gptq-mixed-eora");
  const ScratchDir scratch;
  OpenOptions without;
  without.find_adapter = false;
  ConvertOptions drop;
  drop.format = "gptq";
  drop.eora = EoraPolicy::drop;
  drop.directory = true;
  {
    const Opened source(whole, without);
    execute(plan_conversion(*source.checkpoint, source.architecture.get(), scratch / "base", drop), *source.checkpoint,
            drop);
  }
  OpenOptions named;
  named.adapter = fs::path(whole) / "eora";
  graft(Opened(scratch / "base", named), nullptr, nullptr, scratch / "out", true);
  const GoldenFile expected(fs::path(whole) / "eora/adapter_model.safetensors");
  const GoldenFile found(scratch / "out/eora/adapter_model.safetensors");
  EXPECT_EQ(expected.entries().size(), found.entries().size());
  for (const auto& [name, entry] : expected.entries())
    EXPECT_TRUE(std::ranges::equal(entry.bytes, found[name].bytes)) << name;
  EXPECT_TRUE(std::ranges::any_of(open_checkpoint(scratch / "out").tensors, &Tensor::has_low_rank));
}

ErrorCode code_of(const Opened& base, const Opened* mtp, const Opened* vision) {
  const ScratchDir scratch;
  try {
    graft(base, mtp, vision, scratch / "out");
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "was taken";
  return ErrorCode::internal;
}

TEST(Graft, RefusesDonorsOfAnotherModelOrWithoutThePart) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(base, "qwen35_family/gptq-int4-g64");
  REGAUGE_FULL_GOLDEN_OR_SKIP(other, "qwen35_tiny/hf");
  REGAUGE_FULL_GOLDEN_OR_SKIP(without, "qwen35_family/gptq-int4-g128-noact");
  REGAUGE_FULL_GOLDEN_OR_SKIP(whole, "qwen35_family/hf-bf16");
  const Opened smaller(other);
  const Opened bare(without);
  const Opened full(whole);
  EXPECT_EQ(code_of(Opened(base), &smaller, nullptr), ErrorCode::invalid);
  EXPECT_EQ(code_of(Opened(base), nullptr, &smaller), ErrorCode::invalid);
  EXPECT_EQ(code_of(Opened(base), &bare, nullptr), ErrorCode::invalid);
  EXPECT_EQ(code_of(full, &full, nullptr), ErrorCode::invalid);  // has one already
  EXPECT_EQ(code_of(full, nullptr, nullptr), ErrorCode::invalid);
}

}  // namespace
}  // namespace regauge
