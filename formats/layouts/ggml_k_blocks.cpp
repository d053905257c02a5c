#include "formats/layouts/ggml_k_blocks.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/half.h"

namespace regauge::layouts {
namespace {

constexpr std::size_t kElements = 256;
constexpr std::size_t kSubBlocks = 8;
constexpr std::size_t kSub = 32;

std::uint8_t byte_at(const std::byte* bytes, std::size_t i) noexcept { return std::to_integer<std::uint8_t>(bytes[i]); }

/// Six-bit scale and minimum of sub-block `j` out of the 12 bytes they share.
/// Source: ggml-org/ggml src/ggml-quants.c, get_scale_min_k4.
void scale_and_min(const std::byte* packed, std::size_t j, int& scale, int& minimum) noexcept {
  if (j < 4) {
    scale = byte_at(packed, j) & 63;
    minimum = byte_at(packed, j + 4) & 63;
    return;
  }
  scale = (byte_at(packed, j + 4) & 15) | (byte_at(packed, j - 4) >> 6) << 4;
  minimum = (byte_at(packed, j + 4) >> 4) | (byte_at(packed, j) >> 6) << 4;
}

void unpack_block(const std::byte* block, bool fifth_bit, std::uint8_t* codes, float* scales, float* biases) noexcept {
  const float d = f16_to_f32(load_le<std::uint16_t>(block));
  const float dmin = f16_to_f32(load_le<std::uint16_t>(block + 2));
  const std::byte* high = block + 16;
  const std::byte* low = fifth_bit ? high + kSub : high;
  for (std::size_t sub = 0; sub < kSubBlocks; ++sub) {
    int scale = 0;
    int minimum = 0;
    scale_and_min(block + 4, sub, scale, minimum);
    scales[sub] = d * static_cast<float>(scale);
    biases[sub] = -(dmin * static_cast<float>(minimum));
    const std::byte* nibbles = low + sub / 2 * kSub;
    const auto shift = static_cast<int>(sub % 2 * 4);
    for (std::size_t i = 0; i < kSub; ++i) {
      const int top = fifth_bit ? ((byte_at(high, i) >> sub) & 1) << 4 : 0;
      codes[sub * kSub + i] = static_cast<std::uint8_t>(((byte_at(nibbles, i) >> shift) & 15) | top);
    }
  }
}

}  // namespace

void unpack_k_blocks_row(BlockType type, std::span<const std::byte> blocks, std::span<std::uint8_t> codes,
                         std::span<float> scales, std::span<float> biases) {
  if (type != BlockType::q4_K && type != BlockType::q5_K) {
    throw Error(ErrorCode::invalid, "{} blocks have no scale and bias for each run of 32", name(type));
  }
  const auto bytes = static_cast<std::size_t>(block_bytes(type));
  const std::size_t count = codes.size() / kElements;
  if (codes.size() % kElements != 0 || blocks.size() != count * bytes || scales.size() != count * kSubBlocks ||
      biases.size() != scales.size()) {
    throw Error(ErrorCode::internal, "{} bytes of {} blocks for {} codes", blocks.size(), name(type), codes.size());
  }
  for (std::size_t b = 0; b < count; ++b) {
    unpack_block(blocks.data() + b * bytes, type == BlockType::q5_K, codes.data() + b * kElements,
                 scales.data() + b * kSubBlocks, biases.data() + b * kSubBlocks);
  }
}

}  // namespace regauge::layouts
