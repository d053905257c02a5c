#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/command.h"
#include "tests/support/golden.h"
#include "tests/support/made_adapter.h"
#include "tests/support/moe_model.h"
#include "tests/support/oracle.h"

// Mixtures of experts and the factors of their experts, written by the finished program, in real llama.cpp.

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::MadeAdapter;
using testing::run_command;
using testing::SafetensorsPatch;
using testing::ScratchDir;

constexpr double kF32Bound = 1e-4;

void run_well(const std::vector<std::string>& arguments) {
  const auto run = run_command(arguments);
  ASSERT_EQ(run.exit_code, 0) << arguments[1] << ": " << run.out << run.err;
}

nlohmann::json logits(const std::string& model, const std::vector<std::string>& options) {
  std::vector<std::string> command{"python3", std::string(REGAUGE_SOURCE_DIR) + "/tests/support/llama_logits.py",
                                   "logits", model};
  command.insert(command.end(), options.begin(), options.end());
  const auto run = run_command(command);
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
  auto report = nlohmann::json::parse(run.out, nullptr, false);
  if (!report.is_object()) ADD_FAILURE() << run.out << run.err;
  return report;
}

/// A copy of the golden directory in which every corrected matrix is the sum, worked out by MadeAdapter::merged and stored as
/// F32; experts lie fused, gate rows before up rows.
void write_merged(const fs::path& source, const MadeAdapter& adapter, const fs::path& target) {
  fs::copy(source, target);
  for (const auto& entry : fs::directory_iterator(target)) {
    fs::permissions(entry.path(), fs::perms::owner_write, fs::perm_options::add);
    if (entry.path().extension() != ".safetensors") continue;
    SafetensorsPatch shard(entry.path());
    for (auto& array : shard.arrays) {
      if (array.dtype != "BF16" || array.name.find(".visual.") != std::string::npos) continue;
      const std::vector<float> values = testing::from_bf16(array.bytes);
      std::vector<float> sums;
      const auto add = [&](const std::string& module, std::size_t begin, std::size_t count) {
        const std::vector<float> part(values.begin() + static_cast<std::ptrdiff_t>(begin),
                                      values.begin() + static_cast<std::ptrdiff_t>(begin + count));
        const bool corrected = std::ranges::any_of(adapter.arrays, [&](const auto& one) {
          return one.name == "base_model.model." + module + ".lora_A.weight";
        });
        const std::vector<float> sum = corrected ? adapter.merged(module, part) : part;
        sums.insert(sums.end(), sum.begin(), sum.end());
      };
      const auto experts = array.name.find(".mlp.experts.");
      if (experts != std::string::npos && array.shape.size() == 3) {
        const std::string prefix = array.name.substr(0, experts) + ".mlp.experts.";
        const std::size_t each = values.size() / static_cast<std::size_t>(array.shape[0]);
        for (std::int64_t e = 0; e < array.shape[0]; ++e) {
          const std::string module = prefix + std::to_string(e) + ".";
          const std::size_t at = static_cast<std::size_t>(e) * each;
          if (array.name.ends_with("down_proj")) {
            add(module + "down_proj", at, each);
          } else {
            add(module + "gate_proj", at, each / 2);
            add(module + "up_proj", at + each / 2, each / 2);
          }
        }
      } else {
        add(array.name.substr(0, array.name.rfind('.')), 0, values.size());
      }
      array.bytes = testing::to_f32(sums);
      array.dtype = "F32";
    }
    shard.save(entry.path());
  }
}

struct FactorCase {
  std::string name;
  std::vector<std::int64_t> ranks;
};
std::ostream& operator<<(std::ostream& out, const FactorCase& c) { return out << c.name; }

class ExpertFactorsInLlama : public ::testing::TestWithParam<FactorCase> {};

TEST_P(ExpertFactorsInLlama, AddWhatMergedExpertsHave) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, "qwen35_tiny_moe/hf");
  REGAUGE_FULL_GOLDEN_OR_SKIP(reference, "qwen35_tiny_moe/ref.json");
  REGAUGE_ORACLE_OR_SKIP(oracle);
  RecordProperty("ggml", oracle.version());
  const ScratchDir scratch;
  const MadeAdapter adapter = testing::adapter_of_tiny_moe(GetParam().ranks);
  fs::create_directories(scratch / "made");
  adapter.write(scratch / "made");
  write_merged(source, adapter, scratch / "merged");
  const std::vector<std::string> f32{"--dtype", "f32", "--drop", "vision", "-q"};
  const auto convert = [&](const std::string& from, const std::string& target, std::vector<std::string> options) {
    options.insert(options.begin(), {REGAUGE_CLI, "convert", from, scratch / target});
    run_well(options);
  };
  convert(scratch / "merged", "merged.gguf", f32);
  const std::string sums = scratch / "sums.json";
  const auto far = logits(scratch / "merged.gguf", {"--expected", reference, "--save", sums});
  EXPECT_GT(far["max_abs_diff"].get<double>(), 0.5);  // the factors matter

  std::vector<std::string> with = f32;
  with.insert(with.end(), {"--adapter", scratch / "made"});
  convert(source, "kept.gguf", with);
  EXPECT_LT(logits(scratch / "kept.gguf", {"--expected", reference})["max_abs_diff"].get<double>(), kF32Bound);
  with.insert(with.end(), {"--eora", "merge"});
  convert(source, "summed.gguf", with);
  // By way of MLX, whose stacks lie the other way round than its single modules.
  convert(source, "mlx", {"--to", "mlx", "--dtype", "f32", "--drop", "vision", "-q", "--adapter", scratch / "made"});
  convert(scratch / "mlx", "after.gguf", {"--dtype", "f32", "-q"});
  for (const auto& [model, beside] : {std::pair("kept.gguf", "kept-LoRA.gguf"), std::pair("summed.gguf", ""),
                                      std::pair("after.gguf", "after-LoRA.gguf")}) {
    std::vector<std::string> options{"--expected", sums};
    if (*beside != '\0') options.insert(options.end(), {"--adapter", scratch / beside});
    const double difference = logits(scratch / model, options)["max_abs_diff"].get<double>();
    EXPECT_LT(difference, kF32Bound) << model;
    std::printf("%s, %s: largest logit difference %.3g\n", GetParam().name.c_str(), model, difference);
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, ExpertFactorsInLlama,
                         ::testing::Values(FactorCase{"equal", {8, 8, 8, 8, 8, 8, 8, 8}},
                                           FactorCase{"of_their_own", {8, 0, 4, 8, 2, 8, 1, 3}}),
                         [](const auto& test) { return test.param.name; });

/// Act-order in every expert's down projection, which GGUF has no index for: its columns are put in order, expert by expert,
/// and with them the rows of gate and up and the factors of all three.
TEST(ActOrderExpertsInLlama, ComputeTheSameWithTheirColumnsPutInOrder) {
  REGAUGE_ORACLE_OR_SKIP(oracle);
  RecordProperty("ggml", oracle.version());
  const ScratchDir scratch;
  testing::MoeSizes sizes{.name = "act_order"};
  sizes.experts = 8;
  sizes.experts_used = 3;
  sizes.intermediate = 64;
  testing::MoeModel model = testing::make_moe(sizes, testing::MoeStorage::gptq);
  MadeAdapter adapter;
  for (std::uint32_t e = 0; e < 8; ++e) {
    const std::string expert = "model.language_model.layers.0.mlp.experts." + std::to_string(e) + ".";
    auto& index = std::ranges::find(model.arrays, expert + "down_proj.g_idx", &SafetensorsPatch::Array::name)->bytes;
    for (std::uint32_t column = 0; column < 64; ++column) {
      const std::uint32_t group = column >> e % 5 & 1;  // another assignment for each expert
      std::memcpy(index.data() + 4 * column, &group, 4);
    }
    adapter.add(expert + "gate_proj", 64, 64, 4, "F32");
    adapter.add(expert + "up_proj", 64, 64, e % 3, "F32");
    adapter.add(expert + "down_proj", 64, 64, 3, "F32");
  }
  model.config["quantization_config"]["desc_act"] = true;
  fs::create_directories(scratch / "gptq");
  fs::create_directories(scratch / "made");
  testing::write_moe(scratch / "gptq", model);
  adapter.write(scratch / "made");
  // Decoded there is no order to put in; the columns lie where they lay.
  run_well({REGAUGE_CLI, "convert", scratch / "gptq", scratch / "plain.gguf", "--adapter", scratch / "made", "--dense",
            "f32", "--dtype", "f32", "-q"});
  const std::string saved = scratch / "plain.json";
  const auto plain = logits(scratch / "plain.gguf", {"--tokens", "5,77,3,120,44,9,201,18", "--save", saved, "--adapter",
                                                     scratch / "plain-LoRA.gguf"});
  EXPECT_EQ(plain["non_finite"], 0);
  const auto without = logits(scratch / "plain.gguf", {"--expected", saved});
  EXPECT_GT(without["max_abs_diff"].get<double>(), 0.1);

  run_well({REGAUGE_CLI, "convert", scratch / "gptq", scratch / "folded", "--to", "mlx", "--adapter", scratch / "made",
            "--dtype", "f32", "-q"});
  run_well(
      {REGAUGE_CLI, "convert", scratch / "folded", scratch / "folded.gguf", "--dense", "f32", "--dtype", "f32", "-q"});
  const auto folded = logits(scratch / "folded.gguf", {"--expected", saved, "--adapter", scratch / "folded-LoRA.gguf"});
  EXPECT_LT(folded["max_abs_diff"].get<double>(), kF32Bound);
  const auto record = nlohmann::json::parse(testing::read_text(scratch / "folded/regauge.json"));
  EXPECT_EQ(record["permutations"].size(), 8U);
  // What llama.cpp computes with the columns in their new order, in blocks whose kernels round activations.
  run_well({REGAUGE_CLI, "convert", scratch / "gptq", scratch / "blocks.gguf", "--adapter", scratch / "made",
            "--require", "values", "-q"});
  const auto blocks = logits(scratch / "blocks.gguf", {"--expected", saved, "--adapter", scratch / "blocks-LoRA.gguf"});
  EXPECT_LT(blocks["max_abs_diff"].get<double>(), without["max_abs_diff"].get<double>() / 4);
  std::printf("act-order experts with factors: F32 %.3g, in blocks %.3g, without factors %.3g\n",
              folded["max_abs_diff"].get<double>(), blocks["max_abs_diff"].get<double>(),
              without["max_abs_diff"].get<double>());
  // Each expert's order is undone on the way back, in weights and in factors.
  run_well({REGAUGE_CLI, "diff", scratch / "gptq", scratch / "folded", "--with-a", scratch / "made"});
}

class MixtureInLlama : public ::testing::TestWithParam<testing::MoeSizes> {};

/// Nobody has logits of made-up models; but a model taken apart again and put together computes the same, drafts too.
TEST_P(MixtureInLlama, ComputesThereAndBackTheSame) {
  REGAUGE_ORACLE_OR_SKIP(oracle);
  RecordProperty("ggml", oracle.version());
  const ScratchDir scratch;
  const std::vector<std::string> tokens{"--tokens", "5,77,3,120,44,9,201,18"};
  using testing::MoeStorage;
  for (const auto& [name, storage] :
       {std::pair("official", MoeStorage::official), std::pair("gptq", MoeStorage::gptq)}) {
    fs::create_directories(scratch / name);
    testing::write_moe(scratch / name, testing::make_moe(GetParam(), storage));
    const std::string first = scratch / (std::string(name) + ".gguf");
    const std::string back = scratch / (std::string(name) + " back");
    const std::string second = scratch / (std::string(name) + " again.gguf");
    run_well({REGAUGE_CLI, "convert", scratch / name, first, "-q"});
    run_well({REGAUGE_CLI, "convert", first, back, "--to", storage == MoeStorage::gptq ? "gptq" : "safetensors", "-q"});
    run_well({REGAUGE_CLI, "convert", back, second, "-q"});
    const std::string saved = scratch / (std::string(name) + ".json");
    std::vector<std::string> options = tokens;
    options.insert(options.end(), {"--mtp", "--save", saved});
    const auto report = logits(first, options);
    EXPECT_EQ(report["non_finite"], 0);
    EXPECT_EQ(report["mtp"]["non_finite"], 0);
    EXPECT_GT(report["argmax"].size(), 0U);
    const auto same = logits(second, {"--expected", saved, "--mtp"});
    EXPECT_EQ(same["max_abs_diff"], 0.0);
    EXPECT_EQ(same["mtp"]["max_abs_diff"], 0.0);
  }
}

INSTANTIATE_TEST_SUITE_P(Published, MixtureInLlama, ::testing::ValuesIn(testing::published_mixtures()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace regauge
