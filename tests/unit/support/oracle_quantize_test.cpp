#include "tests/support/oracle_quantize.h"

#include <algorithm>
#include <string_view>

#include <gtest/gtest.h>

#include "tests/support/golden.h"
#include "tests/support/oracle.h"

namespace regauge::testing {
namespace {

bool contains(const std::vector<std::byte>& bytes, std::string_view text) {
  const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return all.find(text) != std::string_view::npos;
}

std::vector<std::byte> quantized(const std::filesystem::path& in, const std::string& type,
                                 const OracleQuantizeOptions& options = {}) {
  const ScratchDir scratch;
  std::string said;
  EXPECT_TRUE(oracle_quantize(in, scratch / "out.gguf", oracle_file_type(type), options, &said)) << said;
  return read_whole_file(scratch / "out.gguf");
}

class OracleQuantize : public ::testing::Test {
 protected:
  void SetUp() override {
    REGAUGE_ORACLE_OR_SKIP(oracle);
    static_cast<void>(oracle);
  }
};

TEST_F(OracleQuantize, WritesTheBytesThatLlamaQuantizeWrote) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(in, "qwen35_family/hf-bf16.gguf");
  REGAUGE_FULL_GOLDEN_OR_SKIP(expected, "qwen35_family/hf-bf16-q4_0.gguf");
  EXPECT_TRUE(quantized(in, "Q4_0") == read_whole_file(expected));
  EXPECT_TRUE(quantized(in, "Q4_0", {.threads = 2}) == read_whole_file(expected));
}

TEST_F(OracleQuantize, TakesTypesOfSingleTensors) {
  const auto plain = quantized(sample_path("qwen35-tiny-mtp.gguf"), "Q8_0");
  const auto f32_output = quantized(sample_path("qwen35-tiny-mtp.gguf"), "Q8_0", {.tensor_types = {{"attn_q", 0}}});
  EXPECT_LT(plain.size(), f32_output.size());
  EXPECT_LT(quantized(sample_path("qwen35-tiny-mtp.gguf"), "Q8_0", {.token_embedding_type = 2}).size(), plain.size());
}

TEST_F(OracleQuantize, TakesKeysAndImportance) {
  const auto in = sample_path("qwen35-tiny-mtp.gguf");
  OracleQuantizeOptions options;
  options.keys = {{"test.dataset", std::string("calibration")}, {"test.count", std::int64_t{7}}};
  const auto with_keys = quantized(in, "Q4_0", options);
  EXPECT_TRUE(contains(with_keys, "test.dataset"));
  EXPECT_TRUE(contains(with_keys, "calibration"));
  EXPECT_FALSE(contains(quantized(in, "Q4_0"), "test.dataset"));

  OracleQuantizeOptions weighted = options;
  std::vector<float> weights(64);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<float>(i % 7);
  weighted.importance = {{"blk.0.attn_gate.weight", weights}};
  const auto with_weights = quantized(in, "Q4_0", weighted);
  EXPECT_EQ(with_weights.size(), with_keys.size());
  EXPECT_FALSE(with_weights == with_keys);
}

TEST_F(OracleQuantize, SaysWhyItRefuses) {
  const ScratchDir scratch;
  std::string said;
  EXPECT_FALSE(oracle_quantize(scratch / "absent.gguf", scratch / "out.gguf", 2, {}, &said));
  EXPECT_NE(said.find("absent.gguf"), std::string::npos) << said;
  EXPECT_THROW(oracle_file_type("Q4_9"), std::invalid_argument);
}

}  // namespace
}  // namespace regauge::testing
