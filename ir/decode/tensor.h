#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "ir/low_rank.h"
#include "ir/rows.h"
#include "ir/tensor.h"

namespace regauge {

struct DecodeOptions {
  bool with_low_rank = false;  ///< add B * A where the tensor has factors (ir/decode/low_rank.h says in which order)
};

/// Decodes a tensor's [rows, columns] matrix band by band, in the tensor's own (stored) convention. Holds scratch buffers
/// of the largest band so far, the group index and, with low rank, A (of one weight of a stack) in f32; one object per thread.
class TensorDecoder {
 public:
  /// `tensor` must outlive the decoder. Reads the small whole parts (group index, global scale). Throws
  /// Error{unsupported} when no values can be made of the encoding, Error{malformed} for a group index out of range.
  explicit TensorDecoder(const Tensor& tensor, DecodeOptions options = {});

  /// Bands begin at a multiple of this and are a multiple long, the last one excepted.
  std::int64_t row_quantum() const noexcept { return row_quantum_; }

  /// Decodes rows [range.begin, range.end) to f32, row-major, into `out` of exactly range.size() * columns elements.
  /// Throws what the sources of the parts throw.
  void decode(RowRange range, std::span<float> out);

 private:
  std::span<const std::byte> read(PartId id, RowRange range, std::vector<std::byte>& buffer) const;
  void decode_codes(const Grouped& encoding, RowRange range, std::span<float> out);
  void add_factors(RowRange range, std::span<float> out);
  void add_group(std::int64_t group, RowRange range, std::span<float> out);

  const Tensor* tensor_;
  std::int64_t columns_ = 0;
  std::int64_t row_quantum_ = 1;
  std::vector<std::int32_t> group_of_column_;
  std::optional<float> global_scale_;
  std::optional<LowRankGroups> low_rank_;
  std::int64_t group_of_a_ = -1;  // whose A is held: all of a large stack's would not fit
  std::vector<float> factor_a_;

  std::vector<std::byte> main_;  // codes, values or blocks
  std::vector<std::byte> scales_;
  std::vector<std::byte> offsets_;
  std::vector<std::byte> factor_bytes_;
  std::vector<float> factor_b_;
  std::vector<double> sums_;
};

/// The group of every column of a grouped tensor, each in [0, G): from its group_index part, where negative entries count
/// from the end (ModelCloud/GPTQModel, pack_block), or k / group.cols without one. What Grouped::indexed says is not asked.
/// Reads 4 bytes a column. Throws Error{malformed} naming the tensor for an entry out of range.
std::vector<std::int32_t> read_group_index(const Tensor& tensor);

/// Whether read_group_index() is k / group.cols throughout, so that groups are runs of neighbours: an act-order checkpoint
/// may well say so of modules with few columns. Same cost and errors.
bool group_index_is_trivial(const Tensor& tensor);

}  // namespace regauge
