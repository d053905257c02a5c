#include <algorithm>
#include <array>
#include <cstring>

#include "base/bytes.h"
#include "formats/layouts/extent.h"
#include "formats/layouts/gptq_block.h"
#include "formats/layouts/gptq_words.h"

namespace regauge::layouts {
namespace {

// Zeros are packed and unpacked by way of a buffer this long, so that the convention can be changed on the words.
constexpr std::size_t kChunkZeros = 16 * kGptqBlock;
using Chunk = std::array<std::byte, kChunkZeros>;  // enough at 8 bits

bool codes_fill_words(int bits) { return 32 % bits == 0; }

void require_convention(GptqLayout layout, ZeroConvention convention) {
  const bool possible = convention == ZeroConvention::v2 || (convention == ZeroConvention::v1 && layout.bits > 1) ||
                        (convention == ZeroConvention::v1_legacy3 && layout == GptqLayout{.bits = 3});
  if (!possible) {
    throw Error(ErrorCode::invalid, "zero points of {} bits are never stored under this convention", layout.bits);
  }
}

void require_zeros(GptqLayout layout, std::size_t words, std::size_t zeros) {
  require_multiple("run of zero points", static_cast<std::int64_t>(zeros), gptq_zeros_quantum(layout));
  require_extent("qzeros words", words, {static_cast<std::int64_t>(packed_bytes(zeros, layout.bits))});
}

// What GPTQModel takes off words 0, 1 and 2 of every three when it writes v1; at 2, 4 and 8 bits it is a one in every
// field. The subtraction is the word's, so a zero point of 0 borrows from its neighbour; only adding on the word undoes
// that. Source: ModelCloud/GPTQModel gptqmodel/utils/model.py, convert_gptq_v2_to_v1_format_module; for the old 3-bit
// constants the same file at tag v6.0.3 (they have words 0 and 2 swapped against the packing).
std::array<std::uint32_t, 3> offsets_by_word(int bits, ZeroConvention convention) {
  if (convention == ZeroConvention::v1_legacy3) return {0x24924924, 0x92492492, 0x49249249};
  const auto ones = static_cast<std::uint32_t>(0xFFFFFFFFU / low_bits(bits));
  return {ones, ones, ones};
}

enum class Direction : std::uint8_t { store, load };

void shift_words(const std::array<std::uint32_t, 3>& offsets, Direction direction, std::span<std::byte> words) {
  for (std::size_t i = 0; i < words.size() / 4; ++i) {
    const std::uint32_t offset = offsets[i % 3];
    const auto word = load_le<std::uint32_t>(words.data() + i * 4);
    store_le(words.data() + i * 4, direction == Direction::store ? word - offset : word + offset);
  }
}

// 3 bits since GPTQModel 7.0.0, and its planar path: one off (or onto) each field, modulo 2^bits.
void shift_fields(GptqLayout layout, Direction direction, std::span<std::byte> words) {
  // Adding 2^b - 1 is subtracting 1; sums stay within a byte, and pack drops what exceeds the field.
  const std::uint64_t step = 0x0101010101010101 * (direction == Direction::store ? low_bits(layout.bits) : 1);
  with_planes(layout, [&](auto planes) {
    using Planes = decltype(planes);
    for (std::size_t at = 0; at < words.size(); at += Planes::kBlockBytes) {
      auto codes = Planes::unpack(words.data() + at);
      for (auto& eight : codes) eight += step;
      Planes::pack(codes, words.data() + at);
    }
  });
}

void shift_zeros(GptqLayout layout, ZeroConvention convention, Direction direction, std::span<std::byte> words) {
  if (convention == ZeroConvention::v2) return;
  if (convention == ZeroConvention::v1_legacy3 || codes_fill_words(layout.bits)) {
    shift_words(offsets_by_word(layout.bits, convention), direction, words);
  } else {
    shift_fields(layout, direction, words);
  }
}

template <typename Planes>
void unpack_blocks(std::span<const std::byte> words, std::span<std::uint8_t> zeros) {
  for (std::size_t i = 0; i < zeros.size() / kGptqBlock; ++i) {
    const auto codes = Planes::unpack(words.data() + i * Planes::kBlockBytes);
    std::memcpy(zeros.data() + i * kGptqBlock, codes.data(), sizeof codes);
  }
}

template <typename Planes>
void pack_blocks(std::span<const std::uint8_t> zeros, std::span<std::byte> words) {
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < zeros.size() / kGptqBlock; ++i) {
    typename Planes::Codes codes;
    std::memcpy(codes.data(), zeros.data() + i * kGptqBlock, sizeof codes);
    for (const auto eight : codes) seen |= eight;
    Planes::pack(codes, words.data() + i * Planes::kBlockBytes);
  }
  if ((seen & excess_bits_of_8(Planes::kBits)) != 0) throw_code_too_wide(Planes::kBits);
}

}  // namespace

std::int64_t gptq_zeros_quantum(GptqLayout layout) {
  return with_bits(layout.bits, [](auto width) -> std::int64_t { return 32 % width == 0 ? 32 / width : kGptqBlock; });
}

void unpack_gptq_zeros(GptqLayout layout, ZeroConvention convention, std::span<const std::byte> words,
                       std::span<std::uint8_t> zeros) {
  require_zeros(layout, words.size(), zeros.size());
  require_convention(layout, convention);
  Chunk buffer;
  for (std::size_t first = 0; first < zeros.size(); first += kChunkZeros) {
    const auto out = zeros.subspan(first, std::min(kChunkZeros, zeros.size() - first));
    const auto bytes = static_cast<std::size_t>(packed_bytes(out.size(), layout.bits));
    const auto chunk = std::span(buffer).first(bytes);
    std::memcpy(chunk.data(), words.data() + packed_bytes(first, layout.bits), bytes);
    shift_zeros(layout, convention, Direction::load, chunk);
    if (codes_fill_words(layout.bits)) {
      unpack_bits(chunk, layout.bits, out);  // the only widths whose runs may end inside a block
    } else {
      with_planes(layout, [&](auto planes) { unpack_blocks<decltype(planes)>(chunk, out); });
    }
  }
}

void pack_gptq_zeros(GptqLayout layout, ZeroConvention convention, std::span<const std::uint8_t> zeros,
                     std::span<std::byte> words) {
  require_zeros(layout, words.size(), zeros.size());
  require_convention(layout, convention);
  if (codes_fill_words(layout.bits)) {
    pack_bits(zeros, layout.bits, words);
  } else {
    with_planes(layout, [&](auto planes) { pack_blocks<decltype(planes)>(zeros, words); });
  }
  shift_zeros(layout, convention, Direction::store, words);
}

void convert_gptq_zeros(GptqLayout layout, ZeroConvention from, ZeroConvention to, std::span<std::byte> words) {
  const std::int64_t quantum_bytes = gptq_zeros_quantum(layout) * layout.bits / 8;
  require_multiple("bytes of a run of zero points", static_cast<std::int64_t>(words.size()), quantum_bytes);
  require_convention(layout, from);
  require_convention(layout, to);
  if (from == to) return;
  shift_zeros(layout, from, Direction::load, words);
  shift_zeros(layout, to, Direction::store, words);
}

}  // namespace regauge::layouts
