#include "formats/gguf/big_endian.h"

#include <algorithm>
#include <array>

namespace regauge::gguf {
namespace {

struct BlockRow {
  BlockType type;
  std::array<SwapField, 3> fields;  ///< width 0 ends the list
};

constexpr SwapField kNone{0, 0, 0};

// The members of ggml's block structs that are wider than a byte, and byte arrays that ggml fills and reads as one
// wider number (qh of Q5_0 and Q5_1, scales_and_signs of IQ3_XXS, scales of IQ1_M): what a big endian machine holds in
// memory is what it writes. Source: ggml-org/ggml src/ggml-common.h and src/ggml-quants.c. For Q4_0, Q8_0, Q4_K, Q6_K
// and MXFP4 ggml-org/llama.cpp gguf-py/gguf/scripts/gguf_convert_endian.py says the same.
constexpr std::array kBlockRows = {
    BlockRow{BlockType::q4_0, {{{0, 2, 1}, kNone}}},
    BlockRow{BlockType::q4_1, {{{0, 2, 2}, kNone}}},
    BlockRow{BlockType::q5_0, {{{0, 2, 1}, {2, 4, 1}, kNone}}},
    BlockRow{BlockType::q5_1, {{{0, 2, 2}, {4, 4, 1}, kNone}}},
    BlockRow{BlockType::q8_0, {{{0, 2, 1}, kNone}}},
    BlockRow{BlockType::q8_1, {{{0, 2, 2}, kNone}}},
    BlockRow{BlockType::q2_K, {{{80, 2, 2}, kNone}}},
    BlockRow{BlockType::q3_K, {{{108, 2, 1}, kNone}}},
    BlockRow{BlockType::q4_K, {{{0, 2, 2}, kNone}}},
    BlockRow{BlockType::q5_K, {{{0, 2, 2}, kNone}}},
    BlockRow{BlockType::q6_K, {{{208, 2, 1}, kNone}}},
    BlockRow{BlockType::q8_K, {{{0, 4, 1}, {260, 2, 16}, kNone}}},
    BlockRow{BlockType::iq2_xs, {{{0, 2, 33}, kNone}}},
    BlockRow{BlockType::iq3_xxs, {{{0, 2, 1}, {66, 4, 8}, kNone}}},
    BlockRow{BlockType::iq1_s, {{{0, 2, 1}, {34, 2, 8}, kNone}}},
    BlockRow{BlockType::iq4_nl, {{{0, 2, 1}, kNone}}},
    BlockRow{BlockType::iq3_s, {{{0, 2, 1}, kNone}}},
    BlockRow{BlockType::iq2_s, {{{0, 2, 1}, kNone}}},
    BlockRow{BlockType::iq4_xs, {{{0, 2, 2}, kNone}}},
    BlockRow{BlockType::iq1_m, {{{48, 2, 4}, kNone}}},
    BlockRow{BlockType::tq1_0, {{{52, 2, 1}, kNone}}},
    BlockRow{BlockType::tq2_0, {{{64, 2, 1}, kNone}}},
    BlockRow{BlockType::mxfp4, {{kNone}}},
    BlockRow{BlockType::q1_0, {{{0, 2, 1}, kNone}}},
    BlockRow{BlockType::q2_0, {{{0, 2, 1}, kNone}}},
};

constexpr std::array kElements = {SwapField{0, 1, 1}, SwapField{0, 2, 1}, SwapField{0, 4, 1}, SwapField{0, 8, 1}};

std::span<const SwapField> fields_of(const BlockRow& row) {
  const auto end = std::ranges::find(row.fields, 0, &SwapField::width);
  return {row.fields.begin(), end};
}

}  // namespace

std::optional<SwapLayout> swap_layout(const GgmlType& type) {
  const auto bytes = static_cast<std::size_t>(type.block_bytes);
  if (type.dtype) {
    const auto found = std::ranges::find(kElements, type.block_bytes, &SwapField::width);
    return SwapLayout{bytes, {found, 1}};
  }
  const auto found = std::ranges::find(kBlockRows, *type.block, &BlockRow::type);
  if (found == kBlockRows.end()) return std::nullopt;
  return SwapLayout{bytes, fields_of(*found)};
}

void swap_units(const SwapLayout& layout, std::span<std::byte> bytes) noexcept {
  for (std::size_t unit = 0; unit + layout.bytes <= bytes.size(); unit += layout.bytes) {
    for (const SwapField& field : layout.fields) {
      for (std::size_t i = 0; i < field.count; ++i) {
        std::ranges::reverse(bytes.subspan(unit + field.offset + i * field.width, field.width));
      }
    }
  }
}

void SwappedRows::read_rows(RowRange range, std::span<std::byte> out) const {
  source_->read(range, out);
  swap_units(layout_, out);
}

}  // namespace regauge::gguf
