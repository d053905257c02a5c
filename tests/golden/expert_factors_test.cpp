#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "convert/execute.h"
#include "convert/plan.h"
#include "formats/format.h"
#include "models/architecture.h"
#include "models/low_rank.h"
#include "tests/support/golden.h"
#include "tests/support/made_adapter.h"
#include "tests/support/opened.h"
#include "tests/support/rewrite.h"
#include "verify/diff.h"

// EoRA factors of experts: one pair a module in PEFT, three-dimensional stacks in GGUF and MLX adapters. What a stack holds
// is put together here from the factors that went in.

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::Bytes;
using testing::convert;
using testing::GoldenFile;
using testing::MadeAdapter;
using testing::Opened;
using testing::ScratchDir;

constexpr const char* kTiny = "qwen35_tiny_moe/hf";
const std::vector<std::int64_t> kEqual(8, 8);
const std::vector<std::int64_t> kMixed{8, 0, 4, 8, 2, 8, 1, 3};

ConvertOptions to(const std::string& format) {
  ConvertOptions options;
  options.format = format;
  options.directory = true;
  options.drop_vision = true;
  return options;
}

/// A folder with a made adapter in it.
fs::path written(const ScratchDir& scratch, const MadeAdapter& adapter) {
  const fs::path folder = scratch / "made";
  fs::create_directories(folder);
  adapter.write(folder);
  return folder;
}

const std::string kLayers = "model.language_model.layers.";

std::string expert(int layer, std::size_t number, const std::string& leaf) {
  return kLayers + std::to_string(layer) + ".mlp.experts." + std::to_string(number) + "." + leaf;
}

void zeros(Bytes& out, std::size_t count) { out.resize(out.size() + count, std::byte{0}); }

/// The stack of an adapter's factors of BF16: A [8, rank, k] or B [8, n, rank], zeros where an expert has less.
Bytes stack(const MadeAdapter& adapter, const std::vector<std::int64_t>& ranks, int layer, const std::string& leaf,
            char factor, std::int64_t rank, std::int64_t n, std::int64_t k) {
  Bytes out;
  for (std::size_t e = 0; e < ranks.size(); ++e) {
    const std::size_t own = static_cast<std::size_t>(ranks[e]);
    const std::size_t all = static_cast<std::size_t>(rank);
    const Bytes bytes = own == 0 ? Bytes() : adapter.factor(expert(layer, e, leaf), factor).bytes;
    if (factor == 'A') {
      out.insert(out.end(), bytes.begin(), bytes.end());
      zeros(out, (all - own) * static_cast<std::size_t>(k) * 2);
      continue;
    }
    for (std::int64_t row = 0; row < n; ++row) {
      const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(row) * own * 2);
      out.insert(out.end(), begin, begin + static_cast<std::ptrdiff_t>(own * 2));
      zeros(out, (all - own) * 2);
    }
  }
  return out;
}

struct StackCase {
  std::string name;
  std::vector<std::int64_t> ranks;
};
std::ostream& operator<<(std::ostream& out, const StackCase& c) { return out << c.name; }

class ExpertFactors : public ::testing::TestWithParam<StackCase> {};

TEST_P(ExpertFactors, LieInStacksOfAGgufAdapterByTheExpertsNumber) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kTiny);
  const std::vector<std::int64_t>& ranks = GetParam().ranks;
  const ScratchDir scratch;
  const MadeAdapter made = testing::adapter_of_tiny_moe(ranks);
  const Report report = convert(Opened(source, written(scratch, made)), scratch / "m.gguf", to("gguf"));
  const Checkpoint adapter = open_checkpoint(scratch / "m-LoRA.gguf");
  EXPECT_EQ(adapter.arrays.size(), 2U * (2 * 3 + 3));
  for (const int layer : {0, 3}) {
    for (const auto& [leaf, gguf, n, k] :
         {std::tuple("gate_proj", "ffn_gate_exps", 32, 64), std::tuple("up_proj", "ffn_up_exps", 32, 64),
          std::tuple("down_proj", "ffn_down_exps", 64, 32)}) {
      const std::string base = "blk." + std::to_string(layer) + "." + gguf + ".weight";
      SCOPED_TRACE(base);
      for (const char factor : {'A', 'B'}) {
        const StoredArray* array = adapter.find_array(base + (factor == 'A' ? ".lora_a" : ".lora_b"));
        ASSERT_NE(array, nullptr);
        EXPECT_EQ(array->shape, factor == 'A' ? (Shape{8, 8, k}) : (Shape{8, n, 8}));
        EXPECT_TRUE(adapter.files[array->file].file->read_range(array->offset, array->bytes) ==
                    stack(made, ranks, layer, leaf, factor, 8, n, k));
      }
      const MetaArray* recorded = adapter.metadata.get_array("regauge.low_rank.ranks." + base);
      ASSERT_EQ(recorded != nullptr, ranks != kEqual);
      if (recorded != nullptr) {
        EXPECT_EQ(std::get<std::vector<std::int32_t>>(recorded->values),
                  std::vector<std::int32_t>(ranks.begin(), ranks.end()));
      }
    }
  }
  EXPECT_EQ(adapter.metadata.find("adapter.lora.alpha"), nullptr);
  for (const OutputResult& output : report.outputs) {
    if (output.path.filename() != "m-LoRA.gguf") continue;
    for (const StepResult& step : output.steps) EXPECT_LE(step.fidelity, Fidelity::values);
  }
}

TEST_P(ExpertFactors, LieInStacksOfAnMlxAdapterAndNotTurnedRound) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kTiny);
  const std::vector<std::int64_t>& ranks = GetParam().ranks;
  const ScratchDir scratch;
  const MadeAdapter made = testing::adapter_of_tiny_moe(ranks);
  convert(Opened(source, written(scratch, made)), scratch / "mlx", to("mlx"));
  const GoldenFile adapter(scratch / "mlx/adapters/adapters.safetensors");
  for (const auto& [leaf, n, k] : {std::tuple("gate_proj", 32, 64), std::tuple("down_proj", 64, 32)}) {
    const std::string module = std::string("language_model.model.layers.3.mlp.switch_mlp.") + leaf;
    const auto& a = adapter[module + ".lora_a"];
    const auto& b = adapter[module + ".lora_b"];
    EXPECT_EQ(a.shape, (std::vector<std::int64_t>{8, 8, k}));
    EXPECT_EQ(b.shape, (std::vector<std::int64_t>{8, n, 8}));
    EXPECT_TRUE(std::ranges::equal(a.bytes, stack(made, ranks, 3, leaf, 'A', 8, n, k)));
    EXPECT_TRUE(std::ranges::equal(b.bytes, stack(made, ranks, 3, leaf, 'B', 8, n, k)));
  }
  const auto config = nlohmann::json::parse(testing::read_text(scratch / "mlx/adapters/adapter_config.json"));
  const auto& keys = config["lora_parameters"]["keys"];
  for (const char* key : {"mlp.switch_mlp.gate_proj", "mlp.switch_mlp.up_proj", "mlp.switch_mlp.down_proj",
                          "mlp.shared_expert.up_proj", "linear_attn.out_proj", "self_attn.q_proj"}) {
    EXPECT_TRUE(std::ranges::find(keys, key) != keys.end()) << key;
  }
  EXPECT_EQ(config["lora_parameters"]["rank"], 8);
}

/// What came back is what went in, in a PEFT folder, byte for byte.
void expect_back(const MadeAdapter& made, const fs::path& directory) {
  const GoldenFile back(directory / "eora/adapter_model.safetensors");
  EXPECT_EQ(back.entries().size(), made.arrays.size());
  for (const auto& array : made.arrays) {
    std::string name = array.name;  // without its vision tower it is a text model
    if (!back.contains(name)) name.replace(name.find("language_model."), 15, "");
    ASSERT_TRUE(back.contains(name)) << array.name;
    EXPECT_EQ(back[name].shape, array.shape) << name;
    EXPECT_TRUE(std::ranges::equal(back[name].bytes, array.bytes)) << name;
  }
}

TEST_P(ExpertFactors, ComeBackFromEveryFormatByteForByte) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kTiny);
  const ScratchDir scratch;
  const MadeAdapter made = testing::adapter_of_tiny_moe(GetParam().ranks);
  const fs::path adapter = written(scratch, made);
  const Opened whole(source, adapter);
  convert(whole, scratch / "m.gguf", to("gguf"));
  convert(whole, scratch / "mlx", to("mlx"));
  convert(whole, scratch / "hf", to("safetensors"));
  expect_back(made, scratch / "hf");

  const Opened gguf(scratch / "m.gguf", scratch / "m-LoRA.gguf");
  convert(gguf, scratch / "hf of gguf", to("safetensors"));
  expect_back(made, scratch / "hf of gguf");
  convert(gguf, scratch / "mlx of gguf", to("mlx"));
  convert(Opened(scratch / "mlx of gguf"), scratch / "hf of mlx of gguf", to("safetensors"));
  expect_back(made, scratch / "hf of mlx of gguf");

  const Opened mlx(scratch / "mlx");
  convert(mlx, scratch / "hf of mlx", to("safetensors"));
  expect_back(made, scratch / "hf of mlx");
  convert(mlx, scratch / "mlx.gguf", to("gguf"));
  convert(Opened(scratch / "mlx.gguf", scratch / "mlx-LoRA.gguf"), scratch / "hf of mlx.gguf", to("safetensors"));
  expect_back(made, scratch / "hf of mlx.gguf");

  // An adapter of one format, taken out, on a model of another.
  ConvertOptions bare = to("gguf");
  bare.eora = EoraPolicy::drop;
  convert(whole, scratch / "bare.gguf", bare);
  for (const fs::path& one : {adapter, scratch / "mlx/adapters", scratch / "m-LoRA.gguf"}) {
    SCOPED_TRACE(one);
    ConvertOptions again = to("safetensors");
    again.overwrite = true;
    convert(Opened(scratch / "bare.gguf", one), scratch / "again", again);
    expect_back(made, scratch / "again");
  }
}

TEST_P(ExpertFactors, AreTheSameLeavesInEveryFormat) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kTiny);
  const ScratchDir scratch;
  const MadeAdapter made = testing::adapter_of_tiny_moe(GetParam().ranks);
  const Opened whole(source, written(scratch, made));
  convert(whole, scratch / "m.gguf", to("gguf"));
  convert(whole, scratch / "mlx", to("mlx"));
  const Opened model(scratch / "m.gguf");
  const Opened lora(scratch / "m-LoRA.gguf");
  const Opened mlx(scratch / "mlx");
  const std::vector<OpenedPath> first{whole.path()};
  for (const std::vector<OpenedPath>& second : {std::vector{model.path(), lora.path()}, std::vector{mlx.path()}}) {
    std::size_t factors = 0;
    for (const TensorDiff& tensor : diff(first, second, {}).tensors) {
      if (tensor.component != Component::adapter) continue;
      ++factors;
      EXPECT_LE(tensor.likeness, Likeness::values) << tensor.name;
    }
    EXPECT_EQ(factors, made.arrays.size());
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, ExpertFactors,
                         ::testing::Values(StackCase{"equal", kEqual}, StackCase{"of_their_own", kMixed}),
                         [](const auto& test) { return test.param.name; });

/// BF16 numbers of one expert's matrix as the golden directory stores it: fused, gate rows before up rows.
std::vector<float> golden_expert(const fs::path& source, int layer, std::size_t number, const std::string& leaf) {
  const std::string array =
      kLayers + std::to_string(layer) + ".mlp.experts." + (leaf == "down_proj" ? "down_proj" : "gate_up_proj");
  for (const auto& entry : fs::directory_iterator(source)) {
    if (entry.path().extension() != ".safetensors") continue;
    const GoldenFile file(entry.path());
    if (!file.contains(array)) continue;
    const auto bytes = file[array].bytes;
    const std::size_t each = bytes.size() / 8;
    const std::size_t begin = number * each + (leaf == "up_proj" ? each / 2 : 0);
    const auto part = bytes.subspan(begin, leaf == "down_proj" ? each : each / 2);
    return testing::from_bf16(Bytes(part.begin(), part.end()));
  }
  return {};
}

TEST(MergedExpertFactors, GiveTheSumsThatAreWorkedOutHere) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kTiny);
  const ScratchDir scratch;
  const MadeAdapter made = testing::adapter_of_tiny_moe(kMixed);
  ConvertOptions options = to("gguf");
  options.eora = EoraPolicy::merge;
  convert(Opened(source, written(scratch, made)), scratch / "m.gguf", options);
  const Checkpoint model = open_checkpoint(scratch / "m.gguf");
  EXPECT_FALSE(fs::exists(scratch / "m-LoRA.gguf"));
  for (const auto& [leaf, gguf] : {std::pair("gate_proj", "ffn_gate_exps"), std::pair("up_proj", "ffn_up_exps"),
                                   std::pair("down_proj", "ffn_down_exps")}) {
    std::vector<float> expected;
    for (std::size_t e = 0; e < 8; ++e) {
      const std::vector<float> weight = golden_expert(source, 3, e, leaf);
      const std::vector<float> sum = kMixed[e] == 0 ? weight : made.merged(expert(3, e, leaf), weight);
      expected.insert(expected.end(), sum.begin(), sum.end());
    }
    const StoredArray* array = model.find_array(std::string("blk.3.") + gguf + ".weight");
    ASSERT_NE(array, nullptr);
    EXPECT_EQ(element_name(*array), "F32");
    const Bytes bytes = model.files[array->file].file->read_range(array->offset, array->bytes);
    EXPECT_EQ(testing::count_bit_differences(expected, testing::from_f32(bytes)), 0U) << gguf;
  }
}

TEST(KeptExpertFactors, MakeEveryExpertAModuleWhereNamesAreHuggingFaces) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kTiny);
  const ScratchDir scratch;
  const MadeAdapter made = testing::adapter_of_tiny_moe(kEqual);
  convert(Opened(source, written(scratch, made)), scratch / "hf", to("safetensors"));
  const Checkpoint hf = open_checkpoint(scratch / "hf");
  EXPECT_EQ(hf.find_array(kLayers + "0.mlp.experts.gate_up_proj"), nullptr);
  for (const char* leaf : {"gate_proj", "up_proj", "down_proj"}) {
    const StoredArray* array = hf.find_array(expert(0, 5, std::string(leaf) + ".weight"));
    ASSERT_NE(array, nullptr) << leaf;
    EXPECT_EQ(testing::from_bf16(hf.files[array->file].file->read_range(array->offset, array->bytes)),
              golden_expert(source, 0, 5, leaf));
  }
}

TEST(DroppedExpertFactors, AreSaidOncePerStack) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kTiny);
  const ScratchDir scratch;
  const MadeAdapter made = testing::adapter_of_tiny_moe(kEqual);
  const Opened whole(source, written(scratch, made));
  ConvertOptions options = to("gguf");
  options.eora = EoraPolicy::drop;
  const Plan plan = plan_conversion(*whole.checkpoint, whole.architecture.get(), scratch / "m.gguf", options);
  std::multiset<std::string> names;
  for (const LeftOut& left : plan.left_out) {
    if (left.corrected == nullptr) continue;
    names.insert(left.name);
    ASSERT_TRUE(left.norm.has_value());
    EXPECT_GT(left.norm->correction, 0);
  }
  EXPECT_EQ(names.size(), 7U);  // two fused stacks of two layers, three modules
  EXPECT_EQ(names.count(kLayers + "0.mlp.experts.gate_up_proj"), 1U);
}

TEST(ExpertFactorsOfOneStack, InTwoTypesAreRefused) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kTiny);
  const ScratchDir scratch;
  MadeAdapter made;
  made.add(expert(0, 0, "down_proj"), 64, 32, 4, "BF16");
  made.add(expert(0, 1, "down_proj"), 64, 32, 4, "F16");
  try {
    const Opened opened(source, written(scratch, made));
    FAIL() << "two types were stacked";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
  }
}

TEST(ExpertFactorsOfOneStack, WithRanksThatAreNoneOfTheirsAreMalformed) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kTiny);
  const ScratchDir scratch;
  convert(Opened(source, written(scratch, testing::adapter_of_tiny_moe(kMixed))), scratch / "m.gguf", to("gguf"));
  const std::string key = "regauge.low_rank.ranks.blk.0.ffn_up_exps.weight";
  const Opened model(scratch / "m.gguf");
  for (const std::vector<std::int32_t>& wrong : {std::vector<std::int32_t>{8, 0, 4},
                                                 {8, 0, 4, 8, 2, 8, 1, 9},
                                                 {8, 0, 4, 8, 2, 8, 1, -1},
                                                 {0, 0, 0, 0, 0, 0, 0, 0}}) {
    Checkpoint adapter = open_checkpoint(scratch / "m-LoRA.gguf");
    adapter.metadata.set(key, MetaArray{MetaType::i32, wrong});
    try {
      attach_adapter(*model.checkpoint, *model.architecture, std::move(adapter));
      FAIL() << "such ranks were taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::malformed);
    }
  }
}

TEST(ExpertFactorsAmongTheWeights, LieTheOtherWayRoundPerModule) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(source, kTiny);
  const ScratchDir scratch;
  const MadeAdapter made = testing::adapter_of_tiny_moe(kMixed);
  ConvertOptions options = to("safetensors");
  options.directory = false;
  convert(Opened(source, written(scratch, made)), scratch / "one.safetensors", options);
  const GoldenFile one(scratch / "one.safetensors");
  const std::string module = expert(3, 7, "gate_proj");
  for (const char factor : {'A', 'B'}) {
    const auto& array = made.factor(module, factor);
    const auto& stored = one[module + ".lora_" + factor];
    const std::vector<float> upright = testing::from_bf16(array.bytes);
    const std::vector<float> found = testing::from_bf16(Bytes(stored.bytes.begin(), stored.bytes.end()));
    ASSERT_EQ(stored.shape, (std::vector<std::int64_t>{array.shape[1], array.shape[0]}));
    for (std::int64_t r = 0; r < array.shape[0]; ++r) {
      for (std::int64_t c = 0; c < array.shape[1]; ++c) {
        ASSERT_EQ(found[static_cast<std::size_t>(c * array.shape[0] + r)],
                  upright[static_cast<std::size_t>(r * array.shape[1] + c)]);
      }
    }
  }
  EXPECT_FALSE(one.contains(expert(3, 1, "gate_proj") + ".lora_A"));
}

}  // namespace
}  // namespace regauge
