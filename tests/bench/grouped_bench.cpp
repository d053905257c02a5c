// The packed modules of GPTQ and MLX: f32 made per second from their words, and taken in per second by their quantizers. For
// comparison llama.cpp's decoder of the block type that says the same, and its portable quantizer of the nearest one.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "base/buffer.h"
#include "base/bytes.h"
#include "convert/encode/gptq.h"
#include "convert/encode/mlx.h"
#include "formats/layouts/gptq_words.h"
#include "formats/layouts/mlx_stream.h"
#include "ir/decode/grouped.h"
#include "tests/support/oracle.h"

namespace {

using regauge::BlockType;
using regauge::DType;

constexpr std::int64_t kColumns = 4096;
constexpr std::int64_t kRows = 64;
constexpr auto kCodes = static_cast<std::size_t>(kRows * kColumns);  // 1 MiB of f32, as in decode_bench.cpp

struct Random {
  std::uint32_t state = 1;
  std::uint32_t next() { return state = state * 1664525U + 1013904223U; }  // Numerical Recipes' generator
};

std::vector<std::byte> random_bytes(std::size_t count) {
  Random random;
  std::vector<std::byte> bytes(count);
  for (auto& byte : bytes) byte = static_cast<std::byte>(random.next() >> 24U);
  return bytes;
}

std::vector<float> random_weights() {
  Random random;
  std::vector<float> weights(kCodes);
  for (float& weight : weights) weight = static_cast<float>(random.next() >> 8U) / 16777216.0F - 0.5F;
  return weights;
}

/// Parameters of groups: ordinary numbers of 16 bits, of either type.
std::vector<std::byte> parameters(std::size_t groups) {
  Random random;
  std::vector<std::byte> bytes(2 * groups);
  for (std::size_t i = 0; i < groups; ++i) {
    regauge::store_le(bytes.data() + 2 * i, static_cast<std::uint16_t>(0x2800U + (random.next() >> 22U)));
  }
  return bytes;
}

std::vector<std::int32_t> groups_of(std::int64_t width) {
  std::vector<std::int32_t> groups;
  for (std::int64_t c = 0; c < kColumns; ++c) groups.push_back(static_cast<std::int32_t>(c / width));
  return groups;
}

void count_bytes(benchmark::State& state) {
  benchmark::ClobberMemory();
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(kCodes * sizeof(float)));
}

/// `unpack` gives the codes of a band of packed words, as the buffer filled with them or as the words that they are.
template <typename Unpack>
void decode(benchmark::State& state, const regauge::Grouped& encoding, Unpack unpack) {
  const auto groups = static_cast<std::size_t>(kRows * (kColumns / encoding.group.cols));
  const auto words = random_bytes(kCodes * static_cast<std::size_t>(encoding.bits) / 8);
  const auto scales = parameters(groups);
  const auto zeros = std::vector<std::byte>(groups, std::byte{8});
  const auto group_of_column = groups_of(encoding.group.cols);
  std::vector<std::uint8_t> codes(kCodes);
  regauge::Buffer<float> out(kCodes);
  for (auto _ : state) {
    regauge::decode_grouped(encoding, kRows, kColumns,
                            {.codes = unpack(words, codes),
                             .scales = scales,
                             .offsets = encoding.offset == regauge::Offset::bias ? scales : zeros,
                             .group_of_column = group_of_column,
                             .global_scale = {}},
                            out);
    benchmark::DoNotOptimize(out.data());
  }
  count_bytes(state);
}

void decode_gptq(benchmark::State& state) {
  const regauge::Grouped encoding{.bits = 4, .group = {1, 128}, .offset = regauge::Offset::zero_point};
  decode(state, encoding, [](const auto& words, auto& codes) {
    regauge::layouts::unpack_gptq_columns({.bits = 4}, kRows, kColumns, words, codes);
    return std::span<const std::uint8_t>(codes);
  });
}

void decode_mlx(benchmark::State& state, int bits) {
  const regauge::Grouped encoding{.bits = bits,
                                  .group = {1, 64},
                                  .scale = DType::bf16,
                                  .offset = regauge::Offset::bias,
                                  .offset_dtype = DType::bf16};
  decode(state, encoding, [bits](const auto& words, auto& codes) {
    if (bits == 8) return std::span(reinterpret_cast<const std::uint8_t*>(words.data()), words.size());
    regauge::layouts::unpack_mlx_rows(bits, kRows, kColumns, words, codes);
    return std::span<const std::uint8_t>(codes);
  });
}

void decode_by_ggml(benchmark::State& state, BlockType type) {
  const auto blocks = random_bytes(kCodes / static_cast<std::size_t>(regauge::block_elements(type)) *
                                   static_cast<std::size_t>(regauge::block_bytes(type)));
  regauge::Buffer<float> out(kCodes);
  const auto& oracle = *regauge::testing::Oracle::instance();
  for (auto _ : state) {
    oracle.dequantize(type, blocks, out);
    benchmark::DoNotOptimize(out.data());
  }
  count_bytes(state);
}

void encode_gptq(benchmark::State& state) {
  const auto weights = random_weights();
  const regauge::GptqEncoding encoding{};
  const auto groups = static_cast<std::size_t>(kRows * regauge::gptq_groups(encoding, kColumns));
  std::vector<std::uint8_t> codes(kCodes);
  std::vector<std::uint8_t> zeros(groups);
  std::vector<float> scales(groups);
  for (auto _ : state) {
    regauge::encode_gptq(encoding, kColumns, weights, codes, scales, zeros);
    benchmark::DoNotOptimize(codes.data());
  }
  count_bytes(state);
}

void encode_mlx(benchmark::State& state, int bits) {
  const auto weights = random_weights();
  std::vector<std::uint8_t> codes(kCodes);
  std::vector<float> scales(kCodes / 64);
  std::vector<float> biases(kCodes / 64);
  for (auto _ : state) {
    regauge::encode_mlx_affine(bits, 64, DType::bf16, weights, codes, scales, biases);
    benchmark::DoNotOptimize(codes.data());
  }
  count_bytes(state);
}

void encode_mlx_float(benchmark::State& state, regauge::MlxFloatMode mode) {
  const auto weights = random_weights();
  std::vector<std::uint8_t> codes(kCodes);
  std::vector<std::uint8_t> scales(kCodes / static_cast<std::size_t>(regauge::mlx_float_group(mode)));
  for (auto _ : state) {
    regauge::encode_mlx_float(mode, DType::f32, weights, codes, scales);
    benchmark::DoNotOptimize(codes.data());
  }
  count_bytes(state);
}

void encode_by_ggml(benchmark::State& state, BlockType type) {
  const auto weights = random_weights();
  std::vector<std::byte> blocks(kCodes / static_cast<std::size_t>(regauge::block_elements(type)) *
                                static_cast<std::size_t>(regauge::block_bytes(type)));
  const auto& oracle = *regauge::testing::Oracle::instance();
  for (auto _ : state) {
    oracle.quantize_reference(type, weights, blocks);
    benchmark::DoNotOptimize(blocks.data());
  }
  count_bytes(state);
}

const bool kRegistered = [] {
  struct Decoder {
    const char* name;
    void (*run)(benchmark::State&);
    BlockType beside;
  };
  const Decoder decoders[] = {
      {"gptq-4 g128", decode_gptq, BlockType::q4_0},
      {"mlx-4 g64", [](benchmark::State& state) { decode_mlx(state, 4); }, BlockType::q4_1},
      {"mlx-5 g64", [](benchmark::State& state) { decode_mlx(state, 5); }, BlockType::q5_1},
      {"mlx-6 g64", [](benchmark::State& state) { decode_mlx(state, 6); }, BlockType::q6_K},
      {"mlx-8 g64", [](benchmark::State& state) { decode_mlx(state, 8); }, BlockType::q8_0},
  };
  const bool have_oracle = regauge::testing::Oracle::instance() != nullptr;
  const auto named = [](const std::string& kind, const std::string& name, BlockType type) {
    return kind + "/" + name + "/ggml " + std::string(regauge::name(type));
  };
  for (const Decoder& decoder : decoders) {
    benchmark::RegisterBenchmark((std::string("decode/") + decoder.name + "/ours").c_str(), decoder.run);
    if (!have_oracle) continue;
    benchmark::RegisterBenchmark(named("decode", decoder.name, decoder.beside).c_str(), decode_by_ggml, decoder.beside);
  }
  benchmark::RegisterBenchmark("encode/gptq-4 g128/ours", encode_gptq);
  if (have_oracle) {
    benchmark::RegisterBenchmark(named("encode", "gptq-4 g128", BlockType::q4_0).c_str(), encode_by_ggml,
                                 BlockType::q4_0);
  }
  for (const int bits : {4, 8}) {
    const std::string name = "mlx-" + std::to_string(bits) + " g64";
    const BlockType beside = bits == 4 ? BlockType::q4_1 : BlockType::q8_0;
    benchmark::RegisterBenchmark(("encode/" + name + "/ours").c_str(), encode_mlx, bits);
    if (have_oracle) benchmark::RegisterBenchmark(named("encode", name, beside).c_str(), encode_by_ggml, beside);
  }
  benchmark::RegisterBenchmark("encode/mxfp4/ours", encode_mlx_float, regauge::MlxFloatMode::mxfp4);
  benchmark::RegisterBenchmark("encode/mxfp8/ours", encode_mlx_float, regauge::MlxFloatMode::mxfp8);
  return true;
}();

}  // namespace
