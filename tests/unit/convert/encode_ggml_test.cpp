#include "convert/encode/ggml.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/half.h"
#include "convert/encode/encode_with.h"
#include "ir/ggml_type.h"
#include "tests/support/golden.h"
#include "tests/support/oracle.h"

namespace regauge {
namespace {

using testing::GoldenFile;
using testing::Oracle;

using Random = std::mt19937_64;

std::vector<BlockType> encodable_types() {
  std::vector<BlockType> types;
  for (const GgmlType& type : ggml_types()) {
    if (type.block && can_encode(*type.block)) types.push_back(*type.block);
  }
  return types;
}

std::size_t encoded_bytes(BlockType type, std::size_t values) {
  return values / static_cast<std::size_t>(block_elements(type)) * static_cast<std::size_t>(block_bytes(type));
}

std::vector<std::byte> encoded(BlockType type, std::int64_t columns, std::span<const float> values,
                               std::span<const float> importance = {}) {
  // Not zeroed, so that a byte that is never written shows.
  std::vector<std::byte> blocks(encoded_bytes(type, values.size()), std::byte{0xA5});
  encode_ggml(type, columns, values, importance, blocks);
  return blocks;
}

std::vector<std::byte> encoded_by(const Oracle& oracle, BlockType type, std::int64_t columns,
                                  std::span<const float> values, std::span<const float> importance = {}) {
  std::vector<std::byte> blocks(encoded_bytes(type, values.size()), std::byte{0x5A});
  oracle.quantize_chunk(type, values, blocks, columns, importance);
  return blocks;
}

/// Explains the first block that differs; nothing when all bytes are equal.
std::string first_difference(BlockType type, std::span<const std::byte> expected, std::span<const std::byte> actual) {
  if (std::ranges::equal(expected, actual)) return {};
  const auto at = static_cast<std::size_t>(std::ranges::mismatch(expected, actual).in1 - expected.begin());
  const auto bytes = static_cast<std::size_t>(block_bytes(type));
  return std::string(name(type)) + ": block " + std::to_string(at / bytes) + ", byte " + std::to_string(at % bytes) +
         ": " + std::to_string(std::to_integer<int>(expected[at])) + " expected, got " +
         std::to_string(std::to_integer<int>(actual[at]));
}

/// A way to fill rows: what values look like matters to the searches, to ties and to the ends of the range.
struct Kind {
  const char* name;
  std::function<void(Random&, std::span<float>)> fill;
};

float normal(Random& random) { return std::normal_distribution<float>()(random); }
float uniform(Random& random, float low, float high) {
  return std::uniform_real_distribution<float>(low, high)(random);
}
std::size_t below(Random& random, std::size_t count) {
  return std::uniform_int_distribution<std::size_t>(0, count - 1)(random);
}

template <typename Make>
std::function<void(Random&, std::span<float>)> each(Make make) {
  return [make](Random& random, std::span<float> row) {
    for (float& value : row) value = make(random);
  };
}

/// Values of one scale a row, the scale from 2^low to 2^high.
template <typename Make>
std::function<void(Random&, std::span<float>)> scaled(float low, float high, Make make) {
  return [=](Random& random, std::span<float> row) {
    const float scale = std::exp2(uniform(random, low, high));
    for (float& value : row) value = scale * make(random);
  };
}

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {
      {"normal", scaled(-12, 4, normal)},
      {"like weights", each([](Random& random) { return 0.02F * normal(random); })},
      {"rounded to bf16", scaled(-12, 4, [](Random& random) { return bf16_to_f32(f32_to_bf16(normal(random))); })},
      {"uniform", scaled(-10, 10, [](Random& random) { return uniform(random, -1, 1); })},
      {"heavy tails", scaled(-8, 2,
                             [](Random& random) {
                               const float value = normal(random);
                               return value * value * value * std::abs(value);
                             })},
      {"exponents of all sizes",
       each([](Random& random) { return std::exp2(uniform(random, -40, 10)) * normal(random); })},
      {"all positive", scaled(-8, 4, [](Random& random) { return 2 + uniform(random, 0, 1); })},
      {"all negative", scaled(-8, 4, [](Random& random) { return -std::abs(normal(random)) - 0.1F; })},
      {"half zeros", scaled(-8, 4, [](Random& random) { return below(random, 2) == 0 ? 0.0F : normal(random); })},
      {"signed zeros", each([](Random& random) { return below(random, 2) == 0 ? 0.0F : -0.0F; })},
      {"zero", each([](Random&) { return 0.0F; })},
      {"one value", [](Random& random, std::span<float> row) { std::ranges::fill(row, normal(random)); }},
      {"plus and minus one value",
       [](Random& random, std::span<float> row) {
         const float value = normal(random);
         for (float& out : row) out = below(random, 2) == 0 ? value : -value;
       }},
      {"coarse grid", scaled(-6, 6, [](Random& random) { return static_cast<float>(below(random, 31)) - 15; })},
      {"ties",  // halves of a grid whose step is the scale that an extreme of 127, 8 or 16 steps gives
       [](Random& random, std::span<float> row) {
         const float step = std::exp2(static_cast<float>(below(random, 20)) - 10);
         const float extreme = std::array{127.0F, -8.0F, -16.0F, 15.0F, 31.0F, 1.0F}[below(random, 6)];
         for (float& value : row) value = step * (std::trunc(uniform(random, -1, 1) * 2 * extreme) / 2);
         for (std::size_t i = 0; i < row.size(); i += 16) row[i + below(random, 16)] = step * extreme;
       }},
      {"outliers",
       [](Random& random, std::span<float> row) {
         for (float& value : row) value = 0.02F * normal(random);
         for (int i = 0; i < 6; ++i) row[below(random, row.size())] = 1000 * normal(random);
       }},
      {"one value among zeros",
       [](Random& random, std::span<float> row) {
         std::ranges::fill(row, 0.0F);
         row[below(random, row.size())] = normal(random);
       }},
      {"a few values among zeros",
       [](Random& random, std::span<float> row) {
         std::ranges::fill(row, 0.0F);
         for (std::size_t i = 0; i < row.size() / 24; ++i) row[below(random, row.size())] = normal(random);
       }},
      {"next to powers of two",
       [](Random& random, std::span<float> row) {
         for (float& value : row) {
           value = std::exp2(static_cast<float>(below(random, 12)) - 6);
           for (auto steps = below(random, 4); steps > 0; --steps) value = std::nextafter(value, 0.0F);
           if (below(random, 2) == 0) value = -value;
         }
       }},
      {"below what counts", scaled(-60, -40, normal)},
      {"scales that are subnormal halves", scaled(-26, -12, normal)},
      {"subnormal squares", scaled(-80, -55, normal)},
      {"subnormal", each([](Random& random) { return 0x1p-149F * std::trunc(uniform(random, -8000, 8000)); })},
      {"a few subnormal steps",
       each([](Random& random) { return 0x1p-149F * (static_cast<float>(below(random, 41)) - 20); })},
      {"near the smallest normal", scaled(-130, -120, normal)},
      {"scales that overflow a half", scaled(15, 22, normal)},
      {"squares that overflow", scaled(60, 70, normal)},
      {"near the largest", each([](Random& random) { return uniform(random, -1, 1) * 3.4e38F; })},
  };
  return all;
}

std::vector<float> rows_of(const Kind& kind, Random& random, std::size_t rows, std::size_t columns) {
  std::vector<float> values(rows * columns);
  for (std::size_t row = 0; row < rows; ++row) kind.fill(random, std::span(values).subspan(row * columns, columns));
  return values;
}

/// Weights as activations give them, and some that break sums.
std::vector<float> weights_of(Random& random, std::size_t columns) {
  std::vector<float> weights(columns);
  const auto kind = below(random, 5);
  for (float& weight : weights) {
    const float square = normal(random) * normal(random);
    switch (kind) {
      case 0: weight = std::abs(square); break;
      case 1: weight = square * square * 100; break;
      case 2: weight = below(random, 3) == 0 ? std::abs(square) : 0.0F; break;
      case 3: weight = 1; break;
      default: weight = std::exp2(uniform(random, -20, 20)); break;
    }
  }
  if (kind == 1) std::fill_n(weights.begin(), 64, 0.0F);
  return weights;
}

std::uint64_t fresh_seed() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here changes the environment
  if (const char* chosen = std::getenv("REGAUGE_TEST_SEED"); chosen != nullptr) return std::stoull(chosen);
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

class EveryEncodableType : public ::testing::TestWithParam<BlockType> {};
INSTANTIATE_TEST_SUITE_P(BlockType, EveryEncodableType, ::testing::ValuesIn(encodable_types()),
                         [](const auto& type) { return std::string(name(type.param)); });

TEST_P(EveryEncodableType, EqualsTheGoldenBlocks) {
  const BlockType type = GetParam();
  REGAUGE_GOLDEN_OR_SKIP(path, "ggml/" + std::string(ggml_type(type).name) + ".safetensors");
  const GoldenFile golden(path);
  const auto input = golden["input"].as<float>();
  const std::int64_t columns = golden["input"].shape.at(1);
  EXPECT_EQ(first_difference(type, golden["quantized"].bytes, encoded(type, columns, input)), "");
  if (!golden.contains("imatrix")) return;
  const auto importance = golden["imatrix"].as<float>();
  const auto* expected = golden.contains("quantized_imatrix") ? "quantized_imatrix" : "quantized";
  EXPECT_EQ(first_difference(type, golden[expected].bytes, encoded(type, columns, input, importance)), "");
}

/// Encodes `rows` fresh rows of every kind and width here and by the library, with weights or without; how many there were.
std::size_t compare_fresh_rows(const Oracle& oracle, BlockType type, std::size_t rows,
                               std::initializer_list<std::size_t> widths, bool is_weighted) {
  const std::uint64_t seed = fresh_seed();
  SCOPED_TRACE("set REGAUGE_TEST_SEED=" + std::to_string(seed) + " to see this again");
  Random random(seed);
  std::size_t compared = 0;
  for (const Kind& kind : kinds()) {
    SCOPED_TRACE(kind.name);
    for (const std::size_t columns : widths) {
      const auto values = rows_of(kind, random, rows, columns);
      const auto importance = is_weighted ? weights_of(random, columns) : std::vector<float>();
      const auto width = static_cast<std::int64_t>(columns);
      EXPECT_EQ(first_difference(type, encoded_by(oracle, type, width, values, importance),
                                 encoded(type, width, values, importance)),
                "")
          << columns << " columns";
      compared += rows;
    }
  }
  return compared;
}

TEST_P(EveryEncodableType, EqualsTheLibraryOnFreshRowsOfEveryKind) {
  REGAUGE_ORACLE_OR_SKIP(oracle);
  const std::size_t compared = compare_fresh_rows(oracle, GetParam(), 64, {256, 512, 1280}, false);
  RecordProperty("rows_compared", static_cast<int>(compared));
}

TEST_P(EveryEncodableType, EqualsTheLibraryWithAnImportanceMatrix) {
  REGAUGE_ORACLE_OR_SKIP(oracle);
  const std::size_t compared = compare_fresh_rows(oracle, GetParam(), 24, {256, 512, 256, 512, 768}, true);
  RecordProperty("rows_compared", static_cast<int>(compared));
}

TEST_P(EveryEncodableType, MindsImportanceExactlyWhereTheLibraryDoes) {
  REGAUGE_ORACLE_OR_SKIP(oracle);
  const BlockType type = GetParam();
  Random random(7);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same rows on every run, on purpose
  const auto values = rows_of(kinds().front(), random, 16, 256);
  std::vector<float> importance(256);
  for (float& weight : importance) weight = std::exp2(uniform(random, -8, 8));
  const bool differs = encoded_by(oracle, type, 256, values) != encoded_by(oracle, type, 256, values, importance);
  EXPECT_EQ(uses_importance(type), differs);
}

TEST_P(EveryEncodableType, RowsEncodeTheSameAloneAndAtAnOddAddress) {
  const BlockType type = GetParam();
  Random random(11);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same rows on every run, on purpose
  constexpr std::size_t kColumns = 768;
  constexpr std::size_t kRows = 7;  // more than a part of the encoder's loop
  const auto values = rows_of(kinds().front(), random, kRows, kColumns);
  const auto importance = weights_of(random, kColumns);
  for (const std::span<const float> weights : {std::span<const float>(), std::span<const float>(importance)}) {
    const auto together = encoded(type, kColumns, values, weights);
    const std::size_t row_bytes = together.size() / kRows;
    for (std::size_t row = 0; row < kRows; ++row) {
      std::vector<std::byte> shifted(row_bytes + 1);
      encode_ggml(type, kColumns, std::span(values).subspan(row * kColumns, kColumns), weights,
                  std::span(shifted).subspan(1));
      EXPECT_TRUE(
          std::ranges::equal(std::span(shifted).subspan(1), std::span(together).subspan(row * row_bytes, row_bytes)))
          << "row " << row;
    }
  }
}

TEST_P(EveryEncodableType, EveryFormOfTheLoopsThatThisCpuRunsGivesTheSameBytes) {
  const BlockType type = GetParam();
  const std::uint64_t seed = fresh_seed();
  SCOPED_TRACE("set REGAUGE_TEST_SEED=" + std::to_string(seed) + " to see this again");
  Random random(seed);
  for (const Kind& kind : kinds()) {
    SCOPED_TRACE(kind.name);
    constexpr std::size_t kColumns = 768;  // 24 blocks of 32, which is no whole number of batches of 16
    const auto values = rows_of(kind, random, 16, kColumns);
    const auto importance = weights_of(random, kColumns);
    for (const std::span<const float> weights : {std::span<const float>(), std::span<const float>(importance)}) {
      std::vector<std::byte> plain(encoded_bytes(type, values.size()), std::byte{1});
      encode_ggml_with(ggml_encode::kPlainKernels, type, kColumns, values, weights, plain);
      for (const ggml_encode::Kernels* kernels : ggml_encode::kernels_here()) {
        std::vector<std::byte> blocks(plain.size(), std::byte{2});
        encode_ggml_with(*kernels, type, kColumns, values, weights, blocks);
        EXPECT_EQ(first_difference(type, plain, blocks), "") << kernels->name;
      }
    }
  }
}

/// The code of what encode_ggml throws, or nothing.
std::optional<ErrorCode> refusal(BlockType type, std::int64_t columns, std::span<const float> values,
                                 std::span<const float> importance, std::size_t bytes) {
  std::vector<std::byte> blocks(bytes);
  try {
    encode_ggml(type, columns, values, importance, blocks);
  } catch (const Error& error) {
    return error.code();
  }
  return std::nullopt;
}

TEST_P(EveryEncodableType, SizesThatDoNotBelongTogetherAreRefused) {
  const BlockType type = GetParam();
  const std::vector<float> values(512);
  const std::size_t bytes = encoded_bytes(type, values.size());
  EXPECT_EQ(refusal(type, 256, values, {}, bytes), std::nullopt);
  EXPECT_EQ(refusal(type, 512, values, values, bytes), std::nullopt);
  EXPECT_EQ(refusal(type, 256, {}, {}, 0), std::nullopt);
  EXPECT_EQ(refusal(type, 0, values, {}, bytes), ErrorCode::invalid);
  EXPECT_EQ(refusal(type, -256, values, {}, bytes), ErrorCode::invalid);
  EXPECT_EQ(refusal(type, 768, values, {}, bytes), ErrorCode::invalid);
  EXPECT_EQ(refusal(type, block_elements(type) / 2, values, {}, bytes), ErrorCode::invalid);
  EXPECT_EQ(refusal(type, 256, values, {}, bytes - 1), ErrorCode::invalid);
  EXPECT_EQ(refusal(type, 256, values, {}, bytes + 1), ErrorCode::invalid);
  EXPECT_EQ(refusal(type, 256, values, values, bytes), ErrorCode::invalid);
}

TEST_P(EveryEncodableType, AnInfinityOrNaNIsRefusedWhereverItIs) {
  const BlockType type = GetParam();
  const std::size_t bytes = encoded_bytes(type, 2560);
  for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN()}) {
    for (const std::size_t at : {0U, 1U, 1279U, 1280U, 2047U, 2048U, 2559U}) {
      std::vector<float> values(2560, 1.0F);
      values[at] = bad;
      EXPECT_EQ(refusal(type, 1280, values, {}, bytes), ErrorCode::invalid) << bad << " at " << at;
      std::vector<float> weights(1280, 1.0F);
      weights[at % 1280] = bad;
      EXPECT_EQ(refusal(type, 1280, std::vector<float>(2560, 1.0F), weights, bytes), ErrorCode::invalid);
    }
  }
}

TEST(EncodeGgml, TypesWithoutAnEncoderAreRefused) {
  for (const BlockType type : {BlockType::q8_1, BlockType::q8_K, BlockType::iq1_s, BlockType::iq2_xs}) {
    EXPECT_FALSE(can_encode(type)) << name(type);
    EXPECT_EQ(refusal(type, 256, std::vector<float>(256), {}, encoded_bytes(type, 256)), ErrorCode::unsupported);
  }
  EXPECT_EQ(encodable_types().size(), 18U);
}

TEST(EncodeKBlocks, NegativeScalesThatFewWeightsFitSpillOverAsInTheLibrary) {
  REGAUGE_ORACLE_OR_SKIP(oracle);
  Random random(13);  // NOLINT(cert-msc32-c,cert-msc51-cpp): rows among which there are such, on purpose
  constexpr std::size_t kRows = 20;
  for (int turn = 0; turn < 200; ++turn) {
    std::vector<float> values(kRows * 256);
    for (float& value : values) {
      value = normal(random);
      value = turn % 2 == 0 ? -std::abs(value) - 0.1F : value * value * value;
    }
    std::vector<float> importance(256);
    for (float& weight : importance) weight = below(random, 3) == 0 ? std::abs(normal(random)) : 0.0F;
    for (const BlockType type : {BlockType::q2_K, BlockType::q4_K, BlockType::q5_K}) {
      EXPECT_EQ(first_difference(type, encoded_by(oracle, type, 256, values, importance),
                                 encoded(type, 256, values, importance)),
                "");
    }
  }
}

TEST(EncodeMxfp4, TheExponentFollowsALogarithmThatRoundsUpRightBelowPowersOfTwo) {
  REGAUGE_ORACLE_OR_SKIP(oracle);
  constexpr std::size_t kSteps = 128;
  for (int exponent = -148; exponent <= 128; ++exponent) {
    std::vector<float> values;
    float value = exponent == 128 ? std::numeric_limits<float>::max() : std::ldexp(1.0F, exponent);
    for (std::size_t step = 0; step < kSteps; ++step) {
      values.push_back(value);
      values.resize(values.size() + 31, 0.0F);
      value = std::nextafter(value, 0.0F);
    }
    const auto columns = static_cast<std::int64_t>(values.size());
    EXPECT_EQ(first_difference(BlockType::mxfp4, encoded_by(oracle, BlockType::mxfp4, columns, values),
                               encoded(BlockType::mxfp4, columns, values)),
              "")
        << "below 2^" << exponent;
  }
}

}  // namespace
}  // namespace regauge
