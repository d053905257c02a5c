#pragma once

#include <bit>
#include <cfloat>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/half.h"
#include "convert/encode/kernels.h"

// One encoder per block type; encode_ggml (convert/encode/ggml.h) has checked sizes and that all numbers are finite. They
// follow the owner's quantizers operation by operation, because every product and sum rounds and the order of the terms of
// a sum decides its last bit. Block layouts are those of ir/decode/block_decoders.h.

namespace regauge::ggml_encode {

static_assert(FLT_EVAL_METHOD == 0, "wider intermediate results would change the bits of the blocks");

/// One row, or many where no weights are given and the type does not look beyond its block.
using Row = std::span<const float>;
/// Empty, or one weight per value of the row.
using Weights = std::span<const float>;
using Blocks = std::span<std::uint8_t>;

template <std::size_t Elements>
using Values = std::span<const float, Elements>;
template <std::size_t Bytes>
using Block = std::span<std::uint8_t, Bytes>;

inline void put_u16(std::uint8_t* bytes, std::uint16_t value) noexcept { std::memcpy(bytes, &value, sizeof value); }

/// Rounds to a half.
inline void put_f16(std::uint8_t* bytes, float value) noexcept { put_u16(bytes, f32_to_f16(value)); }

/// Codes of two runs to `Bytes` bytes, the first run in the low nibbles; what a code has above four bits is left out.
template <std::size_t Bytes>
void put_nibbles(const std::uint8_t* codes, std::uint8_t* out) noexcept {
  for (std::size_t j = 0; j < Bytes; ++j) {
    out[j] = static_cast<std::uint8_t>((codes[j] & 15U) | static_cast<unsigned>(codes[j + Bytes]) << 4U);
  }
}

/// Calls encode(kernels, values, weights, block) for every block of the row; `weights` is empty or as long as `values`.
template <std::size_t Elements, std::size_t Bytes, typename Encode>
void for_each_block(const Kernels& kernels, Row row, Weights weights, Blocks blocks, Encode encode) {
  for (std::size_t i = 0; i < row.size() / Elements; ++i) {
    encode(kernels, Values<Elements>(row.data() + i * Elements, Elements),
           weights.empty() ? weights : weights.subspan(i * Elements, Elements),
           Block<Bytes>(blocks.data() + i * Bytes, Bytes));
  }
}

// legacy.cpp: one scale, and perhaps a minimum, per block of 32.
void encode_q4_0(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept;
void encode_q4_1(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept;
void encode_q5_0(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept;
void encode_q5_1(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept;
void encode_q8_0(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept;

// k_scale.cpp (a scale per sub-block) and k_scale_min.cpp (a scale and a minimum): super-blocks of 256.
void encode_q2_k(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept;
void encode_q3_k(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept;
void encode_q4_k(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept;
void encode_q5_k(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept;
void encode_q6_k(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept;

// iq4.cpp: codes of an uneven scale.
void encode_iq4_nl(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept;
void encode_iq4_xs(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept;

// fp4.cpp: e2m1 codes.
void encode_mxfp4(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept;
void encode_nvfp4(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept;

// ternary.cpp: one, two and three values.
void encode_tq1_0(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept;
void encode_tq2_0(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept;
void encode_q1_0(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept;
void encode_q2_0(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept;

}  // namespace regauge::ggml_encode
