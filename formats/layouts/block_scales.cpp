#include "formats/layouts/block_scales.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/half.h"

namespace regauge::layouts {
namespace {

int byte_at(const std::byte* bytes, std::size_t i) noexcept { return std::to_integer<int>(bytes[i]); }
float half_at(const std::byte* bytes) noexcept { return f16_to_f32(load_le<std::uint16_t>(bytes)); }

void q2_k(const std::byte* block, float* scales) noexcept {
  const float d = half_at(block + 80);
  for (std::size_t j = 0; j < 16; ++j) scales[j] = d * static_cast<float>(byte_at(block, j) & 15);
}

/// Low nibbles of 16 scales in 8 bytes, then their upper two bits, four scales a byte; 32 is zero.
void q3_k(const std::byte* block, float* scales) noexcept {
  const std::byte* packed = block + 96;
  const float d = half_at(block + 108);
  for (std::size_t j = 0; j < 16; ++j) {
    const int low = j < 8 ? byte_at(packed, j) & 15 : byte_at(packed, j - 8) >> 4;
    const int high = (byte_at(packed, 8 + j % 4) >> (2 * (j / 4))) & 3;
    scales[j] = d * static_cast<float>((low | high << 4) - 32);
  }
}

/// Six-bit scales and minima, four whole ones of each and then the rest in nibbles and spare bits.
void q4_k(const std::byte* block, float* scales) noexcept {
  const std::byte* packed = block + 4;
  const float d = half_at(block);
  for (std::size_t j = 0; j < 8; ++j) {
    const int scale =
        j < 4 ? byte_at(packed, j) & 63 : (byte_at(packed, j + 4) & 15) | (byte_at(packed, j - 4) >> 6) << 4;
    scales[j] = d * static_cast<float>(scale);
  }
}

void q6_k(const std::byte* block, float* scales) noexcept {
  const float d = half_at(block + 208);
  for (std::size_t j = 0; j < 16; ++j)
    scales[j] = d * static_cast<float>(static_cast<std::int8_t>(byte_at(block, 192 + j)));
}

}  // namespace

std::int64_t scale_width(BlockType type) noexcept {
  switch (type) {
    case BlockType::q4_0:
    case BlockType::q4_1:
    case BlockType::q5_0:
    case BlockType::q5_1:
    case BlockType::q8_0:
    case BlockType::q4_K:
    case BlockType::q5_K: return 32;
    case BlockType::q2_K:
    case BlockType::q3_K:
    case BlockType::q6_K: return 16;
    default: return 0;
  }
}

void read_block_scales(BlockType type, std::span<const std::byte> blocks, std::span<float> scales) {
  const std::int64_t width = scale_width(type);
  if (width == 0) throw Error(ErrorCode::invalid, "values of {} blocks are not evenly spaced", name(type));
  const auto bytes = static_cast<std::size_t>(block_bytes(type));
  const auto each = static_cast<std::size_t>(block_elements(type) / width);
  if (blocks.size() % bytes != 0 || scales.size() != blocks.size() / bytes * each)
    throw Error(ErrorCode::internal, "{} scales for {} bytes of {}", scales.size(), blocks.size(), name(type));
  float* out = scales.data();
  for (const std::byte* block = blocks.data(); block != blocks.data() + blocks.size(); block += bytes, out += each) {
    switch (type) {
      case BlockType::q2_K: q2_k(block, out); break;
      case BlockType::q3_K: q3_k(block, out); break;
      case BlockType::q4_K:
      case BlockType::q5_K: q4_k(block, out); break;
      case BlockType::q6_K: q6_k(block, out); break;
      default: *out = half_at(block); break;
    }
  }
}

}  // namespace regauge::layouts
