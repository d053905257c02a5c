// Bytes of f32 made per second by the dequant reference and by llama.cpp's own (dequantize_row_*) from the same blocks,
// beside what copying the same output costs on this machine. Rows of the library are left out where it is not installed.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/bytes.h"
#include "ir/decode/blocks.h"
#include "ir/ggml_type.h"
#include "tests/support/oracle.h"

namespace {

using regauge::BlockType;

constexpr std::int64_t kElements = std::int64_t{1}
                                   << 18;  // 1 MiB of f32: in the cache, so that it is not memory that is measured

std::vector<std::byte> random_blocks(BlockType type) {
  const auto blocks = static_cast<std::size_t>(kElements / regauge::block_elements(type));
  std::vector<std::byte> in(blocks * static_cast<std::size_t>(regauge::block_bytes(type)));
  std::uint32_t random = 1;
  for (auto& byte : in) {
    random = random * 1664525U + 1013904223U;  // Numerical Recipes' generator; the codes only have to differ
    byte = static_cast<std::byte>(random >> 24U);
  }
  return in;
}

void count_bytes(benchmark::State& state) {
  state.SetBytesProcessed(state.iterations() * kElements * static_cast<std::int64_t>(sizeof(float)));
}

void decode(benchmark::State& state, BlockType type) {
  const auto in = random_blocks(type);
  std::vector<float> out(static_cast<std::size_t>(kElements));
  for (auto _ : state) {
    regauge::decode_blocks(type, in, out);
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  count_bytes(state);
}

void decode_by_ggml(benchmark::State& state, BlockType type) {
  const auto in = random_blocks(type);
  std::vector<float> out(static_cast<std::size_t>(kElements));
  const auto& oracle = *regauge::testing::Oracle::instance();
  for (auto _ : state) {
    oracle.dequantize(type, in, out);
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  count_bytes(state);
}

void copy_same_bytes(benchmark::State& state) {
  const std::vector<float> in(static_cast<std::size_t>(kElements), 1.0F);
  std::vector<float> out(in.size());
  for (auto _ : state) {
    std::memcpy(out.data(), in.data(), in.size() * sizeof(float));
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  count_bytes(state);
}

const bool kRegistered = [] {
  benchmark::RegisterBenchmark("decode/copy_same_bytes", copy_same_bytes);
  const bool have_oracle = regauge::testing::Oracle::instance() != nullptr;
  for (const regauge::GgmlType& row : regauge::ggml_types()) {
    if (!row.block || !regauge::can_decode(*row.block)) continue;
    const auto name = "decode/" + std::string(regauge::name(*row.block));
    benchmark::RegisterBenchmark((name + "/ours").c_str(), decode, *row.block);
    if (have_oracle) benchmark::RegisterBenchmark((name + "/ggml").c_str(), decode_by_ggml, *row.block);
  }
  return true;
}();

}  // namespace
