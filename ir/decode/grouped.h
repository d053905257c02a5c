#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "ir/encoding.h"

namespace regauge {

/// A band of whole rows of a grouped tensor, as its canonical parts hold it (ir/tensor.h). With group.rows above 1 the band
/// starts at a multiple of it, and `scales` and `offsets` have one row for every group.rows rows begun.
struct GroupedBand {
  std::span<const std::uint8_t> codes;            ///< [n, K], one code a byte
  std::span<const std::byte> scales;              ///< [n, G] of Grouped::scale, at any alignment
  std::span<const std::byte> offsets;             ///< [n, G]: zeros (u8) or biases (Grouped::offset_dtype); else empty
  std::span<const std::int32_t> group_of_column;  ///< K entries in [0, G), also where groups are contiguous
  std::optional<float> global_scale;              ///< set when Grouped::global_scale is
};

/// Whether decode_grouped takes such an encoding. Nothing when it does, else the reason why not.
std::optional<std::string_view> why_not_decodable(const Grouped& encoding);

/// The dequant reference for grouped codes, [rows, columns] f32 in row-major order. With f32 meaning "rounded to f32 here":
///   none, midpoint, zero_point   f32(scale * (code - offset)), the difference in integers; exact when scales have 16 bits
///   bias                         f32(f32(scale * code) + bias), never contracted (ml-explore/mlx, dequantize on f32 parameters)
///   e2m1, e4m3                   f32(code * scale)
///   ... with a global scale g    f32(code * f32(scale * f32(g / 2688))), 2688 = 448 * 6 (ml-explore/mlx mlx/ops.cpp)
/// Signed zeros, infinities and NaN come out as these products give them. Throws Error{unsupported} for an encoding that
/// why_not_decodable() objects to, Error{internal} when the spans do not belong together or a column names no group. Safe
/// from any number of threads.
void decode_grouped(const Grouped& encoding, std::int64_t rows, std::int64_t columns, const GroupedBand& band,
                    std::span<float> out);

}  // namespace regauge
