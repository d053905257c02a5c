#include <algorithm>
#include <array>
#include <cmath>

#include "convert/encode/block_encoders.h"
#include "convert/encode/ggml_arithmetic.h"

namespace regauge::ggml_encode {
namespace {

// Blocks are coded some at a time, so that searches have groups enough to fill their lanes.
constexpr std::size_t kBlock = 32;
constexpr std::size_t kBatch = 8;

/// The fifth bits of 32 codes: that of code i is bit i. The product carries bit 8 * j of eight bytes to bit 56 + j.
void put_fifth_bits(const std::uint8_t* codes, std::uint8_t* out) noexcept {
  for (std::size_t i = 0; i < kBlock / 8; ++i) {
    std::uint64_t eight = 0;
    std::memcpy(&eight, codes + 8 * i, sizeof eight);
    out[i] = static_cast<std::uint8_t>((eight >> 4U & 0x0101010101010101U) * 0x0102040810204080U >> 56U);
  }
}

/// Batch after batch: make(x, weights of the values, codes, values) codes some blocks, and put(value, codes, block) stores
/// each with the scale or whatever else was made for it.
template <typename Value, std::size_t Bytes, typename Make, typename Put>
void in_batches(Row row, Weights importance, Blocks blocks, Make make, Put put) noexcept {
  const float mean = importance.empty() ? 0 : sum_of_squares(row) / static_cast<float>(row.size());
  std::array<float, kBatch * kBlock> weights{};
  std::array<std::uint8_t, kBatch * kBlock> codes{};
  std::array<Value, kBatch> values{};
  for (std::size_t at = 0; at < row.size(); at += kBatch * kBlock) {
    const Row x = row.subspan(at, std::min(kBatch * kBlock, row.size() - at));
    if (!importance.empty()) {
      for (std::size_t i = 0; i < x.size(); ++i) weights[i] = importance[at + i] * std::sqrt(mean + x[i] * x[i]);
    }
    make(x, Groups{x.data(), weights.data(), kBlock, x.size() / kBlock}, values.data(), codes.data());
    for (std::size_t i = 0; i < x.size() / kBlock; ++i) {
      put(values[i], codes.data() + i * kBlock, blocks.data() + (at / kBlock + i) * Bytes);
    }
  }
}

template <std::size_t Bytes, typename Put>
void encode_symmetric(const Kernels& kernels, Row row, Weights importance, Blocks blocks, int half, Put put) noexcept {
  in_batches<float, Bytes>(
      row, importance, blocks,
      [&](Row x, const Groups& groups, float* scales, std::uint8_t* codes) {
        if (importance.empty()) {
          kernels.code_symmetric(x, half, scales, codes);
        } else {
          kernels.search_scale(groups, half, scales, codes);
        }
      },
      [&](float scale, const std::uint8_t* codes, std::uint8_t* out) {
        put_f16(out, scale);
        put(codes, out + 2);
      });
}

template <std::size_t Bytes, typename Put>
void encode_affine(const Kernels& kernels, Row row, Weights importance, Blocks blocks, int largest, Put put) noexcept {
  constexpr ScaleSteps kSteps{.first = -0.9F, .step = 0.05F, .steps = 36};
  in_batches<ScaleMin, Bytes>(
      row, importance, blocks,
      [&](Row x, const Groups& groups, ScaleMin* found, std::uint8_t* codes) {
        if (importance.empty()) {
          kernels.code_affine(x, largest, found, codes);
          return;
        }
        kernels.search_scale_min(groups, largest, kSteps, ErrorNorm::square, found, codes);
        // These types add their minimum, the search found what is taken off.
        for (std::size_t i = 0; i < groups.count; ++i) found[i].min = -found[i].min;
      },
      [&](const ScaleMin& found, const std::uint8_t* codes, std::uint8_t* out) {
        put_f16(out, found.scale);
        put_f16(out + 2, found.min);
        put(codes, out + 4);
      });
}

void put_five_bits(const std::uint8_t* codes, std::uint8_t* out) noexcept {
  put_fifth_bits(codes, out);
  put_nibbles<16>(codes, out + 4);
}

}  // namespace

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_q4_0_ref and quantize_q4_0.
void encode_q4_0(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept {
  encode_symmetric<18>(kernels, row, weights, blocks, 8, put_nibbles<16>);
}

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_q4_1_ref and quantize_q4_1.
void encode_q4_1(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept {
  encode_affine<20>(kernels, row, weights, blocks, 15, put_nibbles<16>);
}

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_q5_0_ref and quantize_q5_0.
void encode_q5_0(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept {
  encode_symmetric<22>(kernels, row, weights, blocks, 16, put_five_bits);
}

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_q5_1_ref and quantize_q5_1.
void encode_q5_1(const Kernels& kernels, Row row, Weights weights, Blocks blocks) noexcept {
  encode_affine<24>(kernels, row, weights, blocks, 31, put_five_bits);
}

/// Source: ggml-org/ggml src/ggml-quants.c, quantize_row_q8_0_ref.
void encode_q8_0(const Kernels& kernels, Row row, Weights /*ignored*/, Blocks blocks) noexcept {
  in_batches<float, 34>(
      row, {}, blocks,
      [&](Row x, const Groups&, float* scales, std::uint8_t* codes) { kernels.code_signed(x, scales, codes); },
      [](float scale, const std::uint8_t* codes, std::uint8_t* out) {
        put_f16(out, scale);
        std::memcpy(out + 2, codes, kBlock);
      });
}

}  // namespace regauge::ggml_encode
