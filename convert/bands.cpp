#include "convert/bands.h"

#include <algorithm>

namespace regauge {

Strip strip_of(const StepArray& array, RowRange rows, std::int64_t target_rows) {
  if (array.layout == BandLayout::whole) return {0, rows.begin == 0 ? array.plan.bytes() : 0, 0, 1};
  const bool by_rows = array.layout == BandLayout::rows;
  const std::uint64_t stride = by_rows ? array.plan.bytes() : array.plan.row_bytes();
  const auto at = [&](std::int64_t row) {
    return stride == 0 ? 0 : stride * static_cast<std::uint64_t>(row) / static_cast<std::uint64_t>(target_rows);
  };
  const auto count = by_rows ? std::uint64_t{1} : static_cast<std::uint64_t>(array.plan.shape.rows());
  return {at(rows.begin), at(rows.end) - at(rows.begin), stride, count};
}

void put_strips(Writer& writer, std::size_t index, const Strip& strip, std::span<const std::byte> bytes) {
  if (strip.bytes == 0) return;
  if (strip.bytes == strip.stride) return writer.put(index, strip.offset, bytes);
  for (std::uint64_t i = 0; i < strip.count; ++i) {
    writer.put(index, strip.offset + i * strip.stride,
               bytes.subspan(static_cast<std::size_t>(i * strip.bytes), static_cast<std::size_t>(strip.bytes)));
  }
}

void read_strips(const Writer& writer, std::size_t index, const Strip& strip, std::uint64_t from,
                 std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const std::uint64_t inside = from % strip.bytes;
    const auto length = static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), strip.bytes - inside));
    writer.read_back(index, strip.offset + from / strip.bytes * strip.stride + inside, bytes.first(length));
    bytes = bytes.subspan(length);
    from += length;
  }
}

}  // namespace regauge
