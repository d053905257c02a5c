#include "inspect/block_codes.h"

#include "base/bytes.h"

namespace regauge::inspect {
namespace {

constexpr std::size_t kCodes = 32;  // QK4_0 and its like

void count_nibbles(std::span<const std::byte> block, const CodeLayout& layout, std::span<std::uint64_t> counts) {
  const auto high = layout.bits == 5 ? load_le<std::uint32_t>(block.data() + layout.high_offset) : 0U;
  for (std::size_t i = 0; i < kCodes / 2; ++i) {
    const auto byte = std::to_integer<std::size_t>(block[layout.low_offset + i]);
    ++counts[(byte & 0x0F) | ((high >> i) & 1U) << 4];
    ++counts[(byte >> 4) | ((high >> (i + kCodes / 2)) & 1U) << 4];
  }
}

}  // namespace

std::optional<CodeLayout> find_code_layout(BlockType type) {
  switch (type) {
    case BlockType::q4_0: return CodeLayout{4, 2, 0};
    case BlockType::q4_1: return CodeLayout{4, 4, 0};
    case BlockType::q5_0: return CodeLayout{5, 6, 2};
    case BlockType::q5_1: return CodeLayout{5, 8, 4};
    case BlockType::q8_0: return CodeLayout{8, 2, 0};
    default: return std::nullopt;
  }
}

void count_block_codes(BlockType type, const CodeLayout& layout, std::span<const std::byte> blocks,
                       std::span<std::uint64_t> counts) {
  const auto size = static_cast<std::size_t>(block_bytes(type));
  for (std::size_t at = 0; at + size <= blocks.size(); at += size) {
    const auto block = blocks.subspan(at, size);
    if (layout.bits < 8) {
      count_nibbles(block, layout, counts);
      continue;
    }
    for (std::size_t i = 0; i < kCodes; ++i) {
      ++counts[(std::to_integer<std::size_t>(block[layout.low_offset + i]) + 128) & 0xFF];
    }
  }
}

}  // namespace regauge::inspect
