// Values encoded per second, as bytes of f32 read, by our quantizers and by llama.cpp's own (ggml_quantize_chunk) on the
// same buffers and one thread, beside what copying the same input costs. Rows of the library are left out where it is not
// installed (./dev oracle).

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "convert/encode/ggml.h"
#include "ir/ggml_type.h"
#include "tests/support/oracle.h"

namespace {

using regauge::BlockType;

constexpr std::int64_t kColumns = 4096;
constexpr std::int64_t kElements = std::int64_t{1} << 18;  // 1 MiB of f32

/// Like weights: the sum of twelve uniform numbers is as good as normal, here with bf16's precision.
std::vector<float> like_weights() {
  std::uint32_t random = 1;
  const auto next = [&random] {
    random = random * 1664525U + 1013904223U;  // Numerical Recipes' generator
    return static_cast<float>(random >> 8U) * 0x1p-24F;
  };
  std::vector<float> values(static_cast<std::size_t>(kElements));
  for (float& value : values) {
    float sum = -6;
    for (int i = 0; i < 12; ++i) sum += next();
    value = 0.02F * sum;
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    bits &= 0xFFFF0000U;
    std::memcpy(&value, &bits, sizeof bits);
  }
  return values;
}

const std::vector<float>& input() {
  static const std::vector<float> values = like_weights();
  return values;
}

std::vector<float> importance(bool wanted) {
  std::vector<float> weights;
  for (std::int64_t i = 0; wanted && i < kColumns; ++i) weights.push_back(0.5F + static_cast<float>(i % 7));
  return weights;
}

std::vector<std::byte> room_for(BlockType type) {
  return std::vector<std::byte>(
      static_cast<std::size_t>(kElements / regauge::block_elements(type) * regauge::block_bytes(type)));
}

void count_bytes(benchmark::State& state) {
  state.SetBytesProcessed(state.iterations() * kElements * static_cast<std::int64_t>(sizeof(float)));
}

void copy_input(benchmark::State& state) {
  std::vector<float> out(input().size());
  for (auto _ : state) {
    std::memcpy(out.data(), input().data(), out.size() * sizeof(float));
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  count_bytes(state);
}

void encode(benchmark::State& state, BlockType type, bool weighted) {
  const auto weights = importance(weighted);
  auto blocks = room_for(type);
  for (auto _ : state) {
    regauge::encode_ggml(type, kColumns, input(), weights, blocks);
    benchmark::DoNotOptimize(blocks.data());
    benchmark::ClobberMemory();
  }
  count_bytes(state);
}

void encode_by_ggml(benchmark::State& state, BlockType type, bool weighted) {
  const auto weights = importance(weighted);
  auto blocks = room_for(type);
  const auto& oracle = *regauge::testing::Oracle::instance();
  for (auto _ : state) {
    oracle.quantize_chunk(type, input(), blocks, kColumns, weights);
    benchmark::DoNotOptimize(blocks.data());
    benchmark::ClobberMemory();
  }
  count_bytes(state);
}

const bool kRegistered = [] {
  benchmark::RegisterBenchmark("encode/copy_same_bytes", copy_input);
  const bool have_oracle = regauge::testing::Oracle::instance() != nullptr;
  for (const regauge::GgmlType& row : regauge::ggml_types()) {
    if (!row.block || !regauge::can_encode(*row.block)) continue;
    const BlockType type = *row.block;
    for (const bool weighted : {false, true}) {
      if (weighted && !regauge::uses_importance(type)) continue;
      const auto name = std::string(regauge::name(type)) + (weighted ? "/importance" : "");
      benchmark::RegisterBenchmark(("encode/" + name + "/ours").c_str(), encode, type, weighted);
      if (have_oracle)
        benchmark::RegisterBenchmark(("encode/" + name + "/ggml").c_str(), encode_by_ggml, type, weighted);
    }
  }
  return true;
}();

}  // namespace
