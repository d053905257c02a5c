#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "formats/format.h"
#include "ir/decode/tensor.h"
#include "tests/support/allocation_watch.h"
#include "tests/support/array_file.h"
#include "tests/support/golden.h"

// Every way in which a GPTQ checkpoint can be wrong, each made from a sound one by a single change.

namespace regauge {
namespace {

using nlohmann::ordered_json;
using testing::ArrayFile;
using testing::ScratchDir;
using testing::write_text;

constexpr std::size_t kK = 64;
constexpr std::size_t kN = 32;
constexpr std::size_t kGroups = 2;

/// A sound checkpoint of one 4-bit module, v1 and symmetric, and what an adapter would add.
struct Parts {
  ArrayFile arrays;
  ordered_json config;
  std::optional<ArrayFile> adapter;
  ordered_json adapter_config;
  std::filesystem::path folder;

  explicit Parts(std::filesystem::path where) : folder(std::move(where)) {
    arrays.fill("m.qweight", "I32", {kK / 8, kN}, kK * kN / 2, 0x5A);
    arrays.fill("m.qzeros", "I32", {kGroups, kN / 8}, kGroups * kN / 2, 0x77);
    arrays.add("m.scales", "F16", {kGroups, kN}, std::vector<std::uint16_t>(kGroups * kN, 0x2E00));
    set_index({});
    config = {{"quant_method", "gptq"}, {"bits", 4}, {"group_size", 32}, {"sym", true}, {"desc_act", true}};
    adapter_config = {{"peft_type", "LORA"}, {"r", 4}, {"lora_alpha", 4}};
  }

  void set_index(const std::vector<std::pair<std::size_t, std::int32_t>>& changes) {
    std::vector<std::int32_t> index(kK);
    for (std::size_t k = 0; k < kK; ++k) index[k] = static_cast<std::int32_t>(k / 32);
    for (const auto& [k, group] : changes) index[k] = group;
    arrays.add("m.g_idx", "I32", {kK}, index);
  }

  void set_factors(std::int64_t a_rows, std::int64_t a_columns, std::int64_t b_rows, std::int64_t b_columns) {
    adapter.emplace();
    adapter->fill("base_model.model.m.lora_A.weight", "F16", {a_rows, a_columns},
                  static_cast<std::size_t>(a_rows * a_columns * 2));
    adapter->fill("base_model.model.m.lora_B.weight", "F16", {b_rows, b_columns},
                  static_cast<std::size_t>(b_rows * b_columns * 2));
  }

  void write() const {
    arrays.write(folder / "model.safetensors");
    write_text(folder / "quantize_config.json", config.dump());
    if (!adapter) return;
    std::filesystem::create_directory(folder / "eora");
    adapter->write(folder / "eora/adapter_model.safetensors");
    write_text(folder / "eora/adapter_config.json", adapter_config.dump());
  }
};

struct GptqCase {
  const char* name;
  std::function<void(Parts& parts)> change;
  std::optional<ErrorCode> code;  ///< of the refusal; nothing: it opens and decodes
  const char* tensor = "";        ///< array or key that a refusal names
  const char* finding = "";       ///< of an acceptance; empty: none at all
};

void PrintTo(const GptqCase& one, std::ostream* out) { *out << one.name; }

class GptqCorrupt : public ::testing::TestWithParam<GptqCase> {};

void decode_all(const Checkpoint& checkpoint) {
  for (const Tensor& tensor : checkpoint.tensors) {
    std::vector<float> values(static_cast<std::size_t>(tensor.shape.elements()));
    TensorDecoder(tensor, {.with_low_rank = true}).decode({0, tensor.shape.rows()}, values);
  }
}

TEST_P(GptqCorrupt, GetsWhatItDeserves) {
  const GptqCase& one = GetParam();
  const ScratchDir scratch;
  Parts parts(scratch.path());
  one.change(parts);
  parts.write();
  const testing::AllocationWatch watch;
  try {
    const Checkpoint checkpoint = open_checkpoint(scratch.path());
    EXPECT_EQ(checkpoint.format, "gptq");
    decode_all(checkpoint);
    ASSERT_FALSE(one.code.has_value()) << "opened";
    std::vector<std::string> findings;
    for (const Finding& finding : checkpoint.findings) findings.push_back(finding.code);
    const auto expected = *one.finding == '\0' ? std::vector<std::string>{} : std::vector<std::string>{one.finding};
    EXPECT_EQ(findings, expected);
  } catch (const Error& error) {
    ASSERT_TRUE(one.code.has_value()) << error.what();
    EXPECT_EQ(error.code(), *one.code) << error.what();
    EXPECT_EQ(error.tensor_name(), one.tensor) << error.what();
    EXPECT_TRUE(error.file().starts_with(scratch.path().native())) << error.what();
    const bool in_an_array = std::string_view(error.file()).ends_with(".safetensors");
    EXPECT_EQ(error.byte_offset().has_value(), in_an_array) << error.what();
    EXPECT_LT(error.message().size(), 1000U);
  }
  EXPECT_LE(watch.largest(), std::size_t{2} << 20);
}

constexpr auto kMalformed = ErrorCode::malformed;
constexpr auto kUnsupported = ErrorCode::unsupported;

// A pattern that a backtracking matcher takes 2^n steps for, and a name that makes it do so.
constexpr const char* kCatastrophe = "^(([a-z])+.)+[A-Z]([a-z])+$";
constexpr const char* kDeep =
    "((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((a)))))))))))))))))))))))))))))))))))))))))))))))))))))"
    ")))))))";
constexpr const char* kLongName = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!";

const GptqCase kConfigCases[] = {
    {"sound", [](Parts&) {}, {}, "", ""},
    {"bits_0", [](Parts& p) { p.config["bits"] = 0; }, kMalformed},
    {"bits_1", [](Parts& p) { p.config["bits"] = 1; }, kMalformed},
    {"bits_5_without_planes", [](Parts& p) { p.config["bits"] = 5; }, kMalformed},
    {"bits_33", [](Parts& p) { p.config["bits"] = 33; }, kMalformed},
    {"bits_minus_4", [](Parts& p) { p.config["bits"] = -4; }, kMalformed},
    {"bits_2_to_the_63", [](Parts& p) { p.config["bits"] = std::uint64_t{1} << 63; }, kMalformed},
    {"bits_a_string", [](Parts& p) { p.config["bits"] = "four"; }, kMalformed},
    {"bits_a_fraction", [](Parts& p) { p.config["bits"] = 4.5; }, kMalformed},
    {"bits_4_as_a_float", [](Parts& p) { p.config["bits"] = 4.0; }, {}},
    {"bits_absent", [](Parts& p) { p.config.erase("bits"); }, {}},
    {"bits_other_than_the_tensors", [](Parts& p) { p.config["bits"] = 8; }, {}, "", "gptq-bits-mismatch"},
    {"group_0", [](Parts& p) { p.config["group_size"] = 0; }, kMalformed},
    {"group_minus_2", [](Parts& p) { p.config["group_size"] = -2; }, kMalformed},
    {"group_minus_1", [](Parts& p) { p.config["group_size"] = -1; }, {}, "", "gptq-group-mismatch"},
    {"group_not_dividing", [](Parts& p) { p.config["group_size"] = 48; }, {}},
    {"group_other_than_the_tensors", [](Parts& p) { p.config["group_size"] = 16; }, {}, "", "gptq-group-mismatch"},
    {"group_larger_than_a_row",
     [](Parts& p) { p.config["group_size"] = std::int64_t{1} << 62; },
     {},
     "",
     "gptq-group-mismatch"},
    {"sym_a_number", [](Parts& p) { p.config["sym"] = 1; }, kMalformed},
    {"pack_dtype_int16", [](Parts& p) { p.config["pack_dtype"] = "int16"; }, kUnsupported},
    {"pack_dtype_int64", [](Parts& p) { p.config["pack_dtype"] = "int64"; }, kUnsupported},
    {"pack_dtype_int32", [](Parts& p) { p.config["pack_dtype"] = "int32"; }, {}},
    {"format_bitblas", [](Parts& p) { p.config["checkpoint_format"] = "bitblas"; }, kUnsupported},
    {"format_marlin_24", [](Parts& p) { p.config["checkpoint_format"] = "marlin_24"; }, kUnsupported},
    {"dynamic_a_list", [](Parts& p) { p.config["dynamic"] = {1, 2}; }, kMalformed},
    {"dynamic_rule_a_number", [](Parts& p) { p.config["dynamic"] = {{"m", 3}}; }, kMalformed, "m"},
    {"dynamic_rule_bits_0", [](Parts& p) { p.config["dynamic"] = {{"m", {{"bits", 0}}}}; }, kMalformed, "m"},
    {"dynamic_rule_group_0", [](Parts& p) { p.config["dynamic"] = {{"m", {{"group_size", 0}}}}; }, kMalformed, "m"},
    {"dynamic_invalid", [](Parts& p) { p.config["dynamic"] = {{"+:(m", {{"bits", 4}}}}; }, kMalformed, "+:(m"},
    {"dynamic_too_large", [](Parts& p) { p.config["dynamic"] = {{"((a{1,1000}){1,1000}){1,1000}", {{"bits", 4}}}}; },
     kMalformed, "((a{1,1000}){1,1000}){1,1000}"},
    {"dynamic_too_deep", [](Parts& p) { p.config["dynamic"] = {{kDeep, {{"bits", 4}}}}; }, kMalformed, kDeep},
    {"dynamic_catastrophic",
     [](Parts& p) {
       p.config["dynamic"] = {{kCatastrophe, {{"bits", 8}}}};
       for (const char* leaf : {".qweight", ".qzeros", ".scales", ".g_idx"}) p.arrays.drop(std::string("m") + leaf);
       p.arrays.fill(std::string(kLongName) + ".qweight", "I32", {kK / 8, kN}, kK * kN / 2);
       p.arrays.fill(std::string(kLongName) + ".scales", "F16", {kGroups, kN}, kGroups * kN * 2);
     },
     kMalformed, kCatastrophe},
    {"dynamic_matches_nothing",
     [](Parts& p) { p.config["dynamic"] = {{"+:elsewhere", {{"bits", 8}}}}; },
     {},
     "",
     "gptq-rule-unused"},
    {"dynamic_excludes_what_is_quantized",
     [](Parts& p) { p.config["dynamic"] = {{"-:m", ordered_json::object()}}; },
     {},
     "",
     "gptq-excluded-quantized"},
    {"config_a_list", [](Parts& p) { p.config = {1, 2}; }, kMalformed},
};

void replace(Parts& parts, const char* name, const char* dtype, std::vector<std::int64_t> shape, std::size_t bytes) {
  parts.arrays.fill(name, dtype, std::move(shape), bytes, 0x77);
}

const GptqCase kTensorCases[] = {
    {"index_absent", [](Parts& p) { p.arrays.drop("m.g_idx"); }, {}},
    {"index_beyond_the_groups", [](Parts& p) { p.set_index({{5, 2}}); }, kMalformed, "m.g_idx"},
    {"index_far_beyond", [](Parts& p) { p.set_index({{5, INT32_MAX}}); }, kMalformed, "m.g_idx"},
    {"index_from_the_end", [](Parts& p) { p.set_index({{5, -2}}); }, {}},
    {"index_before_the_end", [](Parts& p) { p.set_index({{5, -3}}); }, kMalformed, "m.g_idx"},
    {"index_most_negative", [](Parts& p) { p.set_index({{5, INT32_MIN}}); }, kMalformed, "m.g_idx"},
    {"index_one_short", [](Parts& p) { replace(p, "m.g_idx", "I32", {kK - 1}, (kK - 1) * 4); }, kMalformed, "m.g_idx"},
    {"index_one_long", [](Parts& p) { replace(p, "m.g_idx", "I32", {kK + 1}, (kK + 1) * 4); }, kMalformed, "m.g_idx"},
    {"index_of_twice_the_columns", [](Parts& p) { replace(p, "m.g_idx", "I32", {kK * 2}, kK * 8); }, kMalformed,
     "m.g_idx"},
    {"index_empty", [](Parts& p) { replace(p, "m.g_idx", "I32", {0}, 0); }, kMalformed, "m.g_idx"},
    {"index_a_scalar", [](Parts& p) { replace(p, "m.g_idx", "I32", {}, 4); }, kMalformed, "m.g_idx"},
    {"index_of_i64", [](Parts& p) { replace(p, "m.g_idx", "I64", {kK}, kK * 8); }, kMalformed, "m.g_idx"},
    {"zeros_one_group_short", [](Parts& p) { replace(p, "m.qzeros", "I32", {1, 4}, 16); }, kMalformed, "m.qzeros"},
    {"zeros_one_group_long", [](Parts& p) { replace(p, "m.qzeros", "I32", {3, 4}, 48); }, kMalformed, "m.qzeros"},
    {"zeros_one_column_short", [](Parts& p) { replace(p, "m.qzeros", "I32", {2, 3}, 24); }, kMalformed, "m.g_idx"},
    {"zeros_one_column_long", [](Parts& p) { replace(p, "m.qzeros", "I32", {2, 5}, 40); }, kMalformed, "m.g_idx"},
    {"zeros_one_column_long_without_index",
     [](Parts& p) {
       p.arrays.drop("m.g_idx");
       replace(p, "m.qzeros", "I32", {2, 5}, 40);
     },
     kMalformed, "m.qweight"},
    {"zeros_half_without_index",
     [](Parts& p) {
       p.arrays.drop("m.g_idx");
       replace(p, "m.qzeros", "I32", {2, 2}, 16);
     },
     kMalformed, "m.scales"},
    {"zeros_of_33_bits", [](Parts& p) { replace(p, "m.qzeros", "I32", {2, 33}, 264); }, kMalformed, "m.g_idx"},
    {"zeros_empty", [](Parts& p) { replace(p, "m.qzeros", "I32", {2, 0}, 0); }, kMalformed, "m.qzeros"},
    {"zeros_absent", [](Parts& p) { p.arrays.drop("m.qzeros"); }, {}},
    {"zeros_absent_though_not_symmetric",
     [](Parts& p) {
       p.arrays.drop("m.qzeros");
       p.config["sym"] = false;
     },
     kMalformed, "m.qweight"},
    {"zeros_of_nobody",
     [](Parts& p) { p.arrays.fill("m.qzeros", "I32", {2, 4}, 32, 0x12); },
     {},
     "",
     "gptq-zeros-unclear"},
    {"zeros_mislabelled",
     [](Parts& p) { p.arrays.fill("m.qzeros", "I32", {2, 4}, 32, 0x88); },
     {},
     "",
     "gptq-zeros-mislabelled"},
    {"scales_absent", [](Parts& p) { p.arrays.drop("m.scales"); }, kMalformed, "m.qweight"},
    {"scales_one_column_short", [](Parts& p) { replace(p, "m.scales", "F16", {2, 31}, 124); }, kMalformed, "m.qweight"},
    {"scales_one_column_long", [](Parts& p) { replace(p, "m.scales", "F16", {2, 33}, 132); }, kMalformed, "m.qweight"},
    {"scales_of_awq", [](Parts& p) { replace(p, "m.scales", "F16", {2, kN * 8}, kN * 32); }, kMalformed, "m.qweight"},
    {"scales_three_groups", [](Parts& p) { replace(p, "m.scales", "F16", {3, 32}, 192); }, kMalformed, "m.qzeros"},
    {"scales_and_zeros_five_groups",
     [](Parts& p) {
       replace(p, "m.scales", "F16", {5, 32}, 320);
       replace(p, "m.qzeros", "I32", {5, 4}, 80);
     },
     kMalformed, "m.scales"},
    {"scales_of_integers", [](Parts& p) { replace(p, "m.scales", "I16", {2, 32}, 128); }, kMalformed, "m.scales"},
    {"scales_of_bf16", [](Parts& p) { replace(p, "m.scales", "BF16", {2, 32}, 128); }, {}},
    {"scales_of_f32", [](Parts& p) { replace(p, "m.scales", "F32", {2, 32}, 256); }, {}},
    {"scales_nan", [](Parts& p) { p.arrays.fill("m.scales", "F16", {2, 32}, 128, 0x7F); }, {}},
    {"scales_infinite",
     [](Parts& p) { p.arrays.add("m.scales", "F16", {2, 32}, std::vector<std::uint16_t>(64, 0xFC00)); },
     {}},
    {"scales_subnormal",
     [](Parts& p) { p.arrays.add("m.scales", "F16", {2, 32}, std::vector<std::uint16_t>(64, 0x0001)); },
     {}},
    {"weight_of_floats", [](Parts& p) { replace(p, "m.qweight", "F32", {8, 32}, 1024); }, kMalformed, "m.qweight"},
    {"weight_of_i64", [](Parts& p) { replace(p, "m.qweight", "I64", {8, 32}, 2048); }, kMalformed, "m.qweight"},
    {"weight_in_three_dimensions", [](Parts& p) { replace(p, "m.qweight", "I32", {1, 8, 32}, 1024); }, kMalformed,
     "m.qweight"},
    {"weight_empty", [](Parts& p) { replace(p, "m.qweight", "I32", {0, 32}, 0); }, kMalformed, "m.qweight"},
    {"weight_one_row_long", [](Parts& p) { replace(p, "m.qweight", "I32", {9, 32}, 1152); }, kMalformed, "m.g_idx"},
    {"rows_no_multiple_of_32",
     [](Parts& p) {
       replace(p, "m.qweight", "I32", {8, 48}, 8 * 48 * 4);
       replace(p, "m.scales", "F16", {2, 48}, 192);
     },
     kMalformed, "m.qweight"},
    {"a_dense_weight_beside_it", [](Parts& p) { p.arrays.fill("m.weight", "F32", {32, 64}, 8192); }, kMalformed,
     "m.qweight"},
    {"sparse_marlin", [](Parts& p) { p.arrays.fill("n.B_24", "I32", {1, 2}, 8); }, kUnsupported, "n.B_24"},
    {"marlin_beside_gptq",
     [](Parts& p) {
       p.arrays.fill("m.B", "I32", {4, 128}, 2048);
       p.arrays.fill("m.s", "F16", {2, 64}, 256);
     },
     kMalformed, "m.qweight"},
    {"marlin_of_odd_width",
     [](Parts& p) {
       p.arrays.fill("n.B", "I32", {4, 126}, 2016);
       p.arrays.fill("n.s", "F16", {2, 64}, 256);
     },
     kMalformed, "n.B"},
    {"marlin_of_half_a_tile",
     [](Parts& p) {
       p.arrays.fill("n.B", "I32", {4, 64}, 1024);
       p.arrays.fill("n.s", "F16", {2, 32}, 128);
     },
     kMalformed, "n.B"},
    {"embedding_across_the_vocabulary",
     [](Parts& p) {
       p.arrays.fill("model.embed_tokens.qweight", "I32", {8, 32}, 1024);
       p.arrays.fill("model.embed_tokens.scales", "F16", {2, 32}, 128);
     },
     {},
     "",
     "gptq-embedding"},
};

constexpr const char* kFactorA = "base_model.model.m.lora_A.weight";

const GptqCase kAdapterCases[] = {
    {"sound", [](Parts& p) { p.set_factors(4, kK, kN, 4); }, {}},
    {"turned_round", [](Parts& p) { p.set_factors(kK, 4, 4, kN); }, {}},
    {"rank_0_in_the_config",
     [](Parts& p) {
       p.set_factors(4, kK, kN, 4);
       p.adapter_config["r"] = 0;
     },
     kMalformed},
    {"rank_0_in_a_pattern",
     [](Parts& p) {
       p.set_factors(4, kK, kN, 4);
       p.adapter_config["rank_pattern"] = {{"m", 0}};
     },
     kMalformed},
    {"rank_0_in_the_factors", [](Parts& p) { p.set_factors(0, kK, kN, 0); }, kMalformed, kFactorA},
    {"ranks_differ", [](Parts& p) { p.set_factors(4, kK, kN, 5); }, kMalformed, kFactorA},
    {"columns_differ", [](Parts& p) { p.set_factors(4, kK + 1, kN, 4); }, kMalformed, kFactorA},
    {"rows_differ", [](Parts& p) { p.set_factors(4, kK, kN - 1, 4); }, kMalformed, kFactorA},
    {"half_a_pair",
     [](Parts& p) {
       p.set_factors(4, kK, kN, 4);
       p.adapter->drop("base_model.model.m.lora_B.weight");
     },
     kMalformed, kFactorA},
    {"of_integers",
     [](Parts& p) {
       p.set_factors(4, kK, kN, 4);
       p.adapter->fill(kFactorA, "I16", {4, kK}, 8 * kK);
     },
     kMalformed, kFactorA},
    {"in_three_dimensions",
     [](Parts& p) {
       p.set_factors(4, kK, kN, 4);
       p.adapter->fill(kFactorA, "F16", {1, 4, kK}, 8 * kK);
     },
     kMalformed, kFactorA},
    {"of_another_module",
     [](Parts& p) {
       p.adapter.emplace();
       p.adapter->fill("base_model.model.elsewhere.lora_A.weight", "F16", {4, kK}, 8 * kK);
       p.adapter->fill("base_model.model.elsewhere.lora_B.weight", "F16", {kN, 4}, 8 * kN);
     },
     {},
     "",
     "lowrank-without-module"},
    {"of_a_longer_module_name",
     [](Parts& p) {
       p.adapter.emplace();
       p.adapter->fill("base_model.model.am.lora_A.weight", "F16", {4, kK}, 8 * kK);
       p.adapter->fill("base_model.model.am.lora_B.weight", "F16", {kN, 4}, 8 * kN);
     },
     {},
     "",
     "lowrank-without-module"},
    {"twice",
     [](Parts& p) {
       p.set_factors(4, kK, kN, 4);
       p.arrays.fill("m.lora_A", "F16", {kK, 4}, 8 * kK);
       p.arrays.fill("m.lora_B", "F16", {4, kN}, 8 * kN);
     },
     kMalformed, "m.lora_A"},
    {"announced_with_another_rank",
     [](Parts& p) {
       p.set_factors(4, kK, kN, 4);
       p.adapter_config["r"] = 8;
     },
     {},
     "",
     "adapter-rank-mismatch"},
    {"scaled_by_a_peft_loader",
     [](Parts& p) {
       p.set_factors(4, kK, kN, 4);
       p.adapter_config["lora_alpha"] = 8;
     },
     {},
     "",
     "adapter-scale"},
    {"dora",
     [](Parts& p) {
       p.set_factors(4, kK, kN, 4);
       p.adapter_config["use_dora"] = true;
     },
     kUnsupported},
    {"pattern_invalid",
     [](Parts& p) {
       p.set_factors(4, kK, kN, 4);
       p.adapter_config["rank_pattern"] = {{"(", 4}};
     },
     kMalformed},
    {"name_of_many_dots",
     [](Parts& p) {
       p.adapter.emplace();
       p.adapter->fill(std::string(200'000, '.') + "m.lora_A.weight", "F16", {4, kK}, 8 * kK);
     },
     {},
     "",
     "lowrank-without-module"},
};

std::string name_of(const ::testing::TestParamInfo<GptqCase>& one) { return one.param.name; }

INSTANTIATE_TEST_SUITE_P(Config, GptqCorrupt, ::testing::ValuesIn(kConfigCases), name_of);
INSTANTIATE_TEST_SUITE_P(Tensors, GptqCorrupt, ::testing::ValuesIn(kTensorCases), name_of);
INSTANTIATE_TEST_SUITE_P(Adapter, GptqCorrupt, ::testing::ValuesIn(kAdapterCases), name_of);

}  // namespace
}  // namespace regauge
