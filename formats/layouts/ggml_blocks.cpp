#include "formats/layouts/ggml_blocks.h"

#include <cstring>

#include "base/bits.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/vector16.h"
#include "formats/layouts/extent.h"

namespace regauge::layouts {
namespace {

// How the codes of a block lie behind its scale fields.
enum class CodeOrder : std::uint8_t {
  nibbles,     // byte j of a run of 16 (nvfp4: 8): code j low, code j + 16 (8) high
  fifth_bits,  // u32 of the codes' top bits, code i at bit i, then nibbles
  bytes,       // one code per byte
  bit_pairs,   // four codes per byte, LSB first
};

struct BlockShape {
  BlockType type;
  int code_bits;
  bool has_minimum;
  CodeOrder order;
};

constexpr BlockShape kAffineShapes[] = {
    {BlockType::q4_0, 4, false, CodeOrder::nibbles},    {BlockType::q4_1, 4, true, CodeOrder::nibbles},
    {BlockType::q5_0, 5, false, CodeOrder::fifth_bits}, {BlockType::q5_1, 5, true, CodeOrder::fifth_bits},
    {BlockType::q8_0, 8, false, CodeOrder::bytes},      {BlockType::q2_0, 2, false, CodeOrder::bit_pairs},
};

[[noreturn]] void throw_unknown(BlockType type) {
  throw Error(ErrorCode::invalid, "{} blocks are not made of plain codes and scales", name(type));
}

const BlockShape& shape_of(BlockType type) {
  for (const BlockShape& shape : kAffineShapes) {
    if (shape.type == type) return shape;
  }
  throw_unknown(type);
}

const BlockShape& stream_shape_of(BlockType type) {
  if (!block_takes_stream(type)) throw_unknown(type);
  return shape_of(type);
}

// 8 codes at a time, as a u64: first code in the lowest byte.
std::uint64_t load_codes(const std::uint8_t* codes) noexcept {
  std::uint64_t eight = 0;
  std::memcpy(&eight, codes, 8);
  return eight;
}

void store_codes(std::uint8_t* codes, std::uint64_t eight) noexcept { std::memcpy(codes, &eight, 8); }

constexpr std::uint64_t kLowNibbles = 0x0F0F0F0F0F0F0F0F;

// kHalf bytes: the codes of the first half of a run in the low nibbles, of the second half in the high ones.
template <std::size_t kHalf>
void pack_nibbles(const std::uint8_t* codes, std::byte* out) noexcept {
  for (std::size_t j = 0; j < kHalf; j += 8) {
    const std::uint64_t low = load_codes(codes + j) & kLowNibbles;
    const std::uint64_t high = load_codes(codes + kHalf + j) & kLowNibbles;
    store_le(out + j, low | high << 4);
  }
}

template <std::size_t kHalf>
void unpack_nibbles(const std::byte* in, std::uint8_t* codes) noexcept {
  for (std::size_t j = 0; j < kHalf; j += 8) {
    const auto pairs = load_le<std::uint64_t>(in + j);
    store_codes(codes + j, pairs & kLowNibbles);
    store_codes(codes + kHalf + j, (pairs >> 4) & kLowNibbles);
  }
}

/// The 32 codes of a run in 16 bytes of the bit stream, and as above.
void stream_to_nibbles(const std::byte* stream, std::byte* out) noexcept {
  const Nibbles32 codes = spread_nibbles(load16<Bytes16>(stream));
  store16(out, codes.first | codes.second << 4);
}

void nibbles_to_stream(const std::byte* in, std::byte* stream) noexcept {
  const auto halves = load16<Bytes16>(in);
  store16(stream, gather_nibbles({halves & 0x0F, halves >> 4}));
}

void pack_codes(CodeOrder order, const std::uint8_t* codes, std::byte* out) noexcept {
  switch (order) {
    case CodeOrder::nibbles: pack_nibbles<16>(codes, out); return;
    case CodeOrder::fifth_bits:
      for (std::size_t i = 0; i < 4; ++i) store_bytes<1>(out + i, gather_8<1>(load_codes(codes + 8 * i) >> 4));
      pack_nibbles<16>(codes, out + 4);
      return;
    case CodeOrder::bytes: std::memcpy(out, codes, 32); return;
    case CodeOrder::bit_pairs:
      for (std::size_t i = 0; i < 8; ++i) store_bytes<2>(out + 2 * i, gather_8<2>(load_codes(codes + 8 * i)));
      return;
  }
}

void unpack_codes(CodeOrder order, const std::byte* in, std::uint8_t* codes) noexcept {
  switch (order) {
    case CodeOrder::nibbles: unpack_nibbles<16>(in, codes); return;
    case CodeOrder::fifth_bits:
      unpack_nibbles<16>(in + 4, codes);
      for (std::size_t i = 0; i < 4; ++i) {
        store_codes(codes + 8 * i, load_codes(codes + 8 * i) | spread_8<1>(load_bytes<1>(in + i)) << 4);
      }
      return;
    case CodeOrder::bytes: std::memcpy(codes, in, 32); return;
    case CodeOrder::bit_pairs:
      for (std::size_t i = 0; i < 8; ++i) store_codes(codes + 8 * i, spread_8<2>(load_bytes<2>(in + 2 * i)));
      return;
  }
}

void require_codes_fit(int bits, std::span<const std::uint8_t> codes) {
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < codes.size(); i += 8) seen |= load_codes(codes.data() + i);
  if ((seen & excess_bits_of_8(bits)) != 0) throw_code_too_wide(bits);
}

// Number of blocks of a row, once all spans are known to speak of the same ones.
std::size_t require_row(const BlockShape& shape, std::size_t codes, std::size_t d, std::size_t m, std::size_t bytes) {
  const std::int64_t elements = block_elements(shape.type);
  require_multiple("codes of a row of blocks", static_cast<std::int64_t>(codes), elements);
  const std::int64_t blocks = static_cast<std::int64_t>(codes) / elements;
  require_extent("block scales", d, {blocks});
  require_extent("block minima", m, {shape.has_minimum ? blocks : 0});
  require_extent("bytes of blocks", bytes, {blocks, block_bytes(shape.type)});
  return d;
}

std::size_t require_fp4_row(BlockType type, std::size_t codes, std::size_t scales, std::size_t bytes) {
  const std::int64_t run = fp4_scale_run(type);
  require_multiple("codes of a row of blocks", static_cast<std::int64_t>(codes), block_elements(type));
  require_extent("block scales", scales, {static_cast<std::int64_t>(codes) / run});
  const std::int64_t blocks = static_cast<std::int64_t>(codes) / block_elements(type);
  require_extent("bytes of blocks", bytes, {blocks, block_bytes(type)});
  return static_cast<std::size_t>(blocks);
}

}  // namespace

int block_code_bits(BlockType type) {
  if (type == BlockType::mxfp4 || type == BlockType::nvfp4) return 4;
  return shape_of(type).code_bits;
}

bool block_has_minimum(BlockType type) {
  if (type == BlockType::mxfp4 || type == BlockType::nvfp4) return false;
  return shape_of(type).has_minimum;
}

void pack_blocks_row(BlockType type, std::span<const std::uint8_t> codes, std::span<const std::uint16_t> d_bits,
                     std::span<const std::uint16_t> m_bits, std::span<std::byte> out) {
  const BlockShape& shape = shape_of(type);
  const std::size_t blocks = require_row(shape, codes.size(), d_bits.size(), m_bits.size(), out.size());
  require_codes_fit(shape.code_bits, codes);
  const auto elements = static_cast<std::size_t>(block_elements(type));
  const auto bytes = static_cast<std::size_t>(block_bytes(type));
  for (std::size_t i = 0; i < blocks; ++i) {
    std::byte* block = out.data() + i * bytes;
    store_le(block, d_bits[i]);
    block += 2;
    if (shape.has_minimum) {
      store_le(block, m_bits[i]);
      block += 2;
    }
    pack_codes(shape.order, codes.data() + i * elements, block);
  }
}

void unpack_blocks_row(BlockType type, std::span<const std::byte> blocks, std::span<std::uint8_t> codes,
                       std::span<std::uint16_t> d_bits, std::span<std::uint16_t> m_bits) {
  const BlockShape& shape = shape_of(type);
  const std::size_t count = require_row(shape, codes.size(), d_bits.size(), m_bits.size(), blocks.size());
  const auto elements = static_cast<std::size_t>(block_elements(type));
  const auto bytes = static_cast<std::size_t>(block_bytes(type));
  for (std::size_t i = 0; i < count; ++i) {
    const std::byte* block = blocks.data() + i * bytes;
    d_bits[i] = load_le<std::uint16_t>(block);
    block += 2;
    if (shape.has_minimum) {
      m_bits[i] = load_le<std::uint16_t>(block);
      block += 2;
    }
    unpack_codes(shape.order, block, codes.data() + i * elements);
  }
}

bool block_takes_stream(BlockType type) noexcept { return type == BlockType::q4_0 || type == BlockType::q4_1; }

void pack_block_stream(BlockType type, std::span<const std::byte> stream, std::span<const std::uint16_t> d_bits,
                       std::span<const std::uint16_t> m_bits, std::span<std::byte> out) {
  const BlockShape& shape = stream_shape_of(type);
  const std::size_t blocks = require_row(shape, 2 * stream.size(), d_bits.size(), m_bits.size(), out.size());
  const auto bytes = static_cast<std::size_t>(block_bytes(type));
  for (std::size_t i = 0; i < blocks; ++i) {
    std::byte* block = out.data() + i * bytes;
    store_le(block, d_bits[i]);
    if (shape.has_minimum) store_le(block + 2, m_bits[i]);
    stream_to_nibbles(stream.data() + 16 * i, block + (shape.has_minimum ? 4 : 2));
  }
}

void unpack_block_stream(BlockType type, std::span<const std::byte> blocks, std::span<std::byte> stream) {
  const BlockShape& shape = stream_shape_of(type);
  const std::size_t count = 2 * stream.size() / static_cast<std::size_t>(block_elements(type));
  require_row(shape, 2 * stream.size(), count, shape.has_minimum ? count : 0, blocks.size());
  const auto bytes = static_cast<std::size_t>(block_bytes(type));
  const std::size_t head = shape.has_minimum ? 4 : 2;
  for (std::size_t i = 0; i < count; ++i) nibbles_to_stream(blocks.data() + i * bytes + head, stream.data() + 16 * i);
}

void unpack_block_scales(BlockType type, std::span<const std::byte> blocks, std::span<std::uint16_t> d_bits,
                         std::span<std::uint16_t> m_bits) {
  const BlockShape& shape = shape_of(type);
  const auto count = static_cast<std::int64_t>(d_bits.size());
  require_extent("block minima", m_bits.size(), {shape.has_minimum ? count : 0});
  require_extent("bytes of blocks", blocks.size(), {count, block_bytes(type)});
  const auto bytes = static_cast<std::size_t>(block_bytes(type));
  for (std::size_t i = 0; i < d_bits.size(); ++i) d_bits[i] = load_le<std::uint16_t>(blocks.data() + i * bytes);
  for (std::size_t i = 0; i < m_bits.size(); ++i) m_bits[i] = load_le<std::uint16_t>(blocks.data() + i * bytes + 2);
}

std::int64_t fp4_scale_run(BlockType type) {
  if (type == BlockType::mxfp4) return 32;
  if (type == BlockType::nvfp4) return 16;
  throw_unknown(type);
}

void pack_fp4_blocks_row(BlockType type, std::span<const std::uint8_t> codes, std::span<const std::uint8_t> scales,
                         std::span<std::byte> out) {
  const std::size_t blocks = require_fp4_row(type, codes.size(), scales.size(), out.size());
  require_codes_fit(4, codes);
  std::byte* block = out.data();
  for (std::size_t i = 0; i < blocks; ++i) {
    if (type == BlockType::mxfp4) {
      std::memcpy(block, scales.data() + i, 1);
      pack_nibbles<16>(codes.data() + i * 32, block + 1);
    } else {
      std::memcpy(block, scales.data() + i * 4, 4);
      for (std::size_t s = 0; s < 4; ++s) pack_nibbles<8>(codes.data() + i * 64 + s * 16, block + 4 + s * 8);
    }
    block += block_bytes(type);
  }
}

void unpack_fp4_blocks_row(BlockType type, std::span<const std::byte> blocks, std::span<std::uint8_t> codes,
                           std::span<std::uint8_t> scales) {
  const std::size_t count = require_fp4_row(type, codes.size(), scales.size(), blocks.size());
  const std::byte* block = blocks.data();
  for (std::size_t i = 0; i < count; ++i) {
    if (type == BlockType::mxfp4) {
      std::memcpy(scales.data() + i, block, 1);
      unpack_nibbles<16>(block + 1, codes.data() + i * 32);
    } else {
      std::memcpy(scales.data() + i * 4, block, 4);
      for (std::size_t s = 0; s < 4; ++s) unpack_nibbles<8>(block + 4 + s * 8, codes.data() + i * 64 + s * 16);
    }
    block += block_bytes(type);
  }
}

}  // namespace regauge::layouts
