// Bytes of f32 made per second by the dequant reference, beside what copying the same output costs on this machine.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/bytes.h"
#include "ir/decode/blocks.h"
#include "ir/ggml_type.h"

namespace {

using regauge::BlockType;

constexpr std::int64_t kElements = std::int64_t{1} << 20;  // 4 MiB of f32: one band

void decode(benchmark::State& state, BlockType type) {
  const auto blocks = static_cast<std::size_t>(kElements / regauge::block_elements(type));
  std::vector<std::byte> in(blocks * static_cast<std::size_t>(regauge::block_bytes(type)));
  std::uint32_t random = 1;
  for (auto& byte : in) {
    random = random * 1664525U + 1013904223U;  // Numerical Recipes' generator; the codes only have to differ
    byte = static_cast<std::byte>(random >> 24U);
  }
  std::vector<float> out(static_cast<std::size_t>(kElements));
  for (auto _ : state) {
    regauge::decode_blocks(type, in, out);
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * kElements * static_cast<std::int64_t>(sizeof(float)));
}

void copy_same_bytes(benchmark::State& state) {
  const std::vector<float> in(static_cast<std::size_t>(kElements), 1.0F);
  std::vector<float> out(in.size());
  for (auto _ : state) {
    std::memcpy(out.data(), in.data(), in.size() * sizeof(float));
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * kElements * static_cast<std::int64_t>(sizeof(float)));
}

BENCHMARK(copy_same_bytes);
BENCHMARK_CAPTURE(decode, q4_0, BlockType::q4_0);
BENCHMARK_CAPTURE(decode, q8_0, BlockType::q8_0);
BENCHMARK_CAPTURE(decode, q4_K, BlockType::q4_K);
BENCHMARK_CAPTURE(decode, q6_K, BlockType::q6_K);

}  // namespace
