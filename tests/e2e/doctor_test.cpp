#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "tests/support/command.h"
#include "tests/support/golden.h"
#include "tests/support/llama_run.h"
#include "tests/support/oracle.h"
#include "tests/support/patch.h"

// GGUF files broken as people's tools break them: what llama.cpp makes of each, the command that `regauge doctor`
// prints for it, and what llama.cpp makes of the file that this command writes.

namespace regauge {
namespace {

namespace fs = std::filesystem;
using testing::GgufPatch;
using testing::LlamaAnswer;
using testing::run_command;

enum class Broken : std::uint8_t {
  refused,  ///< by the loader
  aborts,   ///< an assertion ends the process
  wrong,    ///< runs, and its logits are others
  runs,     ///< runs and is right: what breaks is something else
};

struct Fault {
  std::string name;
  std::string code;
  std::string sample;  ///< a directory, converted to F32, or a GGUF file
  std::function<void(GgufPatch&)> change;
  Broken broken;
  std::size_t cure = 0;
  double bound = 1e-4;
};

void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.name; }

// Cures that begin with the original write its blocks as they are, and kernels of blocks round activations.
constexpr double kF32 = 1e-4;
constexpr double kKernels = 0.3;
// What is wrong in an F32 file is far from its 3e-6.
constexpr double kWrong = 0.1;
// Norms that were cut to BF16 stay so: 0.04 by the golden data's own measurement of bf16(1 + w), twice that when cut.
constexpr double kCutNorms = 0.1;

const std::string kGptq = "qwen35-gptq-int4";
const std::string kTinyMtp = "qwen35-tiny-mtp.gguf";

class MendedInLlama : public ::testing::TestWithParam<Fault> {
 protected:
  fs::path sample() const { return testing::sample_path(GetParam().sample); }
  bool has_mtp() const { return GetParam().sample == kTinyMtp; }

  void break_sample(const fs::path& path) const {
    if (has_mtp()) {
      fs::copy(sample(), path);
    } else {
      const auto run =
          run_command({REGAUGE_CLI, "convert", sample(), path, "--dense", "f32", "--drop", "vision", "--quiet"});
      ASSERT_EQ(run.exit_code, 0) << run.err;
    }
    GgufPatch file(path);
    GetParam().change(file);
    file.save(path);
  }

  /// The command that doctor prints for the fault, with the sample in the place of what only the user has.
  std::vector<std::string> prescribed(const fs::path& path) const {
    const auto run = run_command({REGAUGE_CLI, "doctor", path, "--json"});
    EXPECT_EQ(run.exit_code, 1) << run.err;
    const auto diagnosis = nlohmann::json::parse(run.out);
    std::vector<std::string> words;
    for (const auto& ailment : diagnosis["ailments"]) {
      if (ailment["code"] != GetParam().code) continue;
      EXPECT_NE(std::ranges::find(ailment["breaks"], "llama.cpp"), ailment["breaks"].end());
      words = ailment["cures"].at(GetParam().cure)["command"].get<std::vector<std::string>>();
    }
    EXPECT_FALSE(words.empty()) << run.out;
    for (std::string& word : words) {
      if (word == "ORIGINAL" || word == "DONOR") word = sample();
      if (word == "regauge") word = REGAUGE_CLI;
    }
    return words;
  }

  LlamaAnswer run(const fs::path& model, bool mtp) const {
    const fs::path expected = has_mtp() ? *testing::find_golden("qwen35_tiny/ref.json")
                                        : testing::sample_path("qwen35-gptq-int4.expected.safetensors");
    return testing::run_in_llama({.model = model, .expected = expected, .mtp = mtp});
  }

  void expect_broken(const LlamaAnswer& answer) const {
    constexpr int kRefused = 2;
    constexpr int kSignals = 128;
    switch (GetParam().broken) {
      case Broken::refused: EXPECT_EQ(answer.status, kRefused) << answer.log; break;
      case Broken::aborts: EXPECT_GT(answer.status, kSignals) << answer.log; break;
      case Broken::wrong: EXPECT_GT(answer.main.value_or(0), kWrong) << answer.log; break;
      case Broken::runs: EXPECT_LE(answer.main.value_or(1e9), kF32) << answer.log; break;
    }
  }

  const testing::ScratchDir scratch_;
};

TEST_P(MendedInLlama, RunsWithTheGoldenLogits) {
  REGAUGE_ORACLE_OR_SKIP(oracle);
  RecordProperty("ggml", oracle.version());
  const fs::path broken = scratch_ / "model.gguf";
  ASSERT_NO_FATAL_FAILURE(break_sample(broken));
  const LlamaAnswer before = run(broken, false);
  expect_broken(before);

  const std::vector<std::string> command = prescribed(broken);
  ASSERT_GE(command.size(), 4U);
  const auto mended = run_command(command);
  ASSERT_EQ(mended.exit_code, 0) << mended.err;
  const fs::path healthy = command[3];
  EXPECT_EQ(run_command({REGAUGE_CLI, "doctor", healthy}).exit_code, 0);
  const auto keys = GgufPatch(healthy).keys;
  const bool mtp = std::ranges::any_of(
      keys, [](const Metadata::Entry& entry) { return entry.first == "qwen35.nextn_predict_layers"; });
  const LlamaAnswer after = run(healthy, mtp);
  EXPECT_EQ(after.status, 0) << after.log;
  EXPECT_LE(after.main.value_or(1e9), GetParam().bound) << after.log;
  EXPECT_EQ(after.mtp.has_value(), mtp);
  EXPECT_LE(after.mtp.value_or(0), GetParam().bound);

  if (!has_mtp()) {
    REGAUGE_GOLDEN_OR_SKIP(tokenize, "qwen35_family/tokenize.json");
    const auto bytes = testing::read_whole_file(tokenize);
    const auto golden = nlohmann::json::parse(text_of(bytes));
    std::vector<std::string> texts;
    std::vector<nlohmann::json> ids;
    for (const auto& test : golden["tests"]) {
      texts.push_back(test["text"].get<std::string>());
      ids.push_back(test["ids_without_nfc"]);
    }
    ASSERT_FALSE(ids.empty());
    EXPECT_EQ(testing::tokenize_in_llama(healthy, texts), ids);
  }
  const auto figure = [](const std::optional<double>& value) { return value ? std::to_string(*value) : "-"; };
  std::printf("| %-32s | %-24s | status %3d, %-12s | %-12s | MTP %s\n", GetParam().name.c_str(),
              GetParam().code.c_str(), before.status, figure(before.main).c_str(), figure(after.main).c_str(),
              figure(after.mtp).c_str());
}

MetaValue& key_of(GgufPatch& file, const std::string& key) {
  const auto found = std::ranges::find(file.keys, key, &Metadata::Entry::first);
  if (found == file.keys.end()) throw std::runtime_error("no key " + key);
  return found->second;
}

template <typename T>
std::vector<T>& array_of(GgufPatch& file, const std::string& key) {
  return std::get<std::vector<T>>(std::get<MetaArray>(key_of(file, key)).values);
}

/// Every norm but the DeltaNet's, which is none of the offset kind, moved by so much.
void shift_norms(GgufPatch& file, float by) {
  for (auto& tensor : file.tensors) {
    if (!tensor.name.ends_with("_norm.weight") || tensor.name.find("ssm_norm") != std::string::npos) continue;
    std::vector<float> values = testing::from_f32(tensor.bytes);
    for (float& value : values) value += by;
    tensor.bytes = testing::to_f32(values);
  }
}

void store_in_bf16(GgufPatch& file, const std::string& suffix) {
  constexpr std::uint32_t kBf16 = 30;
  for (auto& tensor : file.tensors) {
    if (!tensor.name.ends_with(suffix)) continue;
    tensor.bytes = testing::to_bf16(testing::from_f32(tensor.bytes));
    tensor.type = kBf16;
  }
}

void count_blocks(GgufPatch& file, std::uint32_t blocks, std::uint32_t mtp) {
  file.set("qwen35.block_count", blocks);
  file.set("qwen35.nextn_predict_layers", mtp);
  file.erase_key("qwen35.attention.recurrent_layers");
}

void erase_mtp(GgufPatch& file) {
  file.erase([](const std::string& name) { return name.starts_with("blk.4."); });
}

std::vector<Fault> all_faults() {
  return {
      {"NormsInBf16", "gguf-not-f32", kGptq, [](GgufPatch& f) { store_in_bf16(f, "attn_norm.weight"); }, Broken::aborts,
       0, kCutNorms},
      {"ConvolutionsInBf16", "gguf-not-f32", kGptq, [](GgufPatch& f) { store_in_bf16(f, "ssm_conv1d.weight"); },
       Broken::aborts, 0, kF32},
      {"KeysOfOtherTypes", "gguf-key-type", kGptq,
       [](GgufPatch& f) {
         MetaValue& blocks = key_of(f, "qwen35.block_count");
         blocks = static_cast<std::uint64_t>(std::get<std::uint32_t>(blocks));
         MetaValue& theta = key_of(f, "qwen35.rope.freq_base");
         theta = static_cast<double>(std::get<float>(theta));
       },
       Broken::refused, 0, kF32},
      {"NoRopeBase", "gguf-key-missing", kGptq, [](GgufPatch& f) { f.erase_key("qwen35.rope.freq_base"); },
       Broken::wrong, 0, kKernels},
      {"NoRopeDimensions", "gguf-key-missing", kGptq, [](GgufPatch& f) { f.erase_key("qwen35.rope.dimension_count"); },
       Broken::wrong, 0, kKernels},
      {"AnExtraTensor", "tensor-extra", kGptq,
       [](GgufPatch& f) {
         auto extra = f.tensor("blk.0.attn_norm.weight");
         extra.name = "rope_freqs.weight";
         f.tensors.push_back(extra);
       },
       Broken::refused, 0, kF32},
      {"AlignedTo128", "alignment-not-32", kGptq,
       [](GgufPatch& f) {
         f.alignment = 128;
         f.set("general.alignment", std::uint32_t{128});
       },
       Broken::runs, 0, kF32},
      {"TwoTokensOfOneText", "token-twice", kGptq,
       [](GgufPatch& f) {
         auto& tokens = array_of<std::string>(f, "tokenizer.ggml.tokens");
         tokens.back() = tokens.front();
       },
       Broken::aborts, 0, kKernels},
      {"NoMerges", "tokenizer-missing", kGptq, [](GgufPatch& f) { f.erase_key("tokenizer.ggml.merges"); },
       Broken::refused, 0, kKernels},
      {"FewerTypesThanTokens", "tokenizer-arrays-unequal", kGptq,
       [](GgufPatch& f) { array_of<std::int32_t>(f, "tokenizer.ggml.token_type").pop_back(); }, Broken::refused, 0,
       kKernels},
      {"TheOldPreTokenizer", "pre-tokenizer-old", kGptq,
       [](GgufPatch& f) { f.set("tokenizer.ggml.pre", std::string("qwen2")); }, Broken::runs, 0, kKernels},
      {"NormsNeverShifted", "norms-not-shifted", kGptq, [](GgufPatch& f) { shift_norms(f, -1); }, Broken::wrong, 0,
       kKernels},
      {"NormsShiftedTwice", "norms-shifted-twice", kGptq, [](GgufPatch& f) { shift_norms(f, 1); }, Broken::wrong, 0,
       kKernels},
      {"MtpCountedAndAbsentIsGrafted", "mtp-announced-absent", kTinyMtp, erase_mtp, Broken::refused, 0, kF32},
      {"MtpCountedAndAbsentIsTakenOut", "mtp-announced-absent", kTinyMtp, erase_mtp, Broken::refused, 1, kF32},
      {"MtpNotCounted", "mtp-undeclared", kTinyMtp, [](GgufPatch& f) { count_blocks(f, 4, 0); }, Broken::refused, 0,
       kF32},
      {"MtpCountedAsALayer", "mtp-undeclared", kTinyMtp, [](GgufPatch& f) { count_blocks(f, 5, 0); }, Broken::refused,
       0, kF32},
  };
}

INSTANTIATE_TEST_SUITE_P(Faults, MendedInLlama, ::testing::ValuesIn(all_faults()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace regauge
