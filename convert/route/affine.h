#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "ir/dtype.h"
#include "ir/rows.h"
#include "ir/tensor.h"

namespace regauge {

/// A band of rows as integer codes with a scale and an offset per group of columns: what GPTQ, MLX and the plain ggml
/// blocks have in common. Buffers are used again from band to band.
struct AffineBand {
  std::vector<std::uint8_t> codes;      ///< [rows, columns], one a byte
  std::vector<float> scales;            ///< [rows, groups]
  std::vector<std::uint8_t> zeros;      ///< [rows, groups], where the tensor has zero points
  std::vector<float> biases;            ///< [rows, groups], where it has biases
  std::vector<std::uint16_t> patterns;  ///< scratch of the readers
};

/// A tensor seen as scale * (code - zero point) or scale * code + bias, whatever it is stored as: grouped integer codes,
/// or ggml blocks Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_0 Q4_K Q5_K. Scales and biases come out as the f32 that they are exactly.
/// Immutable after of(); any number of threads may read, each with its own buffers. The tensor must outlive it.
class AffineTensor {
 public:
  /// The view, or why there is none. Reads the group index where there is one. Throws Error{malformed} for a group index
  /// out of range.
  static std::variant<AffineTensor, std::string> of(const Tensor& tensor);

  int bits() const noexcept { return bits_; }
  /// Zero points, else biases.
  bool has_zeros() const noexcept { return has_zeros_; }
  /// The floating type that holds every scale (and bias) as stored.
  DType parameter_dtype() const noexcept { return dtype_; }
  std::int64_t groups() const noexcept { return groups_; }
  std::int64_t columns() const noexcept { return columns_; }
  /// Columns of a group when groups are runs of equal length, the last one perhaps shorter; 0 when they are not.
  std::int64_t group_width() const noexcept { return width_; }
  /// The group of every column.
  const std::vector<std::int32_t>& group_of_column() const noexcept { return group_of_column_; }
  /// Whether several blocks may stand for one group of the source they were made from.
  bool is_blocked() const noexcept { return blocked_; }
  /// Rows that are cheap to read at once, where single rows are dear; else 0.
  std::int64_t preferred_rows() const;

  /// Whether the codes can be had as bit streams of bits(), one for each row (RowSource::packed(), and what goes there and
  /// back between ggml blocks).
  bool has_stream() const;

  /// Scales and offsets of rows [rows.begin, rows.end), at any alignment.
  void read_parameters(RowRange rows, AffineBand& band, std::vector<std::byte>& raw) const;
  /// The same without what repeats the group before: of every `run` groups of a row, the last ones perhaps fewer, the first.
  /// `run`, a power of two, is lowered to what repeats in these rows; 1 where no blocks repeat anything.
  void read_distinct(RowRange rows, AffineBand& band, std::vector<std::byte>& raw, std::size_t& run) const;
  /// Scales and offsets with the codes.
  void read(RowRange rows, AffineBand& band, std::vector<std::byte>& raw) const;
  /// The same where has_stream(), with the codes as `stream`, rows.size() * columns * bits / 8 bytes.
  void read_stream(RowRange rows, AffineBand& band, std::vector<std::byte>& raw, std::span<std::byte> stream) const;

 private:
  /// Leaves the blocks in `raw`, and of every `run` scales and offsets the first, as read_distinct() does.
  void read_blocks(RowRange rows, AffineBand& band, std::vector<std::byte>& raw, bool with_codes,
                   std::size_t& run) const;
  void read_scales(RowRange rows, AffineBand& band, std::vector<std::byte>& raw) const;

  const Tensor* tensor_ = nullptr;
  RowSourcePtr packed_;  // of the codes, where there is such a thing
  int bits_ = 0;
  bool has_zeros_ = true;
  bool blocked_ = false;
  DType dtype_ = DType::f16;
  std::uint8_t constant_zero_ = 0;  // where the encoding and not a part says it
  bool stored_zeros_ = false;
  std::int64_t columns_ = 0;
  std::int64_t groups_ = 0;
  std::int64_t width_ = 0;
  std::vector<std::int32_t> group_of_column_;
};

/// The same for all tensors of a target's pieces, in their order.
std::variant<std::vector<AffineTensor>, std::string> affine_tensors(std::span<const Tensor* const> tensors);

}  // namespace regauge
