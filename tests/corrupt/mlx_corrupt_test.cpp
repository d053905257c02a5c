#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "formats/format.h"
#include "ir/decode/tensor.h"
#include "tests/support/allocation_watch.h"
#include "tests/support/array_file.h"
#include "tests/support/golden.h"

// Every way in which an MLX checkpoint can be wrong, each made from a sound one by a single change.

namespace regauge {
namespace {

using nlohmann::ordered_json;
using testing::ArrayFile;
using testing::ScratchDir;
using testing::write_text;

/// A sound checkpoint of one affine module m of 4 x 64, 4 bits in groups of 32, and an adapter's parts.
struct Parts {
  ArrayFile arrays;
  ordered_json quantization;
  bool has_config = true;
  std::optional<ArrayFile> adapter;
  ordered_json adapter_config;
  std::string record;  ///< text of regauge.json beside it

  Parts() {
    set_weight(8);
    set_scales("BF16", {4, 2});
    set_biases("BF16", {4, 2});
    quantization = {{"group_size", 32}, {"bits", 4}};
    adapter_config = {{"fine_tune_type", "lora"}, {"lora_parameters", {{"rank", 2}, {"scale", 1.0}}}};
  }

  void set(const char* name, const char* dtype, std::vector<std::int64_t> shape, std::size_t element) {
    std::size_t bytes = element;
    for (const std::int64_t dim : shape) bytes *= static_cast<std::size_t>(dim);
    arrays.fill(name, dtype, std::move(shape), bytes, 0x3C);
  }
  void set_weight(std::int64_t words) { set("m.weight", "U32", {4, words}, 4); }
  void set_scales(const char* dtype, std::vector<std::int64_t> shape) {
    set("m.scales", dtype, std::move(shape),
        std::string_view(dtype) == "U8"    ? 1
        : std::string_view(dtype) == "F32" ? 4
                                           : 2);
  }
  void set_biases(const char* dtype, std::vector<std::int64_t> shape) {
    set("m.biases", dtype, std::move(shape), std::string_view(dtype) == "F32" ? 4 : 2);
  }
  void make_mxfp4() {
    arrays.drop("m.biases");
    set_scales("U8", {4, 2});
    quantization["mode"] = "mxfp4";
  }
  void set_factors(std::vector<std::int64_t> a, std::vector<std::int64_t> b) {
    adapter.emplace();
    adapter->fill("m.lora_a", "F16", a, static_cast<std::size_t>(a[0] * a[1] * 2));
    adapter->fill("m.lora_b", "F16", b, static_cast<std::size_t>(b[0] * b[1] * 2));
  }

  void write(const std::filesystem::path& folder) const {
    arrays.write(folder / "model.safetensors");
    if (has_config) write_text(folder / "config.json", ordered_json{{"quantization", quantization}}.dump());
    if (!adapter) return;
    adapter->write(folder / "adapters.safetensors");
    if (!record.empty()) write_text(folder / "regauge.json", record);
    write_text(folder / "adapter_config.json", adapter_config.dump());
  }
};

struct MlxCase {
  const char* name;
  std::function<void(Parts& parts)> change;
  std::optional<ErrorCode> code;  ///< of the refusal; nothing: it opens, and what can be decoded is
  const char* tensor = "";        ///< array or key that a refusal names
  const char* finding = "";       ///< of an acceptance; empty: none at all
};

void PrintTo(const MlxCase& one, std::ostream* out) { *out << one.name; }

class MlxCorrupt : public ::testing::TestWithParam<MlxCase> {};

void decode_all(const Checkpoint& checkpoint) {
  for (const Tensor& tensor : checkpoint.tensors) {
    if (!is_decodable(tensor.encoding)) continue;
    std::vector<float> values(static_cast<std::size_t>(tensor.shape.elements()));
    TensorDecoder(tensor, {.with_low_rank = true}).decode({0, tensor.shape.rows()}, values);
  }
}

TEST_P(MlxCorrupt, GetsWhatItDeserves) {
  const MlxCase& one = GetParam();
  const ScratchDir scratch;
  Parts parts;
  one.change(parts);
  parts.write(scratch.path());
  const testing::AllocationWatch watch;
  try {
    const Checkpoint checkpoint = open_checkpoint(scratch.path());
    EXPECT_EQ(checkpoint.format, "mlx");
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
  EXPECT_LE(watch.largest(), std::size_t{1} << 20);
}

constexpr auto kMalformed = ErrorCode::malformed;

const MlxCase kConfigCases[] = {
    {"sound", [](Parts&) {}, {}},
    {"bits_0", [](Parts& p) { p.quantization["bits"] = 0; }, kMalformed},
    {"bits_1_of_the_extension",
     [](Parts& p) {
       p.quantization["bits"] = 1;
       p.set_weight(2);
     },
     {}},
    {"bits_1_for_a_weight_of_4", [](Parts& p) { p.quantization["bits"] = 1; }, kMalformed, "m.weight"},
    {"bits_7", [](Parts& p) { p.quantization["bits"] = 7; }, kMalformed},
    {"bits_9", [](Parts& p) { p.quantization["bits"] = 9; }, kMalformed},
    {"bits_minus_4", [](Parts& p) { p.quantization["bits"] = -4; }, kMalformed},
    {"bits_2_to_the_40", [](Parts& p) { p.quantization["bits"] = std::int64_t{1} << 40; }, kMalformed},
    {"bits_a_string", [](Parts& p) { p.quantization["bits"] = "4"; }, kMalformed},
    {"bits_null_is_the_default", [](Parts& p) { p.quantization["bits"] = nullptr; }, {}},
    {"group_0", [](Parts& p) { p.quantization["group_size"] = 0; }, kMalformed},
    {"group_16", [](Parts& p) { p.quantization["group_size"] = 16; }, kMalformed},
    {"group_48", [](Parts& p) { p.quantization["group_size"] = 48; }, kMalformed},
    {"group_256", [](Parts& p) { p.quantization["group_size"] = 256; }, kMalformed},
    {"group_2_to_the_62", [](Parts& p) { p.quantization["group_size"] = std::int64_t{1} << 62; }, kMalformed},
    {"group_null_is_64", [](Parts& p) { p.quantization["group_size"] = nullptr; }, kMalformed, "m.weight"},
    {"mode_unknown", [](Parts& p) { p.quantization["mode"] = "nf4"; }, kMalformed},
    {"mode_a_number", [](Parts& p) { p.quantization["mode"] = 4; }, kMalformed},
    {"mode_of_other_bits",
     [](Parts& p) {
       p.make_mxfp4();
       p.quantization["bits"] = 8;
     },
     kMalformed},
    {"override_mode_unknown", [](Parts& p) { p.quantization["m"] = {{"mode", "nf4"}}; }, kMalformed, "m"},
    {"override_bits_7", [](Parts& p) { p.quantization["m"] = {{"bits", 7}}; }, kMalformed, "m"},
    {"override_without_a_group_is_64", [](Parts& p) { p.quantization["m"] = {{"bits", 4}}; }, kMalformed, "m.weight"},
    {"override_true", [](Parts& p) { p.quantization["m"] = true; }, {}},
    {"override_false_of_a_quantized_module",
     [](Parts& p) { p.quantization["m"] = false; },
     {},
     "",
     "mlx-override-dense"},
    {"override_of_an_absent_module", [](Parts& p) { p.quantization["elsewhere"] = {{"bits", 8}, {"group_size", 32}}; },
     kMalformed, "elsewhere"},
    {"override_false_of_an_absent_module", [](Parts& p) { p.quantization["elsewhere"] = false; }, {}},
    {"override_of_a_dense_module",
     [](Parts& p) {
       p.set("d.weight", "BF16", {4, 64}, 2);
       p.quantization["d"] = {{"bits", 8}, {"group_size", 32}};
     },
     {},
     "",
     "mlx-override-unused"},
    {"overrides_that_contradict",
     [](Parts& p) {
       p.quantization["model.x"] = {{"bits", 8}, {"group_size", 32}};
       p.quantization["model.language_model.x"] = {{"bits", 4}, {"group_size", 32}};
     },
     kMalformed, "model.language_model.x"},
    {"config_absent_and_widths_ambiguous",
     [](Parts& p) {
       p.has_config = false;
       p.quantization = {};
     },
     {},
     "",
     "mlx-width-unknown"},
    {"config_absent_and_width_certain",
     [](Parts& p) {
       p.has_config = false;
       p.set_weight(6);
     },
     {},
     "",
     "mlx-config-missing"},
};

const MlxCase kTensorCases[] = {
    {"scales_absent", [](Parts& p) { p.arrays.drop("m.scales").drop("m.biases"); }, {}, "", "mlx-scales-missing"},
    {"scales_of_other_rows", [](Parts& p) { p.set_scales("BF16", {5, 2}); }, kMalformed, "m.scales"},
    {"scales_of_other_rank", [](Parts& p) { p.set_scales("BF16", {2, 2, 2}); }, kMalformed, "m.scales"},
    {"scales_a_vector", [](Parts& p) { p.set_scales("BF16", {8}); }, kMalformed, "m.scales"},
    {"scales_one_group_short", [](Parts& p) { p.set_scales("BF16", {4, 1}); }, kMalformed, "m.weight"},
    {"scales_one_group_long", [](Parts& p) { p.set_scales("BF16", {4, 3}); }, kMalformed, "m.weight"},
    {"scales_without_groups", [](Parts& p) { p.set_scales("BF16", {4, 0}); }, kMalformed, "m.weight"},
    {"scales_of_bytes", [](Parts& p) { p.set_scales("U8", {4, 2}); }, kMalformed, "m.scales"},
    {"scales_of_another_float", [](Parts& p) { p.set_scales("F32", {4, 2}); }, {}},
    {"biases_absent", [](Parts& p) { p.arrays.drop("m.biases"); }, kMalformed, "m.scales"},
    {"biases_of_other_rows", [](Parts& p) { p.set_biases("BF16", {3, 2}); }, kMalformed, "m.biases"},
    {"biases_one_group_short", [](Parts& p) { p.set_biases("BF16", {4, 1}); }, kMalformed, "m.biases"},
    {"biases_of_integers", [](Parts& p) { p.set_biases("I16", {4, 2}); }, kMalformed, "m.biases"},
    {"biases_of_another_float", [](Parts& p) { p.set_biases("F32", {4, 2}); }, {}},
    {"weight_one_word_long", [](Parts& p) { p.set_weight(9); }, kMalformed, "m.weight"},
    {"weight_a_vector", [](Parts& p) { p.set("m.weight", "U32", {8}, 4); }, kMalformed, "m.weight"},
    {"weight_empty",
     [](Parts& p) {
       p.set("m.weight", "U32", {0, std::int64_t{1} << 60}, 4);
       p.set_scales("BF16", {0, std::int64_t{1} << 58});
       p.arrays.drop("m.biases");
       p.quantization = {{"bits", 4}, {"group_size", 32}};
     },
     {},
     "",
     "empty-tensor"},
    {"float_mode", [](Parts& p) { p.make_mxfp4(); }, {}},
    {"float_mode_with_biases",
     [](Parts& p) {
       p.make_mxfp4();
       p.set_biases("BF16", {4, 2});
     },
     kMalformed, "m.biases"},
    {"float_mode_with_float_scales",
     [](Parts& p) {
       p.make_mxfp4();
       p.set_scales("BF16", {4, 2});
     },
     kMalformed, "m.scales"},
    {"global_scale_of_another_mode",
     [](Parts& p) {
       p.make_mxfp4();
       p.set("m.global_scale", "F32", {1}, 4);
     },
     kMalformed, "m.global_scale"},
    {"global_scale_of_two_numbers",
     [](Parts& p) {
       p.arrays.drop("m.biases");
       p.set_scales("U8", {4, 4});
       p.quantization = {{"mode", "nvfp4"}};
       p.set("m.global_scale", "F32", {2}, 4);
     },
     kMalformed, "m.global_scale"},
};

const MlxCase kAdapterCases[] = {
    {"sound", [](Parts& p) { p.set_factors({64, 2}, {2, 4}); }, {}},
    {"in_pefts_orientation", [](Parts& p) { p.set_factors({2, 64}, {4, 2}); }, kMalformed, "m.lora_a"},
    {"ranks_differ", [](Parts& p) { p.set_factors({64, 2}, {3, 4}); }, kMalformed, "m.lora_a"},
    {"rank_0_in_the_factors", [](Parts& p) { p.set_factors({64, 0}, {0, 4}); }, kMalformed, "m.lora_a"},
    {"rank_0_in_the_config",
     [](Parts& p) {
       p.set_factors({64, 2}, {2, 4});
       p.adapter_config["lora_parameters"]["rank"] = 0;
     },
     kMalformed},
    {"half_a_pair",
     [](Parts& p) {
       p.set_factors({64, 2}, {2, 4});
       p.adapter->drop("m.lora_b");
     },
     kMalformed, "m.lora_a"},
    {"of_another_module",
     [](Parts& p) {
       p.adapter.emplace();
       p.adapter->fill("n.lora_a", "F16", {64, 2}, 256).fill("n.lora_b", "F16", {2, 4}, 16);
     },
     {},
     "",
     "lowrank-without-module"},
    {"scaled",
     [](Parts& p) {
       p.set_factors({64, 2}, {2, 4});
       p.adapter_config["lora_parameters"]["scale"] = 20.0;
     },
     {},
     "",
     "adapter-not-attached"},
    {"dora",
     [](Parts& p) {
       p.set_factors({64, 2}, {2, 4});
       p.adapter_config["fine_tune_type"] = "dora";
     },
     {},
     "",
     "adapter-not-attached"},
    {"of_stacked_experts_that_are_none",
     [](Parts& p) {
       p.adapter.emplace();
       p.adapter->fill("m.lora_a", "F16", {3, 2, 64}, 768).fill("m.lora_b", "F16", {3, 4, 2}, 48);
     },
     kMalformed, "m.lora_a"},
    {"of_a_recorded_rank",
     [](Parts& p) {
       p.set_factors({64, 2}, {2, 4});
       p.record = R"({"ranks": {"m.weight": [1]}})";
     },
     {}},
    {"of_a_recorded_rank_above_theirs",
     [](Parts& p) {
       p.set_factors({64, 2}, {2, 4});
       p.record = R"({"ranks": {"m.weight": [3]}})";
     },
     kMalformed, "m.lora_a"},
    {"of_more_recorded_ranks_than_weights",
     [](Parts& p) {
       p.set_factors({64, 2}, {2, 4});
       p.record = R"({"ranks": {"m.weight": [1, 1]}})";
     },
     kMalformed, "m.lora_a"},
    {"of_recorded_ranks_below_zero",
     [](Parts& p) {
       p.set_factors({64, 2}, {2, 4});
       p.record = R"({"ranks": {"m.weight": [-1]}})";
     },
     kMalformed},
    {"of_recorded_ranks_that_are_no_list",
     [](Parts& p) {
       p.set_factors({64, 2}, {2, 4});
       p.record = R"({"ranks": {"m.weight": 1}})";
     },
     kMalformed},
    {"with_a_record_of_ranks_that_is_none",
     [](Parts& p) {
       p.set_factors({64, 2}, {2, 4});
       p.record = R"({"ranks": []})";
     },
     kMalformed},
};

std::string name_of(const ::testing::TestParamInfo<MlxCase>& one) { return one.param.name; }

INSTANTIATE_TEST_SUITE_P(Config, MlxCorrupt, ::testing::ValuesIn(kConfigCases), name_of);
INSTANTIATE_TEST_SUITE_P(Tensors, MlxCorrupt, ::testing::ValuesIn(kTensorCases), name_of);
INSTANTIATE_TEST_SUITE_P(Adapter, MlxCorrupt, ::testing::ValuesIn(kAdapterCases), name_of);

}  // namespace
}  // namespace regauge
