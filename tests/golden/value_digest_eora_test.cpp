#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "formats/format.h"
#include "models/architecture.h"
#include "tests/support/golden.h"
#include "tests/support/patch.h"
#include "verify/value_digest.h"

// Where low-rank factors lie is no property of the model: inside it, in a directory beside it, or in a file of llama.cpp's.

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::Bytes;
using testing::SafetensorsPatch;
using testing::ScratchDir;

ValueDigests digests_of(const std::vector<fs::path>& paths) {
  std::vector<std::unique_ptr<Checkpoint>> checkpoints;
  std::vector<std::unique_ptr<const Architecture>> architectures;
  std::vector<OpenedPath> opened;
  for (const fs::path& path : paths) {
    checkpoints.push_back(std::make_unique<Checkpoint>(open_checkpoint(path)));
    architectures.push_back(recognise(*checkpoints.back()));
    opened.push_back({checkpoints.back().get(), architectures.back().get()});
  }
  return value_digests(opened);
}

Bytes transposed(const Bytes& bytes, std::int64_t rows, std::int64_t columns) {
  Bytes out(bytes.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c)
      std::memcpy(&out[static_cast<std::size_t>(2 * (c * rows + r))],
                  &bytes[static_cast<std::size_t>(2 * (r * columns + c))], 2);
  }
  return out;
}

class DigestsOfFactors : public ::testing::Test {
 protected:
  /// The golden directory without its adapter.
  fs::path without_adapter(const fs::path& whole) {
    const fs::path to = scratch_ / "bare";
    fs::create_directory(to);
    for (const auto& entry : fs::directory_iterator(whole)) {
      if (entry.is_regular_file()) fs::copy(entry.path(), to / entry.path().filename());
    }
    return to;
  }
  /// The same with the factors as arrays of the model: `<module>.lora_A` [in, r] and `<module>.lora_B` [r, out].
  fs::path with_factors_inside(const fs::path& bare, const fs::path& adapter) {
    const fs::path to = scratch_ / "inside";
    fs::copy(bare, to);
    SafetensorsPatch model(to / "model-00003-of-00003.safetensors");
    auto index = nlohmann::ordered_json::parse(testing::read_text(to / "model.safetensors.index.json"));
    for (const auto& factor : SafetensorsPatch(adapter / "adapter_model.safetensors").arrays) {
      const std::string prefix = "base_model.model.";
      const std::string suffix = ".weight";
      EXPECT_EQ(factor.dtype, "BF16");
      const std::string name = factor.name.substr(prefix.size(), factor.name.size() - prefix.size() - suffix.size());
      model.arrays.push_back({name,
                              factor.dtype,
                              {factor.shape[1], factor.shape[0]},
                              transposed(factor.bytes, factor.shape[0], factor.shape[1])});
      index["weight_map"][name] = "model-00003-of-00003.safetensors";
    }
    index["metadata"].erase("total_size");
    model.save(to / "model-00003-of-00003.safetensors");
    testing::write_text(to / "model.safetensors.index.json", index.dump());
    return to;
  }

  ScratchDir scratch_;
};

TEST_F(DigestsOfFactors, AreTheSameWhereverTheyLie) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(whole, "qwen35_family/gptq-mixed-eora");
  REGAUGE_FULL_GOLDEN_OR_SKIP(lora, "qwen35_family/gptq-mixed-eora.adapter.gguf");
  const fs::path bare = without_adapter(whole);
  const ValueDigests beside = digests_of({whole});
  ASSERT_TRUE(beside.roots.contains("adapter"));
  const ValueDigests inside = digests_of({with_factors_inside(bare, whole / "eora")});
  EXPECT_EQ(inside.tensors, beside.tensors);
  EXPECT_EQ(inside.roots, beside.roots);
  EXPECT_EQ(inside.model, beside.model);
  const ValueDigests named = digests_of({bare, whole / "eora"});
  EXPECT_EQ(named.roots, beside.roots);
  const ValueDigests in_gguf = digests_of({bare, lora});
  EXPECT_EQ(in_gguf.roots, beside.roots);
  EXPECT_EQ(in_gguf.model, beside.model);
  // And without them everything else is what it was.
  const ValueDigests none = digests_of({bare});
  EXPECT_FALSE(none.roots.contains("adapter"));
  EXPECT_EQ(none.roots.at("text"), beside.roots.at("text"));
  EXPECT_NE(none.model, beside.model);
}

/// One bit of one factor is one other leaf, and another root.
TEST_F(DigestsOfFactors, ChangeWithOneBitOfOneOfThem) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(whole, "qwen35_family/gptq-mixed-eora");
  const ValueDigests digests = digests_of({whole});
  const auto leaf = digests.tensors.find("model.language_model.layers.3.self_attn.o_proj.weight.lora_a");
  ASSERT_NE(leaf, digests.tensors.end());
  SafetensorsPatch adapter(whole / "eora/adapter_model.safetensors");
  const std::string name = "base_model.model.model.language_model.layers.3.self_attn.o_proj.lora_A.weight";
  const fs::path bare = without_adapter(whole);
  fs::create_directory(scratch_ / "eora");
  fs::copy(whole / "eora/adapter_config.json", scratch_ / "eora/adapter_config.json");
  adapter.array(name).bytes[0] ^= std::byte{1};
  adapter.save(scratch_ / "eora/adapter_model.safetensors");
  const ValueDigests other = digests_of({bare, scratch_ / "eora"});
  std::vector<std::string> differ;
  for (const auto& [tensor, digest] : digests.tensors) {
    if (other.tensors.at(tensor) != digest) differ.push_back(tensor);
  }
  EXPECT_EQ(differ, std::vector<std::string>{leaf->first});
  EXPECT_NE(other.roots.at("adapter"), digests.roots.at("adapter"));
  EXPECT_EQ(other.roots.at("text"), digests.roots.at("text"));
}

}  // namespace
}  // namespace regauge
