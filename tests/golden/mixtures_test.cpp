#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "convert/execute.h"
#include "convert/plan.h"
#include "formats/format.h"
#include "models/architecture.h"
#include "tests/support/golden.h"
#include "tests/support/moe_model.h"
#include "tests/support/opened.h"
#include "tests/support/rewrite.h"

// Models with the heads and experts of the published mixtures and little else: where every expert's numbers lie in a stack
// is worked out here from the arrays that went in.

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::Bytes;
using testing::convert;
using testing::MoeModel;
using testing::MoeSizes;
using testing::MoeStorage;
using testing::Opened;
using testing::ScratchDir;

ConvertOptions to(const std::string& format) {
  ConvertOptions options;
  options.format = format;
  options.directory = true;
  options.require = Fidelity::values;
  return options;
}

Opened write(const fs::path& folder, const MoeModel& model) {
  fs::create_directories(folder);
  testing::write_moe(folder, model);
  return Opened(folder);
}

Bytes bytes_of(const Checkpoint& checkpoint, const std::string& name) {
  const StoredArray* array = checkpoint.find_array(name);
  if (array == nullptr) {
    ADD_FAILURE() << "no array " << name;
    return {};
  }
  return checkpoint.files[array->file].file->read_range(array->offset, array->bytes);
}

void append(Bytes& to, const Bytes& from) { to.insert(to.end(), from.begin(), from.end()); }

const std::string kText = "model.language_model.layers.";

/// A block's prefix in Hugging Face's names; the MTP block is the one behind the last.
std::string block_prefix(const MoeSizes& sizes, int block) {
  return block == sizes.layers ? "mtp.layers.0." : kText + std::to_string(block) + ".";
}

/// BF16 bytes of all experts' `leaf` in order, whichever way the model stores them.
Bytes experts_of(const MoeModel& model, const MoeSizes& sizes, int block, const std::string& leaf) {
  const std::string prefix = block_prefix(sizes, block) + "mlp.experts.";
  const bool down = leaf == "down_proj";
  const std::string fused = prefix + (down ? "down_proj" : "gate_up_proj");
  const bool is_fused =
      std::ranges::find(model.arrays, fused, &testing::SafetensorsPatch::Array::name) != model.arrays.end();
  Bytes out;
  for (std::int64_t e = 0; e < sizes.experts; ++e) {
    if (!is_fused) {
      append(out, model.array(prefix + std::to_string(e) + "." + leaf + ".weight").bytes);
      continue;
    }
    const Bytes& all = model.array(fused).bytes;
    const std::size_t each = static_cast<std::size_t>(sizes.intermediate * sizes.hidden * 2);
    const std::size_t stride = down ? each : 2 * each;
    const std::size_t begin = static_cast<std::size_t>(e) * stride + (leaf == "up_proj" ? each : 0);
    out.insert(out.end(), all.begin() + static_cast<std::ptrdiff_t>(begin),
               all.begin() + static_cast<std::ptrdiff_t>(begin + each));
  }
  return out;
}

constexpr std::array<std::pair<const char*, const char*>, 3> kStacks{
    {{"gate_proj", "ffn_gate_exps"}, {"up_proj", "ffn_up_exps"}, {"down_proj", "ffn_down_exps"}}};

class MixtureStacks : public ::testing::TestWithParam<std::tuple<MoeSizes, MoeStorage>> {};

TEST_P(MixtureStacks, KeepsEveryExpertInItsPlaceThroughGgufAndMlx) {
  const auto& [sizes, storage] = GetParam();
  const ScratchDir scratch;
  const MoeModel model = testing::make_moe(sizes, storage);
  const Opened source = write(scratch / "hf", model);
  ASSERT_NE(source.architecture, nullptr);
  convert(source, scratch / "m.gguf", to("gguf"));
  convert(source, scratch / "mlx", [] {
    ConvertOptions options = to("mlx");
    options.require.reset();  // norms as bf16(1 + w), as the dialect has them
    return options;
  }());
  const Opened gguf(scratch / "m.gguf");
  const Opened mlx(scratch / "mlx");
  for (int block = 0; block <= sizes.layers; ++block) {
    const std::string blk = "blk." + std::to_string(block) + ".";
    const std::string prefix = block_prefix(sizes, block);
    const std::string in_mlx = block == sizes.layers ? "language_model.mtp.layers.0."
                                                     : "language_model.model.layers." + std::to_string(block) + ".";
    SCOPED_TRACE(blk);
    for (const auto& [leaf, stack] : kStacks) {
      const Bytes expected = experts_of(model, sizes, block, leaf);
      const bool down = std::string(leaf) == "down_proj";
      const Shape shape{sizes.experts, down ? sizes.hidden : sizes.intermediate,
                        down ? sizes.intermediate : sizes.hidden};
      const StoredArray* array = gguf.checkpoint->find_array(blk + stack + ".weight");
      ASSERT_NE(array, nullptr) << stack;
      EXPECT_EQ(array->shape, shape);
      EXPECT_EQ(element_name(*array), "BF16");
      EXPECT_TRUE(bytes_of(*gguf.checkpoint, array->name) == expected) << stack;
      const std::string switched = in_mlx + "mlp.switch_mlp." + leaf + ".weight";
      ASSERT_NE(mlx.checkpoint->find_array(switched), nullptr) << switched;
      EXPECT_EQ(mlx.checkpoint->find_array(switched)->shape, shape);
      EXPECT_TRUE(bytes_of(*mlx.checkpoint, switched) == expected) << switched;
    }
    for (const auto& [leaf, one] : {std::pair("gate_proj", "ffn_gate_shexp"), std::pair("up_proj", "ffn_up_shexp"),
                                    std::pair("down_proj", "ffn_down_shexp")}) {
      EXPECT_TRUE(bytes_of(*gguf.checkpoint, blk + one + ".weight") ==
                  model.array(prefix + "mlp.shared_expert." + leaf + ".weight").bytes);
    }
    // Routers are F32 there: BF16 widened.
    for (const auto& [leaf, one] :
         {std::pair("gate", "ffn_gate_inp"), std::pair("shared_expert_gate", "ffn_gate_inp_shexp")}) {
      EXPECT_EQ(testing::from_f32(bytes_of(*gguf.checkpoint, blk + one + ".weight")),
                testing::from_bf16(model.array(prefix + "mlp." + leaf + ".weight").bytes));
    }
  }
  const Metadata& keys = gguf.checkpoint->metadata;
  EXPECT_EQ(keys.get_string("general.architecture"), "qwen35moe");
  EXPECT_EQ(keys.get_uint("qwen35moe.block_count"), static_cast<std::uint64_t>(sizes.layers + 1));
  EXPECT_EQ(keys.get_uint("qwen35moe.nextn_predict_layers"), 1U);
  EXPECT_EQ(keys.get_uint("qwen35moe.expert_count"), static_cast<std::uint64_t>(sizes.experts));
  EXPECT_EQ(keys.get_uint("qwen35moe.expert_used_count"), static_cast<std::uint64_t>(sizes.experts_used));
  EXPECT_EQ(keys.get_uint("qwen35moe.expert_feed_forward_length"), static_cast<std::uint64_t>(sizes.intermediate));
  EXPECT_EQ(keys.get_uint("qwen35moe.expert_shared_feed_forward_length"), static_cast<std::uint64_t>(sizes.shared));
  EXPECT_EQ(keys.get_uint("qwen35moe.ssm.group_count"), 16U);
  EXPECT_EQ(keys.get_uint("qwen35moe.ssm.time_step_rank"), static_cast<std::uint64_t>(sizes.value_heads));

  // Both ways back give the fused arrays of a checkpoint that was never anything else.
  const MoeModel& fused = model;
  for (const Opened* there : {&gguf, &mlx}) {
    const fs::path back = scratch / ("back of " + there->checkpoint->format);
    convert(*there, back, to("safetensors"));
    const Checkpoint hf = open_checkpoint(back);
    for (int block = 0; block <= sizes.layers; ++block) {
      std::string prefix = block_prefix(sizes, block);
      if (there == &gguf && block < sizes.layers) prefix.erase(prefix.find("language_model."), 15);
      Bytes gate_up;
      const Bytes gate = experts_of(fused, sizes, block, "gate_proj");
      const Bytes up = experts_of(fused, sizes, block, "up_proj");
      const std::size_t each = gate.size() / static_cast<std::size_t>(sizes.experts);
      for (std::size_t at = 0; at < gate.size(); at += each) {
        gate_up.insert(gate_up.end(), gate.begin() + static_cast<std::ptrdiff_t>(at),
                       gate.begin() + static_cast<std::ptrdiff_t>(at + each));
        gate_up.insert(gate_up.end(), up.begin() + static_cast<std::ptrdiff_t>(at),
                       up.begin() + static_cast<std::ptrdiff_t>(at + each));
      }
      EXPECT_TRUE(bytes_of(hf, prefix + "mlp.experts.gate_up_proj") == gate_up) << prefix;
      EXPECT_TRUE(bytes_of(hf, prefix + "mlp.experts.down_proj") == experts_of(fused, sizes, block, "down_proj"));
      EXPECT_TRUE(bytes_of(hf, prefix + "mlp.gate.weight") ==
                  model.array(block_prefix(sizes, block) + "mlp.gate.weight").bytes);
      EXPECT_TRUE(bytes_of(hf, prefix + "mlp.shared_expert_gate.weight") ==
                  model.array(block_prefix(sizes, block) + "mlp.shared_expert_gate.weight").bytes);
    }
  }
}

std::string storage_name(MoeStorage storage) {
  switch (storage) {
    case MoeStorage::official: return "official";
    case MoeStorage::fused: return "fused";
    case MoeStorage::per_expert: return "per_expert";
    case MoeStorage::gptq: return "gptq";
  }
  return "";
}

INSTANTIATE_TEST_SUITE_P(
    Published, MixtureStacks,
    ::testing::Combine(::testing::ValuesIn(testing::published_mixtures()),
                       ::testing::Values(MoeStorage::official, MoeStorage::fused, MoeStorage::per_expert)),
    [](const auto& test) { return std::get<0>(test.param).name + "_" + storage_name(std::get<1>(test.param)); });

class QuantizedMixture : public ::testing::TestWithParam<MoeSizes> {};

/// Modules of a checkpoint under the names of a text-only save, which a GGUF without its tower gives back.
std::string text_only(std::string name) {
  if (const auto at = name.find("language_model."); at != std::string::npos) name.erase(at, 15);
  return name;
}

TEST_P(QuantizedMixture, HasItsModulesStackedCodeByCodeAndTakenApartAgain) {
  const MoeSizes& sizes = GetParam();
  const ScratchDir scratch;
  const MoeModel model = testing::make_moe(sizes, MoeStorage::gptq);
  const Opened source = write(scratch / "gptq", model);
  convert(source, scratch / "m.gguf", to("gguf"));
  const Opened gguf(scratch / "m.gguf");
  for (int block = 0; block <= sizes.layers; ++block) {
    for (const auto& [leaf, stack] : kStacks) {
      std::vector<const testing::Codes*> modules;
      for (std::int64_t e = 0; e < sizes.experts; ++e)
        modules.push_back(
            &model.modules.at(block_prefix(sizes, block) + "mlp.experts." + std::to_string(e) + "." + leaf));
      const std::string name = "blk." + std::to_string(block) + "." + stack + ".weight";
      ASSERT_NE(gguf.checkpoint->find_array(name), nullptr) << name;
      EXPECT_EQ(element_name(*gguf.checkpoint->find_array(name)), "Q4_0");
      EXPECT_TRUE(bytes_of(*gguf.checkpoint, name) == testing::q4_0_stack(modules)) << name;
    }
    const std::string shared = block_prefix(sizes, block) + "mlp.shared_expert.up_proj";
    EXPECT_TRUE(bytes_of(*gguf.checkpoint, "blk." + std::to_string(block) + ".ffn_up_shexp.weight") ==
                testing::q4_0_stack({&model.modules.at(shared)}));
  }
  convert(gguf, scratch / "gguf and back", to("gptq"));
  const Checkpoint back = open_checkpoint(scratch / "gguf and back");
  std::size_t compared = 0;
  for (const auto& array : model.arrays) {
    const std::string module = array.name.substr(0, array.name.rfind('.'));
    if (!model.modules.contains(module)) continue;
    ASSERT_TRUE(bytes_of(back, text_only(array.name)) == array.bytes) << array.name;
    ++compared;
  }
  EXPECT_EQ(compared, model.modules.size() * 4);
}

TEST_P(QuantizedMixture, HasItsModulesInSwitchMlpAndTakenApartAgain) {
  const MoeSizes& sizes = GetParam();
  const ScratchDir scratch;
  const MoeModel model = testing::make_moe(sizes, MoeStorage::gptq);
  const Opened source = write(scratch / "gptq", model);
  convert(source, scratch / "mlx", to("mlx"));
  const Opened mlx(scratch / "mlx");
  const std::string module = "language_model.model.layers.1.mlp.switch_mlp.down_proj";
  const StoredArray* weight = mlx.checkpoint->find_array(module + ".weight");
  ASSERT_NE(weight, nullptr);
  EXPECT_EQ(weight->shape, (Shape{sizes.experts, sizes.hidden, sizes.intermediate / 8}));
  // MLX packs a row's codes as a stream of bits, low bits first: eight codes of 4 bits a word.
  Bytes words;
  Bytes scales;
  for (std::int64_t e = 0; e < sizes.experts; ++e) {
    const auto& codes = model.modules.at(kText + "1.mlp.experts." + std::to_string(e) + ".down_proj");
    for (std::size_t i = 0; i < codes.codes.size(); i += 2)
      words.push_back(static_cast<std::byte>(codes.codes[i] | codes.codes[i + 1] << 4));
    for (const std::uint16_t scale : codes.scales) {
      scales.push_back(static_cast<std::byte>(scale & 0xFF));
      scales.push_back(static_cast<std::byte>(scale >> 8));
    }
  }
  EXPECT_TRUE(bytes_of(*mlx.checkpoint, module + ".weight") == words);
  EXPECT_TRUE(bytes_of(*mlx.checkpoint, module + ".scales") == scales);
  convert(mlx, scratch / "mlx and back", to("gptq"));
  const Checkpoint back = open_checkpoint(scratch / "mlx and back");
  std::size_t compared = 0;
  for (const auto& array : model.arrays) {
    const std::string name = array.name.substr(0, array.name.rfind('.'));
    if (!model.modules.contains(name)) continue;
    ASSERT_TRUE(bytes_of(back, array.name) == array.bytes) << array.name;
    ++compared;
  }
  EXPECT_EQ(compared, model.modules.size() * 4);
}

INSTANTIATE_TEST_SUITE_P(Published, QuantizedMixture, ::testing::ValuesIn(testing::published_mixtures()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace regauge
