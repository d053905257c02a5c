#pragma once

#include <bit>
#include <cfloat>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/bytes.h"
#include "base/half.h"
#include "ir/ggml_type.h"

// One decoder per block type, for one block or, where it pays to compile it for better CPUs as well, for a run of them;
// decode_blocks (ir/decode/blocks.h) checks sizes and runs them. The comment at each definition gives the block's fields in
// order with their sizes in bytes (or their type) and the function of ggml that is the owner. Products and sums are written
// in the owner's order, because each of them rounds.

namespace regauge::ggml_blocks {

static_assert(FLT_EVAL_METHOD == 0, "wider intermediate results would change the bits of decoded values");

template <std::size_t Bytes>
using Block = std::span<const std::uint8_t, Bytes>;
template <std::size_t Elements>
using Values = std::span<float, Elements>;

/// A little-endian field at byte `offset` of a block.
template <typename T>
T field(std::span<const std::uint8_t> block, std::size_t offset) noexcept {
  return load_le<T>(std::as_bytes(block).data() + offset);
}

inline float f16_field(std::span<const std::uint8_t> block, std::size_t offset) noexcept {
  return f16_to_f32(field<std::uint16_t>(block, offset));
}

/// Decodes `count` blocks that follow one another.
using Run = void (*)(const std::uint8_t* blocks, float* out, std::size_t count) noexcept;

/// The same decoder for every CPU and for this one. They give the same bits, NaN payloads apart: there are no sums whose
/// order could change, and without contraction products and differences round alike in vectors of any width.
struct Runs {
  Run portable;
  Run here;
};

namespace run_detail {

template <std::size_t Bytes, std::size_t Elements, void (*Decode)(Block<Bytes>, Values<Elements>) noexcept>
struct BlockRun {
  // NOLINTBEGIN(readability-non-const-parameter): written through the span
  static void portable(const std::uint8_t* __restrict blocks, float* __restrict out, std::size_t count) noexcept {
    for (std::size_t i = 0; i < count; ++i, blocks += Bytes, out += Elements) {
      Decode(Block<Bytes>(blocks, Bytes), Values<Elements>(out, Elements));
    }
  }

#if defined(__x86_64__)
  /// Decode is inlined by force and so compiled for these vectors, too.
  __attribute__((target("avx2"))) static void avx2(const std::uint8_t* __restrict blocks, float* __restrict out,
                                                   std::size_t count) noexcept {
    for (std::size_t i = 0; i < count; ++i, blocks += Bytes, out += Elements) {
      Decode(Block<Bytes>(blocks, Bytes), Values<Elements>(out, Elements));
    }
  }
#endif
  // NOLINTEND(readability-non-const-parameter)
};

}  // namespace run_detail

/// Runs of a decoder that is declared REGAUGE_BLOCK_DECODER in the same file.
template <std::size_t Bytes, std::size_t Elements, void (*Decode)(Block<Bytes>, Values<Elements>) noexcept>
Runs runs_of() noexcept {
  using Both = run_detail::BlockRun<Bytes, Elements, Decode>;
#if defined(__x86_64__)
  static const bool has_avx2 = __builtin_cpu_supports("avx2") != 0;
  if (has_avx2) return {Both::portable, Both::avx2};
#endif
  return {Both::portable, Both::portable};
}

#define REGAUGE_BLOCK_DECODER __attribute__((always_inline)) inline void

// Before a loop of 16 steps: g++ would write it out step by step, being inside another one, and then not see that it can be
// done in vectors.
#if defined(__clang__)
#define REGAUGE_KEEP_LOOP
#else
#define REGAUGE_KEEP_LOOP _Pragma("GCC unroll 1")
#endif

// blocks_legacy.cpp: one scale per block of equal codes.
Runs q1_0_runs() noexcept;
Runs q2_0_runs() noexcept;
Runs q4_0_runs() noexcept;
Runs q4_1_runs() noexcept;
Runs q5_0_runs() noexcept;
Runs q5_1_runs() noexcept;
Runs q8_0_runs() noexcept;

// blocks_k.cpp: super-blocks of 256 whose sub-blocks have small scales of their own.
Runs q2_k_runs() noexcept;
Runs q3_k_runs() noexcept;
Runs q4_k_runs() noexcept;
Runs q5_k_runs() noexcept;
Runs q6_k_runs() noexcept;
Runs q8_k_runs() noexcept;

// blocks_iq1.cpp, blocks_iq2.cpp, blocks_iq3.cpp: entries of a codebook. blocks_iq4.cpp: codes of an uneven scale.
void decode_iq1_s(Block<50> block, Values<256> out) noexcept;
void decode_iq1_m(Block<56> block, Values<256> out) noexcept;
void decode_iq2_xxs(Block<66> block, Values<256> out) noexcept;
void decode_iq2_xs(Block<74> block, Values<256> out) noexcept;
void decode_iq2_s(Block<82> block, Values<256> out) noexcept;
void decode_iq3_xxs(Block<98> block, Values<256> out) noexcept;
void decode_iq3_s(Block<110> block, Values<256> out) noexcept;
void decode_iq4_nl(Block<18> block, Values<32> out) noexcept;
void decode_iq4_xs(Block<136> block, Values<256> out) noexcept;

// blocks_ternary.cpp: -1, 0, 1.
Runs tq1_0_runs() noexcept;
Runs tq2_0_runs() noexcept;

// blocks_fp4.cpp: e2m1 codes.
void decode_mxfp4(Block<17> block, Values<32> out) noexcept;
void decode_nvfp4(Block<36> block, Values<64> out) noexcept;

}  // namespace regauge::ggml_blocks

namespace regauge {

/// decode_blocks() without what only this CPU can do: how tests reach it.
void decode_blocks_portably(BlockType type, std::span<const std::byte> blocks, std::span<float> out);

}  // namespace regauge
