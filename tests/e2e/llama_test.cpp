#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/command.h"
#include "tests/support/golden.h"
#include "tests/support/oracle.h"

// Converts checkpoints with the finished program and runs the results in real llama.cpp: the only judge of whether a
// GGUF loads and means what it should.

namespace regauge {
namespace {

using testing::find_golden;
using testing::run_command;
using testing::ScratchDir;

// Largest logit differences that are the runtime's and not ours: an F32 file against the f64 reference stays below 1e-5;
// BF16 and Q4_0 kernels round activations as well, which costs 0.1 to 0.2 on these models.
constexpr const char* kF32Bound = "1e-4";
constexpr const char* kRoundedActivationsBound = "0.3";

struct Case {
  std::string name;
  std::string source;    ///< below the golden data
  std::string expected;  ///< logits, below the golden data
  std::vector<std::string> options;
  const char* bound;
  bool mtp = false;
  /// Conversions on the way, each of what the one before it wrote: name and options.
  std::vector<std::pair<std::string, std::vector<std::string>>> by_way_of = {};
  bool adapter = false;           ///< run it with the low-rank factors that were written beside it
  const char* tensor = "logits";  ///< of the expected values
};

std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

class InLlama : public ::testing::TestWithParam<Case> {};

std::string checker() { return std::string(REGAUGE_SOURCE_DIR) + "/tests/support/llama_logits.py"; }

TEST_P(InLlama, LoadsAndComputesTheExpectedLogits) {
  const Case& c = GetParam();
  REGAUGE_GOLDEN_OR_SKIP(source, c.source);
  REGAUGE_GOLDEN_OR_SKIP(expected, c.expected);
  REGAUGE_ORACLE_OR_SKIP(oracle);
  RecordProperty("ggml", oracle.version());
  const ScratchDir scratch;
  const std::string target = scratch / "model.gguf";

  std::string from = source;
  auto stations = c.by_way_of;
  stations.emplace_back("model.gguf", c.options);
  for (const auto& [name, options] : stations) {
    std::vector<std::string> convert{REGAUGE_CLI, "convert", from, scratch / name};
    convert.insert(convert.end(), options.begin(), options.end());
    const auto converted = run_command(convert);
    ASSERT_EQ(converted.exit_code, 0) << name << ": " << converted.err;
    from = scratch / name;
  }

  std::vector<std::string> logits{"python3",    checker(), "logits",     target,
                                  "--expected", expected,  "--max-diff", c.bound};
  if (c.mtp) logits.push_back("--mtp");
  if (c.adapter) logits.insert(logits.end(), {"--adapter", scratch / "model-LoRA.gguf"});
  logits.insert(logits.end(), {"--tensor", c.tensor});
  const auto run = run_command(logits);
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
  const auto report = nlohmann::json::parse(run.out, nullptr, false);
  ASSERT_TRUE(report.is_object()) << run.out;
  RecordProperty("max_abs_diff", report["max_abs_diff"].dump());
  std::printf("%s: largest logit difference %s%s\n", c.name.c_str(), report["max_abs_diff"].dump().c_str(),
              report.contains("mtp") ? (", MTP " + report["mtp"]["max_abs_diff"].dump()).c_str() : "");
}

const std::string kFamily = "qwen35_family/";

INSTANTIATE_TEST_SUITE_P(
    Family, InLlama,
    ::testing::Values(
        Case{"gptq_q4_0",
             kFamily + "gptq-int4-g128-noact",
             kFamily + "gptq-int4-g128-noact.expected.safetensors",
             {},
             kRoundedActivationsBound},
        Case{"gptq_f32",
             kFamily + "gptq-int4-g128-noact",
             kFamily + "gptq-int4-g128-noact.expected.safetensors",
             {"--dense", "f32"},
             kF32Bound},
        Case{"gptq_act_order_f32",
             kFamily + "gptq-int4-g64",
             kFamily + "gptq-int4-g64.expected.safetensors",
             {"--dense", "f32"},
             kF32Bound},
        Case{"gptq_mixed_f32",
             kFamily + "gptq-mixed-eora",
             kFamily + "gptq-mixed-eora.expected.safetensors",
             {"--dense", "f32", "--drop", "eora"},
             kF32Bound,
             true},
        // Base and factors apart, as llama.cpp takes them; the base alone must be what it is without them.
        Case{"eora_beside_its_base",
             kFamily + "gptq-mixed-eora",
             kFamily + "gptq-mixed-eora.expected.safetensors",
             {"--dense", "f32"},
             kF32Bound,
             true,
             {},
             true,
             "logits_eora"},
        Case{"eora_base_alone",
             kFamily + "gptq-mixed-eora",
             kFamily + "gptq-mixed-eora.expected.safetensors",
             {"--dense", "f32"},
             kF32Bound,
             true},
        // The columns of MLPs in another order, and so the factors' rows and columns.
        Case{"eora_folded",
             kFamily + "gptq-mixed-eora",
             kFamily + "gptq-mixed-eora.expected.safetensors",
             {"--allow", "dense", "--dtype", "f32"},
             kRoundedActivationsBound,
             true,
             {},
             true,
             "logits_eora"},
        // Its blocks decoded, which leaves nothing but the order.
        Case{"eora_folded_f32",
             kFamily + "gptq-mixed-eora",
             kFamily + "gptq-mixed-eora.expected.safetensors",
             {"--dense", "f32"},
             kF32Bound,
             true,
             {{"folded", {"--to", "mlx", "--allow", "dense", "--dtype", "f32"}}},
             true,
             "logits_eora"},
        Case{"eora_merged",
             kFamily + "gptq-mixed-eora",
             kFamily + "gptq-mixed-eora.expected.safetensors",
             {"--dense", "f32", "--eora", "merge"},
             kF32Bound,
             true,
             {},
             false,
             "logits_eora"},
        Case{"eora_by_way_of_gguf_and_gptq",
             kFamily + "gptq-mixed-eora",
             kFamily + "gptq-mixed-eora.expected.safetensors",
             {"--dense", "f32"},
             kF32Bound,
             true,
             {{"first.gguf", {"--allow", "dense"}}, {"gptq", {"--to", "gptq", "--allow", "dense"}}},
             true,
             "logits_eora"},
        Case{"bf16", kFamily + "hf-bf16", kFamily + "hf-bf16.expected.safetensors", {}, kRoundedActivationsBound, true},
        Case{"bf16_as_f32",
             kFamily + "hf-bf16",
             kFamily + "hf-bf16.expected.safetensors",
             {"--dtype", "f32"},
             kF32Bound,
             true},
        Case{"mlx_mixed_f32",
             kFamily + "mlx-8865",
             kFamily + "mlx-8865.expected.safetensors",
             {"--dense", "f32"},
             kF32Bound},
        Case{"mlx_4bit_f32",
             kFamily + "mlx-4bit",
             kFamily + "mlx-4bit.expected.safetensors",
             {"--dense", "f32"},
             kF32Bound},
        Case{"mlx_4bit_q4_1",
             kFamily + "mlx-4bit",
             kFamily + "mlx-4bit.expected.safetensors",
             {},
             kRoundedActivationsBound},
        Case{"act_order_folded",
             kFamily + "gptq-int4-g64",
             kFamily + "gptq-int4-g64.expected.safetensors",
             {"--allow", "dense"},
             kRoundedActivationsBound},
        // The folded file once more, its blocks decoded: the order of the columns is all that is left to be wrong.
        Case{"act_order_folded_f32",
             kFamily + "gptq-int4-g64",
             kFamily + "gptq-int4-g64.expected.safetensors",
             {"--dense", "f32"},
             kF32Bound,
             false,
             {{"folded.gguf", {"--allow", "dense"}}}},
        Case{"gptq_by_way_of_mlx",
             kFamily + "gptq-int4-g128-noact",
             kFamily + "gptq-int4-g128-noact.expected.safetensors",
             {"--dense", "f32"},
             kF32Bound,
             false,
             {{"mlx", {"--to", "mlx", "--require", "values"}}}},
        Case{"gptq_by_way_of_marlin",
             kFamily + "gptq-int4-g128-noact",
             kFamily + "gptq-int4-g128-noact.expected.safetensors",
             {"--dense", "f32"},
             kF32Bound,
             false,
             {{"marlin", {"--to", "gptq", "--layout", "marlin"}}}},
        Case{"act_order_by_way_of_a_container_and_gptq_v2",
             kFamily + "gptq-int4-g64",
             kFamily + "gptq-int4-g64.expected.safetensors",
             {"--dense", "f32"},
             kF32Bound,
             false,
             {{"a.rg.gguf", {"--compress", "zstd"}}, {"v2", {"--to", "gptq", "--layout", "v2"}}}},
        Case{"bf16_by_way_of_gguf_and_back",
             kFamily + "hf-bf16",
             kFamily + "hf-bf16.expected.safetensors",
             {"--dtype", "f32"},
             kF32Bound,
             true,
             {{"first.gguf", {}}, {"hf", {"--to", "safetensors"}}}},
        Case{"mtp_in_a_file_of_its_own",
             kFamily + "hf-bf16",
             kFamily + "hf-bf16.expected.safetensors",
             {"--dtype", "f32", "--outputs", "model,mmproj,mtp"},
             kF32Bound},
        Case{"tiny_bf16_as_f32",
             "qwen35_tiny/hf",
             "qwen35_tiny/ref.json",
             {"--dtype", "f32", "--drop", "vision"},
             kF32Bound,
             true},
        Case{"tiny_bf16",
             "qwen35_tiny/hf",
             "qwen35_tiny/ref.json",
             {"--drop", "vision"},
             kRoundedActivationsBound,
             true},
        Case{"tiny_moe_f32",
             "qwen35_tiny_moe/hf",
             "qwen35_tiny_moe/ref.json",
             {"--dtype", "f32", "--drop", "vision"},
             kF32Bound,
             true}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace regauge
