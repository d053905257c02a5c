#include <random>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/half.h"
#include "formats/gguf/gguf.h"
#include "tests/support/tensors.h"
#include "tests/unit/convert/repacked.h"
#include "tests/unit/convert/targets.h"

namespace regauge {
namespace {

using testing::count_value_differences;
using testing::decode_all;
using testing::grouped_tensor;
using testing::GroupedSpec;
using testing::memory_part;
using testing::objection;
using testing::packing_format;
using testing::repack;
using testing::whole;

const Format kMlx = packing_format(Packing::mlx);
const Format kGptq = packing_format(Packing::gptq);

constexpr int kFiniteScales = 0xF800;  // of either sign

std::uint16_t finite_scale(int i) {
  const int magnitude = i % 0x7C00;
  return static_cast<std::uint16_t>(magnitude | (i >= 0x7C00 ? 0x8000 : 0));
}

Target linear(const Tensor& tensor, View view = {}) {
  Target target = whole(tensor, std::move(view));
  target.is_linear = true;
  return target;
}

/// Every finite f16 scale with every code of `bits`: 63,488 groups of 32 in rows of 1,024 columns. Of 8-bit codes each
/// scale meets an eighth, its neighbours the others.
GroupedSpec every_scale(int bits, int zero) {
  GroupedSpec spec{.rows = kFiniteScales / 32,
                   .columns = 1024,
                   .bits = bits,
                   .group = 32,
                   .codes = {},
                   .scales = {},
                   .zeros = {},
                   .index = {}};
  for (int i = 0; i < kFiniteScales; ++i) {
    spec.scales.push_back(finite_scale(i));
    spec.zeros.push_back(static_cast<std::uint8_t>(zero));
    for (int c = 0; c < 32; ++c) spec.codes.push_back(static_cast<std::uint8_t>((c + 32 * (i % 8)) % (1 << bits)));
  }
  return spec;
}

/// Blocks of every finite f16 scale; the other bytes are noise.
Tensor every_block(BlockType type, std::uint32_t seed) {
  const std::int64_t elements = block_elements(type);
  const auto bytes = static_cast<std::size_t>(block_bytes(type));
  const std::int64_t per_row = 1024 / elements;
  const std::int64_t rows = kFiniteScales / per_row / 32 * 32;
  std::mt19937 random(seed);
  std::vector<std::byte> blocks(static_cast<std::size_t>(rows * per_row) * bytes);
  for (std::byte& byte : blocks) byte = static_cast<std::byte>(random());
  const bool second =
      type == BlockType::q4_1 || type == BlockType::q5_1 || type == BlockType::q4_K || type == BlockType::q5_K;
  for (std::size_t b = 0; b < static_cast<std::size_t>(rows * per_row); ++b) {
    store_le(blocks.data() + b * bytes, finite_scale(static_cast<int>(b)));
    if (second) store_le(blocks.data() + b * bytes + 2, finite_scale(static_cast<int>(random() % kFiniteScales)));
  }
  Tensor tensor;
  tensor.name = "model.t.weight";
  tensor.shape = {rows, 1024};
  tensor.encoding = Blocked{type};
  const auto row_bytes = static_cast<std::size_t>(per_row) * bytes;
  tensor.parts.push_back({PartId::blocks,
                          DType::u8,
                          {rows, static_cast<std::int64_t>(row_bytes)},
                          std::make_shared<MemoryRows>(std::move(blocks), rows, row_bytes)});
  return tensor;
}

/// MLX codes with f16 scales and biases of their own.
Tensor mlx_tensor(int bits, std::int64_t group, std::int64_t rows, std::int64_t columns, std::uint32_t seed,
                  std::optional<int> zero = std::nullopt) {
  std::mt19937 random(seed);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(rows * columns));
  for (auto& code : codes) code = static_cast<std::uint8_t>(random() % (1U << bits));
  const std::int64_t groups = columns / group;
  std::vector<std::uint16_t> scales;
  std::vector<std::uint16_t> biases;
  for (std::int64_t i = 0; i < rows * groups; ++i) {
    scales.push_back(static_cast<std::uint16_t>(0x1400 + random() % 0x1000));
    const float bias = zero ? -static_cast<float>(*zero) * f16_to_f32(scales.back()) : 0.0F;
    biases.push_back(zero ? f32_to_f16(bias) : finite_scale(static_cast<int>(random() % kFiniteScales)));
  }
  Tensor tensor;
  tensor.name = "model.t.weight";
  tensor.shape = {rows, columns};
  tensor.encoding = Grouped{.bits = bits,
                            .group = {1, group},
                            .scale = DType::f16,
                            .offset = Offset::bias,
                            .offset_dtype = DType::f16,
                            .flavour = Flavour::mlx};
  tensor.parts.push_back(memory_part<std::uint8_t>(PartId::codes, DType::u8, rows, columns, codes));
  tensor.parts.push_back(memory_part<std::uint16_t>(PartId::scales, DType::f16, rows, groups, scales));
  tensor.parts.push_back(memory_part<std::uint16_t>(PartId::biases, DType::f16, rows, groups, biases));
  return tensor;
}

void expect_same_values(const Tensor& tensor, const Format& format, std::string_view encoding,
                        const ConvertOptions& options = {}) {
  const Target target = linear(tensor);
  const auto result = repack(target, format, 512, options);
  EXPECT_EQ(result.step.encoding, encoding);
  EXPECT_EQ(result.step.fidelity, Fidelity::values);
  EXPECT_EQ(count_value_differences(decode_all(tensor), result.values), 0U);
}

struct GroupedCase {
  int bits;
  int zero;
  std::string_view mlx;
  std::string_view gptq;
};

class EveryGroupedScale : public ::testing::TestWithParam<GroupedCase> {};

TEST_P(EveryGroupedScale, KeepsItsValuesAsMlx) {
  const auto& c = GetParam();
  expect_same_values(grouped_tensor("model.t.weight", every_scale(c.bits, c.zero)), kMlx, c.mlx);
}

TEST_P(EveryGroupedScale, KeepsItsValuesAsGptq) {
  const auto& c = GetParam();
  expect_same_values(grouped_tensor("model.t.weight", every_scale(c.bits, c.zero)), kGptq, c.gptq);
}

// The bias -zero * scale needs the bits of both factors: f16 holds it only for powers of two that do not overflow.
INSTANTIATE_TEST_SUITE_P(AllWidths, EveryGroupedScale,
                         ::testing::Values(GroupedCase{2, 0, "u2 g32 f16 bias", "u2 g32 f16 zp"},
                                           GroupedCase{2, 2, "u2 g32 f32 bias", "u2 g32 f16 mid"},
                                           GroupedCase{3, 4, "u3 g32 f32 bias", "u3 g32 f16 mid"},
                                           GroupedCase{3, 7, "u3 g32 f32 bias", "u3 g32 f16 zp"},
                                           GroupedCase{4, 8, "u4 g32 f32 bias", "u4 g32 f16 mid"},
                                           GroupedCase{4, 1, "u4 g32 f16 bias", "u4 g32 f16 zp"},
                                           GroupedCase{4, 11, "u4 g32 f32 bias", "u4 g32 f16 zp"},
                                           GroupedCase{5, 16, "u5 g32 f32 bias", "u8 g32 f16 mid"},
                                           GroupedCase{6, 32, "u6 g32 f32 bias", "u8 g32 f16 mid"},
                                           GroupedCase{8, 128, "u8 g32 f32 bias", "u8 g32 f16 mid"},
                                           GroupedCase{8, 3, "u8 g32 f32 bias", "u8 g32 f16 zp"}),
                         [](const auto& test) {
                           return "u" + std::to_string(test.param.bits) + "_zero_" + std::to_string(test.param.zero);
                         });

struct BlockCase {
  BlockType type;
  std::string_view mlx;
  std::string_view gptq;
};

class EveryBlockScale : public ::testing::TestWithParam<BlockCase> {};

TEST_P(EveryBlockScale, KeepsItsValuesAsMlx) {
  expect_same_values(every_block(GetParam().type, 1), kMlx, GetParam().mlx);
}

TEST_P(EveryBlockScale, KeepsItsValuesAsGptqOrHasNoZeroPoint) {
  const Tensor tensor = every_block(GetParam().type, 2);
  if (!GetParam().gptq.empty()) return expect_same_values(tensor, kGptq, GetParam().gptq);
  EXPECT_NE(objection(linear(tensor), kGptq).find("biases"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(AllTypes, EveryBlockScale,
                         ::testing::Values(BlockCase{BlockType::q4_0, "u4 g32 f32 bias", "u4 g32 f16 mid"},
                                           BlockCase{BlockType::q5_0, "u5 g32 f32 bias", "u8 g32 f16 mid"},
                                           BlockCase{BlockType::q8_0, "u8 g32 f32 bias", "u8 g32 f16 mid"},
                                           BlockCase{BlockType::q2_0, "u2 g64 f16 bias", "u2 g64 f16 zp"},
                                           BlockCase{BlockType::q4_1, "u4 g32 f16 bias", ""},
                                           BlockCase{BlockType::q5_1, "u5 g32 f16 bias", ""},
                                           BlockCase{BlockType::q4_K, "u4 g32 f32 bias", ""},
                                           BlockCase{BlockType::q5_K, "u5 g32 f32 bias", ""}),
                         [](const auto& test) { return std::string(name(test.param.type)); });

TEST(Repack, PlanarGptqTakesFiveBitsAsTheyAre) {
  ConvertOptions options;
  options.layout = GptqLayout::planar;
  expect_same_values(every_block(BlockType::q5_0, 3), kGptq, "u5 g32 f16 mid", options);
}

TEST(Repack, MlxCodesUpToFiveBitsBecomeBlocksWithAMinimum) {
  for (const auto& [bits, type] :
       {std::pair(2, "Q4_1"), std::pair(3, "Q4_1"), std::pair(4, "Q4_1"), std::pair(5, "Q5_1")})
    expect_same_values(mlx_tensor(bits, 64, 64, 512, 4), kGgufFormat, type);
}

TEST(Repack, MlxBiasesThatAreWholeMultiplesOfScalesBecomeZeroPoints) {
  expect_same_values(mlx_tensor(4, 64, 64, 512, 5, 8), kGgufFormat, "Q4_0");
  expect_same_values(mlx_tensor(5, 64, 64, 512, 5, 16), kGgufFormat, "Q5_0");
  expect_same_values(mlx_tensor(6, 32, 64, 512, 5, 32), kGgufFormat, "Q8_0");
  expect_same_values(mlx_tensor(8, 128, 64, 512, 5, 128), kGgufFormat, "Q8_0");
  expect_same_values(mlx_tensor(4, 64, 64, 512, 5, 8), kGptq, "u4 g64 f16 mid");
  expect_same_values(mlx_tensor(8, 128, 64, 512, 5, 128), kGptq, "u8 g128 f16 mid");
}

TEST(Repack, SixAndEightBitsWithABiasAreRoundedOnlyWhenThatIsAllowed) {
  const Tensor tensor = mlx_tensor(8, 64, 32, 256, 6);
  EXPECT_NE(objection(linear(tensor), kGgufFormat).find("whole multiples"), std::string::npos);
}

// b = -k * s up to the rounding of b: what MLX's own quantizer leaves behind.
TEST(Repack, ARoundedRouteKeepsCodesAndMeasuresWhatItCost) {
  std::mt19937 random(7);
  const std::int64_t rows = 32;
  const std::int64_t columns = 256;
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(rows * columns));
  for (auto& code : codes) code = static_cast<std::uint8_t>(random() % 255);
  std::vector<std::uint16_t> scales;
  std::vector<std::uint16_t> biases;
  for (int i = 0; i < rows * 4; ++i) {
    scales.push_back(f32_to_bf16(0.001F + static_cast<float>(random() % 1000) * 1e-6F));
    biases.push_back(f32_to_bf16(-bf16_to_f32(scales.back()) * 127.0F));
  }
  Tensor tensor = mlx_tensor(8, 64, rows, columns, 8);
  tensor.encoding = Grouped{.bits = 8,
                            .group = {1, 64},
                            .scale = DType::bf16,
                            .offset = Offset::bias,
                            .offset_dtype = DType::bf16,
                            .flavour = Flavour::mlx};
  tensor.parts.clear();
  tensor.parts.push_back(memory_part<std::uint8_t>(PartId::codes, DType::u8, rows, columns, codes));
  tensor.parts.push_back(memory_part<std::uint16_t>(PartId::scales, DType::bf16, rows, 4, scales));
  tensor.parts.push_back(memory_part<std::uint16_t>(PartId::biases, DType::bf16, rows, 4, biases));
  const Target target = linear(tensor);
  ASSERT_NE(objection(target, kGgufFormat), "");
  ConvertOptions options;
  options.allow_rounded = true;
  const auto result = repack(target, kGgufFormat, 8, options);
  EXPECT_EQ(result.step.encoding, "Q8_0");
  EXPECT_EQ(result.step.fidelity, Fidelity::rounded);
  const auto wanted = decode_all(tensor);
  double worst = 0.0;
  std::uint64_t changed = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(wanted[i]) - static_cast<double>(result.values[i])));
    changed += wanted[i] == result.values[i] ? 0 : 1;
  }
  EXPECT_EQ(result.loss.worst, static_cast<double>(static_cast<float>(worst)));
  EXPECT_EQ(result.loss.changed, changed);
  EXPECT_GT(result.loss.worst_steps, 0.0);
  EXPECT_LT(result.loss.worst_steps, 0.5);
  EXPECT_GT(worst, 0.0);
  EXPECT_LT(worst, 0.002F / 2);  // less than half a step: the codes are the source's own
}

TEST(Repack, GroupsThatBlocksSplitAreFoundAgain) {
  std::mt19937 random(9);
  GroupedSpec spec{
      .rows = 64, .columns = 512, .bits = 4, .group = 128, .codes = {}, .scales = {}, .zeros = {}, .index = {}};
  for (int i = 0; i < 64 * 512; ++i) spec.codes.push_back(static_cast<std::uint8_t>(random() % 16));
  for (int i = 0; i < 64 * 4; ++i) spec.scales.push_back(static_cast<std::uint16_t>(0x1400 + random() % 0x800));
  const Tensor tensor = grouped_tensor("model.t.weight", spec);
  const auto blocks = repack(linear(tensor), kGgufFormat, 16);
  Tensor stored;
  stored.name = "model.t.weight";
  stored.shape = tensor.shape;
  stored.encoding = Blocked{BlockType::q4_0};
  const std::int64_t row_bytes = 512 / 32 * 18;
  stored.parts.push_back({PartId::blocks,
                          DType::u8,
                          {64, row_bytes},
                          std::make_shared<MemoryRows>(blocks.arrays[0], 64, static_cast<std::size_t>(row_bytes))});
  const auto back = repack(linear(stored), kGptq, 32);
  EXPECT_EQ(back.step.encoding, "u4 g128 f16 mid");
  const auto direct = repack(linear(tensor), kGptq, 64);
  EXPECT_EQ(back.arrays, direct.arrays);
  EXPECT_EQ(repack(linear(stored), kMlx, 8).step.module->group_size, 128);
}

TEST(Repack, ColumnsChangePlacesInStreamsAndInCodes) {
  // Q4_0 has streams. More rows than a tile of GPTQ words, in bands that are one tile, several, and the whole.
  Tensor tensor = every_block(BlockType::q4_0, 21);
  const std::int64_t rows = tensor.shape.rows();
  const std::vector<float> values = decode_all(tensor);
  for (const std::vector<AxisMap::Run>& runs : {std::vector<AxisMap::Run>{{512, 512}, {0, 512}},
                                                {{32, 32}, {0, 32}, {96, 928}, {64, 32}},
                                                {{8, 8}, {0, 8}, {16, 1008}},
                                                {{1, 31}, {0, 1}, {32, 992}}}) {
    const View view{.rows = {}, .columns = AxisMap(runs), .elementwise = Elementwise::none};
    const Target target = linear(tensor, view);
    const std::vector<float> expected = testing::seen_through(view, values, rows, 1024);
    std::optional<std::vector<std::vector<std::byte>>> arrays;
    for (const std::int64_t height : {std::int64_t{32}, std::int64_t{992}, rows}) {
      const auto result = repack(target, kGptq, height);
      EXPECT_EQ(count_value_differences(expected, result.values), 0U) << runs.front().begin << ", " << height;
      if (!arrays) arrays = result.arrays;
      EXPECT_EQ(result.arrays, *arrays) << runs.front().begin << ", " << height;
    }
  }
}

TEST(Repack, AColumnOrderThatCutsGroupsBecomesAnIndex) {
  std::mt19937 random(10);
  GroupedSpec spec{
      .rows = 32, .columns = 128, .bits = 4, .group = 32, .codes = {}, .scales = {}, .zeros = {}, .index = {}};
  for (int i = 0; i < 32 * 128; ++i) spec.codes.push_back(static_cast<std::uint8_t>(random() % 16));
  for (int i = 0; i < 32 * 4; ++i) spec.scales.push_back(static_cast<std::uint16_t>(0x1400 + random() % 0x800));
  const Tensor tensor = grouped_tensor("model.t.weight", spec);
  const View view{.rows = {}, .columns = AxisMap({{16, 32}, {0, 16}, {48, 80}}), .elementwise = Elementwise::none};
  const Target target = linear(tensor, view);
  EXPECT_NE(objection(target, kMlx).find("act-order"), std::string::npos);
  const auto result = repack(target, kGptq, 32);
  EXPECT_TRUE(result.step.module->act_order);
  EXPECT_EQ(count_value_differences(testing::seen_through(view, decode_all(tensor), 32, 128), result.values), 0U);
}

TEST(Repack, MarlinRefusesWhatItsKernelsCannotTile) {
  std::mt19937 random(11);
  ConvertOptions options;
  options.layout = GptqLayout::marlin;
  const auto spec_of = [&](std::int64_t rows, std::int64_t columns, std::int64_t group, int bits) {
    GroupedSpec spec{.rows = rows,
                     .columns = columns,
                     .bits = bits,
                     .group = group,
                     .codes = {},
                     .scales = {},
                     .zeros = {},
                     .index = {}};
    for (std::int64_t i = 0; i < rows * columns; ++i) spec.codes.push_back(static_cast<std::uint8_t>(random() % 16));
    for (std::int64_t i = 0; i < rows * columns / group; ++i)
      spec.scales.push_back(static_cast<std::uint16_t>(0x1400 + random() % 0x800));
    return grouped_tensor("model.t.weight", spec);
  };
  expect_same_values(spec_of(64, 256, 128, 4), kGptq, "u4 g128 f16 mid", options);
  const Tensor narrow = spec_of(32, 256, 128, 4);
  EXPECT_NE(objection(linear(narrow), kGptq, options).find("N % 64"), std::string::npos);
  const Tensor short_rows = spec_of(64, 192, 192, 4);
  EXPECT_NE(objection(linear(short_rows), kGptq, options).find("K % 128"), std::string::npos);
  const Tensor small_groups = spec_of(64, 256, 32, 4);
  EXPECT_NE(objection(linear(small_groups), kGptq, options).find("128"), std::string::npos);
  const Tensor eight = spec_of(64, 256, 128, 8);
  EXPECT_NE(objection(linear(eight), kGptq, options), "");
  options.layout = GptqLayout::marlin_runtime;
  expect_same_values(small_groups, kGptq, "u4 g32 f16 mid", options);
  expect_same_values(eight, kGptq, "u8 g128 f16 mid", options);
}

/// mxfp4 or nvfp4 blocks of noise with every scale byte that ggml and MLX read alike.
Tensor float_blocks(BlockType type, std::uint8_t last) {
  std::mt19937 random(12);
  const std::int64_t rows = 64;
  const auto bytes = static_cast<std::size_t>(block_bytes(type));
  const auto per_row = static_cast<std::size_t>(512 / block_elements(type));
  std::vector<std::byte> blocks(64 * per_row * bytes);
  for (std::byte& byte : blocks) byte = static_cast<std::byte>(random());
  const std::size_t scales = type == BlockType::nvfp4 ? 4 : 1;
  unsigned next = 0;
  for (std::size_t b = 0; b < 64 * per_row; ++b) {
    for (std::size_t s = 0; s < scales; ++s) blocks[b * bytes + s] = static_cast<std::byte>(next++ % (last + 1U));
  }
  Tensor tensor;
  tensor.name = "model.t.weight";
  tensor.shape = {rows, 512};
  tensor.encoding = Blocked{type};
  tensor.parts.push_back({PartId::blocks,
                          DType::u8,
                          {rows, static_cast<std::int64_t>(per_row * bytes)},
                          std::make_shared<MemoryRows>(std::move(blocks), rows, per_row * bytes)});
  return tensor;
}

TEST(Repack, SmallFloatsKeepCodesAndScalesBetweenGgmlAndMlx) {
  expect_same_values(float_blocks(BlockType::mxfp4, 254), kMlx, "mxfp4 g32");
  expect_same_values(float_blocks(BlockType::nvfp4, 0x7E), kMlx, "nvfp4 g16");
}

TEST(Repack, ScaleBytesThatMeanDifferentNumbersAreRefused) {
  EXPECT_NE(objection(linear(float_blocks(BlockType::mxfp4, 255)), kMlx).find("0xFF"), std::string::npos);
  EXPECT_NE(objection(linear(float_blocks(BlockType::nvfp4, 0x7F)), kMlx).find("0x7F"), std::string::npos);
}

}  // namespace
}  // namespace regauge
