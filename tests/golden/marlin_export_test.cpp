#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "formats/layouts/gptq_words.h"
#include "tests/support/golden.h"
#include "tests/support/tensors.h"
#include "tests/unit/convert/repacked.h"
#include "tests/unit/convert/targets.h"

// GPTQ modules repacked by the planner's own route into Marlin, against the arrays that vLLM's, GPTQModel's and IST-DASLab's
// code made of the same modules (golden/gptq/marlin, see its README).

namespace regauge {
namespace {

using testing::GoldenFile;
using testing::memory_part;

/// [G, N] to [N, G].
std::vector<std::uint16_t> by_rows(const std::vector<std::uint16_t>& stored, std::int64_t groups, std::int64_t rows) {
  std::vector<std::uint16_t> out(stored.size());
  for (std::int64_t g = 0; g < groups; ++g) {
    for (std::int64_t n = 0; n < rows; ++n)
      out[static_cast<std::size_t>(n * groups + g)] = stored[static_cast<std::size_t>(g * rows + n)];
  }
  return out;
}

struct MarlinCase {
  std::string file;
  int bits;
  bool serialised;
};

class MarlinExport : public ::testing::TestWithParam<MarlinCase> {};

TEST_P(MarlinExport, EqualsTheArraysThatKernelsWereGiven) {
  const auto& [file, bits, serialised] = GetParam();
  REGAUGE_GOLDEN_OR_SKIP(path, "gptq/marlin/" + file + ".safetensors");
  const GoldenFile golden(path);
  const auto words = golden[serialised ? "gptq_qweight" : "qweight"];
  const auto scales = golden[serialised ? "gptq_scales" : "scales"];
  const std::int64_t k = words.shape[0] * 32 / bits;
  const std::int64_t n = words.shape[1];
  const std::int64_t groups = scales.shape[0];
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(n * k));
  layouts::unpack_gptq_columns({bits, layouts::GptqPacking::continuous}, n, k, words.bytes, codes);
  Tensor tensor;
  tensor.name = "model.t.weight";
  tensor.shape = {n, k};
  tensor.encoding = Grouped{
      .bits = bits, .group = {1, groups == 1 ? 0 : k / groups}, .scale = DType::f16, .offset = Offset::midpoint};
  tensor.parts.push_back(memory_part<std::uint8_t>(PartId::codes, DType::u8, n, k, codes));
  tensor.parts.push_back(memory_part<std::uint16_t>(PartId::scales, DType::f16, n, groups,
                                                    by_rows(scales.as<std::uint16_t>(), groups, n)));
  if (golden.contains("g_idx"))
    tensor.parts.push_back(
        memory_part<std::int32_t>(PartId::group_index, DType::i32, 1, k, golden["g_idx"].as<std::int32_t>()));
  Target target = testing::whole(tensor);
  target.is_linear = true;
  ConvertOptions options;
  options.layout = serialised ? GptqLayout::marlin : GptqLayout::marlin_runtime;
  const auto made = testing::repack(target, testing::packing_format(Packing::gptq), 64, options);
  ASSERT_EQ(made.arrays.size(), made.step.arrays.size());
  const bool act_order = golden.contains("marlin_sort_indices");
  EXPECT_EQ(made.arrays.size(), act_order ? 4U : 2U);
  for (std::size_t a = 0; a < made.arrays.size(); ++a) {
    const std::string name = made.step.arrays[a].plan.name.substr(std::string("model.t.").size());
    ASSERT_TRUE(golden.contains(name)) << name;
    EXPECT_EQ(made.step.arrays[a].plan.shape.dims, golden[name].shape) << name;
    EXPECT_TRUE(std::ranges::equal(made.arrays[a], golden[name].bytes)) << name;
  }
}

std::vector<MarlinCase> all_cases() {
  std::vector<MarlinCase> cases{{"ist_marlin_b4_g128_256x256", 4, true}, {"ist_marlin_b4_gall_128x256", 4, true}};
  for (const int bits : {4, 8}) {
    for (const char* kind : {"g128_act_256x128", "g128_noact_256x128", "g32_act_128x64", "g32_noact_128x64",
                             "g64_act_256x64", "g64_noact_256x64", "gall_noact_256x64"})
      cases.push_back({"gptq_marlin_b" + std::to_string(bits) + "_" + kind, bits, false});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Golden, MarlinExport, ::testing::ValuesIn(all_cases()),
                         [](const auto& test) { return test.param.file; });

}  // namespace
}  // namespace regauge
