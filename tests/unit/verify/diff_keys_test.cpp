#include "verify/diff_keys.h"

#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "formats/format.h"
#include "tests/support/golden.h"
#include "tests/support/tensors.h"

namespace regauge {
namespace {

using testing::ScratchDir;

/// A GGUF file that is its keys.
Checkpoint gguf(const std::string& type, const std::string& key, float value) {
  Checkpoint checkpoint;
  checkpoint.format = "gguf";
  checkpoint.dialect = Dialect::gguf;
  checkpoint.metadata.set("general.type", type);
  checkpoint.metadata.set(key, value);
  return checkpoint;
}

std::vector<KeyDiff> keys_of(const std::vector<const Checkpoint*>& first,
                             const std::vector<const Checkpoint*>& second) {
  const auto opened = [](const std::vector<const Checkpoint*>& checkpoints) {
    std::vector<OpenedPath> paths;
    for (const Checkpoint* checkpoint : checkpoints) paths.push_back({checkpoint, nullptr});
    return paths;
  };
  std::vector<std::string> unread;
  auto keys = diff_keys(opened(first), opened(second), 0, 0, unread);
  EXPECT_TRUE(unread.empty());
  return keys;
}

TEST(DiffKeys, ComparesEveryFileOfAModelWithItsOwnKind) {
  const Checkpoint model = gguf("model", "llama.context_length", 1);
  const Checkpoint tower = gguf("mmproj", "clip.vision.image_size", 2);
  const Checkpoint other_tower = gguf("mmproj", "clip.vision.image_size", 3);
  const Checkpoint adapter = gguf("adapter", "adapter.lora.alpha", 64);
  const Checkpoint other_adapter = gguf("adapter", "adapter.lora.alpha", 32);
  // In whatever order they are given.
  const auto keys = keys_of({&model, &tower, &adapter}, {&other_adapter, &model, &other_tower});
  ASSERT_EQ(keys.size(), 2U);
  EXPECT_EQ(keys[0].where, "mmproj metadata");
  EXPECT_EQ(keys[0].key, "clip.vision.image_size");
  EXPECT_EQ(keys[1].where, "adapter metadata");
  EXPECT_EQ(keys[1].key, "adapter.lora.alpha");
  EXPECT_EQ(keys[1].first, "64");
  EXPECT_EQ(keys[1].second, "32");
  EXPECT_TRUE(keys[1].counted);
  EXPECT_TRUE(keys_of({&model}, {&model, &tower}).empty());
}

// An adapter that lies in a directory says in JSON what a GGUF adapter says in a key.
TEST(DiffKeys, HoldsTheAlphaOfAnAdapterAgainstThatOfADirectory) {
  const ScratchDir scratch;
  const auto directory = scratch / "model";
  std::filesystem::copy(testing::sample_path("qwen35-bf16-tiny"), directory, std::filesystem::copy_options::recursive);
  std::filesystem::create_directory(directory / "eora");
  std::ofstream(directory / "eora" / "adapter_config.json") << R"({"lora_alpha": 64})";
  OpenOptions options;
  options.find_adapter = false;
  const Checkpoint with_adapter = open_checkpoint(directory, options);
  for (const float alpha : {64.0F, 16.0F}) {
    const Checkpoint adapter = gguf("adapter", "adapter.lora.alpha", alpha);
    const auto keys = keys_of({&with_adapter}, {&adapter});
    ASSERT_EQ(keys.size(), alpha == 64 ? 0U : 1U);
    for (const KeyDiff& key : keys) EXPECT_EQ(key.second, "16");
  }
}

}  // namespace
}  // namespace regauge
