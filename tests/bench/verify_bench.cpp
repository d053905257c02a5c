// Values digested, measured and looked at per second, beside the decode bench in the same run: a digest hashes the f32 bytes
// that decoding makes, and measuring decodes two sides.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/digest.h"
#include "ir/decode/blocks.h"
#include "ir/ggml_type.h"
#include "verify/measure.h"
#include "verify/sound.h"
#include "verify/value_digest.h"

namespace {

using namespace regauge;

constexpr std::int64_t kColumns = 4096;
constexpr std::int64_t kRows = 1024;  // 16 MiB of f32
constexpr std::int64_t kBytes = kRows * kColumns * static_cast<std::int64_t>(sizeof(float));

/// A tensor of blocks with finite scales in memory.
Tensor blocks_of(BlockType type) {
  const auto block = static_cast<std::size_t>(block_bytes(type));
  const auto row_bytes = static_cast<std::size_t>(kColumns / block_elements(type)) * block;
  std::vector<std::byte> bytes(static_cast<std::size_t>(kRows) * row_bytes);
  std::uint32_t random = 1;
  for (auto& byte : bytes) {
    random = random * 1664525U + 1013904223U;  // Numerical Recipes' generator; the codes only have to differ
    byte = static_cast<std::byte>(random >> 24U);
  }
  // Both types here begin with an f16 scale: 0x2C00 is 1/16.
  for (std::size_t at = 0; at < bytes.size(); at += block) {
    bytes[at] = std::byte{0};
    bytes[at + 1] = std::byte{0x2C};
  }
  Tensor tensor;
  tensor.name = "w";
  tensor.shape = Shape{kRows, kColumns};
  tensor.encoding = Blocked{type};
  tensor.parts.push_back({PartId::blocks, DType::u8, Shape{kRows, static_cast<std::int64_t>(row_bytes)},
                          std::make_shared<MemoryRows>(std::move(bytes), kRows, row_bytes)});
  return tensor;
}

Checkpoint checkpoint_of(BlockType type) {
  Checkpoint checkpoint;
  checkpoint.tensors.push_back(blocks_of(type));
  return checkpoint;
}

void hash_same_bytes(benchmark::State& state) {
  const std::vector<std::byte> bytes(static_cast<std::size_t>(kBytes), std::byte{1});
  for (auto _ : state) benchmark::DoNotOptimize(Xxh3_128::of(bytes));
  state.SetBytesProcessed(state.iterations() * kBytes);
}

void value_digest(benchmark::State& state, BlockType type) {
  const Checkpoint checkpoint = checkpoint_of(type);
  const std::vector<OpenedPath> path{{&checkpoint, nullptr}};
  for (auto _ : state) benchmark::DoNotOptimize(value_digests(path, 1).model);
  state.SetBytesProcessed(state.iterations() * kBytes);
}

void measure_against_itself(benchmark::State& state, BlockType type) {
  const Tensor tensor = blocks_of(type);
  const Target target = as_it_is(tensor);
  const std::vector<TargetPair> pair{{&target, &target}};
  for (auto _ : state) benchmark::DoNotOptimize(measure(pair, 1));
  state.SetBytesProcessed(state.iterations() * kBytes);
}

void soundness(benchmark::State& state, BlockType type) {
  const Checkpoint checkpoint = checkpoint_of(type);
  for (auto _ : state) benchmark::DoNotOptimize(examine_soundness(checkpoint, 1).values);
  state.SetBytesProcessed(state.iterations() * kBytes);
}

BENCHMARK(hash_same_bytes);
BENCHMARK_CAPTURE(value_digest, q4_0, BlockType::q4_0)->UseRealTime();
BENCHMARK_CAPTURE(value_digest, q8_0, BlockType::q8_0)->UseRealTime();
BENCHMARK_CAPTURE(measure_against_itself, q4_0, BlockType::q4_0)->UseRealTime();
BENCHMARK_CAPTURE(soundness, q4_0, BlockType::q4_0)->UseRealTime();

}  // namespace
