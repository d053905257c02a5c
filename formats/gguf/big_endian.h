#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "ir/ggml_type.h"
#include "ir/rows.h"

namespace regauge::gguf {

/// A run of numbers inside a block: `count` of `width` bytes each, from byte `offset` on.
struct SwapField {
  std::uint16_t offset = 0;
  std::uint8_t width = 2;
  std::uint8_t count = 1;
};

/// What has to be turned around in a unit of `bytes` (one element or one block) when the byte order changes.
struct SwapLayout {
  std::size_t bytes = 1;
  std::span<const SwapField> fields;
};

/// The layout of a ggml type, or nothing where big endian blocks of it have no agreed form: IQ2_XXS, whose words ggml
/// writes as numbers and reads as bytes, and NVFP4, whose scales the only converter there is exchanges.
std::optional<SwapLayout> swap_layout(const GgmlType& type);

/// Turns every field of whole units in `bytes` around, in place. Doing it twice is nothing.
void swap_units(const SwapLayout& layout, std::span<std::byte> bytes) noexcept;

/// Rows of a big endian file, handed out as little endian.
class SwappedRows final : public RowSource {
 public:
  /// Rows of `source` are whole units of `layout`.
  SwappedRows(RowSourcePtr source, const SwapLayout& layout)
      : RowSource(source->rows(), source->row_bytes()), source_(std::move(source)), layout_(layout) {}

 private:
  void read_rows(RowRange range, std::span<std::byte> out) const override;

  RowSourcePtr source_;
  SwapLayout layout_;
};

}  // namespace regauge::gguf
