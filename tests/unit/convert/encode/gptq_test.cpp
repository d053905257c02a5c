#include "convert/encode/gptq.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/half.h"
#include "tests/support/golden.h"
#include "tests/unit/convert/encode/golden_floats.h"

namespace regauge {
namespace {

using testing::GoldenFile;
using testing::stored_as;
using Codes = std::vector<std::uint8_t>;

struct Encoded {
  Codes codes;
  std::vector<float> scales;
  Codes zeros;
};

Encoded encode(const GptqEncoding& encoding, std::int64_t columns, const std::vector<float>& values) {
  const std::size_t groups =
      values.size() / static_cast<std::size_t>(columns) * static_cast<std::size_t>(gptq_groups(encoding, columns));
  Encoded out{Codes(values.size(), 0xAA), std::vector<float>(groups), Codes(groups, 0xAA)};
  encode_gptq(encoding, columns, values, out.codes, out.scales, out.zeros);
  return out;
}

GptqEncoding encoding_of(int bits, std::int64_t group, bool sym) {
  return {.bits = bits, .sym = sym, .group = group, .module = DType::f32};
}

std::string name_of(const GptqEncoding& encoding) {
  return "b" + std::to_string(encoding.bits) + "_g" + (encoding.group == -1 ? "all" : std::to_string(encoding.group)) +
         (encoding.sym ? "_sym" : "_asym");
}

class GptqGolden : public ::testing::TestWithParam<int> {};

TEST_P(GptqGolden, EveryGroupHasTheCodesOfGptqmodel) {
  REGAUGE_GOLDEN_OR_SKIP(path, "gptq/rtn.safetensors");
  const GoldenFile file(path);
  const auto weight = file["weight"].as<float>();
  int through_bf16 = 0;
  for (const std::int64_t group : {32, 64, 128, -1}) {
    for (const bool sym : {true, false}) {
      GptqEncoding encoding = encoding_of(GetParam(), group, sym);
      const std::string name = name_of(encoding);
      SCOPED_TRACE(name);
      const Encoded encoded = encode(encoding, 256, weight);
      EXPECT_EQ(encoded.codes, file[name + ".codes"].as<std::uint8_t>());
      EXPECT_EQ(encoded.zeros, file[name + ".zeros"].as<std::uint8_t>());
      EXPECT_TRUE(std::ranges::equal(stored_as(DType::f16, encoded.scales), file[name + ".scales"].bytes));

      const bool differs = file.contains(name + ".codes_bf16");
      encoding.module = DType::bf16;
      EXPECT_EQ(encode(encoding, 256, weight).codes,
                file[name + (differs ? ".codes_bf16" : ".codes")].as<std::uint8_t>());
      through_bf16 += differs ? 1 : 0;
    }
  }
  EXPECT_EQ(through_bf16, GetParam() == 8 ? 4 : 0);
}

INSTANTIATE_TEST_SUITE_P(Bits, GptqGolden, ::testing::Range(2, 9),
                         [](const auto& test) { return std::to_string(test.param); });

/// The columns of a row-major matrix that belong to group 0.
std::vector<float> first_group(const std::vector<float>& matrix, const std::vector<std::int32_t>& index) {
  std::vector<float> out;
  for (std::size_t i = 0; i < matrix.size(); ++i) {
    if (index[i % index.size()] == 0) out.push_back(matrix[i]);
  }
  return out;
}

// A run of the solver finds the parameters of the first group that it solves before it has moved any weight, so they are
// those of the source weights.
TEST(Gptq, TheFirstGroupOfASolverRunHasTheseParameters) {
  REGAUGE_FULL_GOLDEN_OR_SKIP(folder, "gptq/grid");
  const GoldenFile source(folder / "source.safetensors");
  auto weight = source["weight"].as<float>();
  for (float& value : weight) value = f16_to_f32(f32_to_f16(value));  // the module was an F16 one
  int compared = 0;
  for (const int bits : {2, 3, 4, 8}) {
    for (const std::int64_t group : {32, 64, 128, -1}) {
      for (const bool sym : {true, false}) {
        for (const std::string order : {"_act", "_noact"}) {
          const std::string name = name_of(encoding_of(bits, group, sym)) + order;
          SCOPED_TRACE(name);
          const GoldenFile file(folder / (name + ".safetensors"));
          const auto columns = first_group(weight, file["g_idx"].as<std::int32_t>());
          const Encoded encoded =
              encode(encoding_of(bits, -1, sym), static_cast<std::int64_t>(columns.size() / 32), columns);
          const auto scales = file["scales"].bytes.first(64);  // [groups, 32 rows]
          const auto zeros = file["zeros"].as<std::uint8_t>();
          EXPECT_TRUE(std::ranges::equal(stored_as(DType::f16, encoded.scales), scales));
          EXPECT_TRUE(std::ranges::equal(encoded.zeros, std::span(zeros).first(32)));
          ++compared;
        }
      }
    }
  }
  EXPECT_EQ(compared, 64);
}

std::vector<float> constant(float value, std::size_t count = 32) { return std::vector<float>(count, value); }

// Without a range GPTQModel takes -1 to 1; zero then is the zero point and decodes to 0 exactly.
TEST(Gptq, ZerosAreTheZeroPoint) {
  for (int bits = 2; bits <= 8; ++bits) {
    for (const bool sym : {true, false}) {
      const Encoded encoded = encode(encoding_of(bits, 32, sym), 32, constant(0.0F));
      EXPECT_EQ(encoded.codes, Codes(32, encoded.zeros[0]));
      EXPECT_EQ(encoded.scales[0], f16_to_f32(f32_to_f16(2.0F / static_cast<float>((1 << bits) - 1))));
      if (sym) {
        EXPECT_EQ(encoded.zeros[0], 1 << (bits - 1));
      }
    }
  }
}

// The range includes 0, so a constant is one end of it: scale |c| / 15, and the codes are 15 steps apart.
TEST(Gptq, AConstantGroupIsAnEndOfItsRange) {
  const Encoded up = encode(encoding_of(4, 32, false), 32, constant(15.0F));
  EXPECT_EQ(up.scales[0], 1.0F);
  EXPECT_EQ(up.zeros[0], 0);
  EXPECT_EQ(up.codes, Codes(32, 15));
  const Encoded down = encode(encoding_of(4, 32, false), 32, constant(-15.0F));
  EXPECT_EQ(down.scales[0], 1.0F);
  EXPECT_EQ(down.zeros[0], 15);
  EXPECT_EQ(down.codes, Codes(32, 0));
}

TEST(Gptq, ASymmetricGroupWithNegativesSpansBothSigns) {
  std::vector<float> values = constant(0.0F);
  values[0] = -15.0F;
  values[1] = 7.5F;
  values[2] = 3.0F;  // 1.5 steps: a tie, to the even code
  values[3] = 5.0F;  // 2.5 steps
  const Encoded encoded = encode(encoding_of(4, 32, true), 32, values);
  EXPECT_EQ(encoded.scales[0], 2.0F);  // 30 / 15
  EXPECT_EQ(encoded.zeros[0], 8);
  EXPECT_EQ(encoded.codes[0], 0);   // -7.5 steps: the even neighbour is -8
  EXPECT_EQ(encoded.codes[1], 12);  // 3.75 steps
  EXPECT_EQ(encoded.codes[2], 10);
  EXPECT_EQ(encoded.codes[3], 10);
}

// find_params mirrors the lower end only where there is one.
TEST(Gptq, ASymmetricGroupWithoutNegativesIsClamped) {
  const Encoded encoded = encode(encoding_of(4, 32, true), 32, constant(15.0F));
  EXPECT_EQ(encoded.scales[0], 1.0F);
  EXPECT_EQ(encoded.zeros[0], 8);
  EXPECT_EQ(encoded.codes, Codes(32, 15));  // 7, where 15 was
}

TEST(Gptq, TheLastGroupOfARowMayBeShort) {
  std::vector<float> values(2 * 48);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = i % 48 < 32 ? 15.0F : -30.0F;
  const Encoded encoded = encode(encoding_of(4, 32, false), 48, values);
  EXPECT_EQ(encoded.scales, (std::vector<float>{1, 2, 1, 2}));
  EXPECT_EQ(encoded.zeros, (Codes{0, 15, 0, 15}));
  EXPECT_EQ(encode(encoding_of(4, -1, false), 48, values).scales, (std::vector<float>{3, 3}));
}

TEST(Gptq, ScalesThatF32CannotHoldGiveZeroPoints) {
  const float smallest = std::numeric_limits<float>::denorm_min();
  for (const bool sym : {true, false}) {
    std::vector<float> values = constant(smallest);
    values[0] = -smallest;
    const Encoded encoded = encode(encoding_of(4, 32, sym), 32, values);
    EXPECT_EQ(encoded.scales[0], 0.0F);
    EXPECT_EQ(encoded.codes, Codes(32, encoded.zeros[0]));
  }
}

ErrorCode refusal_of(const GptqEncoding& encoding, std::int64_t columns, const std::vector<float>& values) {
  try {
    encode(encoding, columns, values);
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "no error";
  return ErrorCode::internal;
}

TEST(Gptq, RefusesWhatHasNoGptqForm) {
  std::vector<float> values = constant(1.0F);
  values[31] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(refusal_of(encoding_of(4, 32, true), 32, values), ErrorCode::unsupported);
  values[31] = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(refusal_of(encoding_of(4, 32, true), 32, values), ErrorCode::unsupported);
  EXPECT_EQ(refusal_of(encoding_of(4, 32, true), 32, constant(1e7F)), ErrorCode::unsupported);
  EXPECT_EQ(refusal_of(encoding_of(1, 32, true), 32, constant(1.0F)), ErrorCode::unsupported);
  EXPECT_EQ(refusal_of(encoding_of(9, 32, true), 32, constant(1.0F)), ErrorCode::unsupported);
  EXPECT_EQ(refusal_of(encoding_of(4, 0, true), 32, constant(1.0F)), ErrorCode::unsupported);
  EXPECT_EQ(refusal_of(encoding_of(4, 32, true), 32, constant(1.0F, 33)), ErrorCode::internal);
}

}  // namespace
}  // namespace regauge
