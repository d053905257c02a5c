#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "convert/adapt.h"
#include "convert/route/affine.h"

namespace regauge {

/// A range of whole numbers, empty until something is included.
struct IntRange {
  std::int64_t low = std::numeric_limits<std::int64_t>::max();
  std::int64_t high = std::numeric_limits<std::int64_t>::min();

  void include(std::int64_t value) {
    low = value < low ? value : low;
    high = value > high ? value : high;
  }
  void include(const IntRange& other) {
    if (other.empty()) return;
    include(other.low);
    include(other.high);
  }
  bool empty() const { return low > high; }
  bool within(std::int64_t least, std::int64_t most) const { return empty() || (low >= least && high <= most); }
};

/// What the data of a target's sources says about the encodings that could hold its values. Every field is a statement
/// about all scales, offsets and groups of all pieces, found by reading them.
struct AffineFacts {
  int bits = 0;             ///< of the widest piece's codes
  bool zeros_given = true;  ///< every piece has zero points of its own (else some have biases)
  bool zeros_exist = true;  ///< every offset is -zero * scale with a whole zero
  bool finite = true;       ///< no scale or offset is infinite or NaN, and no product of scale and code overflows f32
  bool scales_fit_f16 = true;   ///< bit for bit after the way there and back
  bool scales_fit_bf16 = true;  ///< likewise
  bool biases_fit_f16 = true;   ///< of -zero * scale where zeros are given
  bool biases_fit_bf16 = true;
  bool rounded_biases_fit_f16 = true;  ///< scales and biases stay finite when rounded to f16
  IntRange zeros;                      ///< zero points, or the whole numbers nearest to -bias / scale
  DType widest = DType::f16;           ///< the dtype that holds the parameters of every piece
  std::int64_t own_width = 0;          ///< group width of the sources in target order, when all have the same; else 0
  bool blocked = false;                ///< some source is ggml blocks, which repeat the scale of a larger group
  bool contiguous = true;              ///< own_width says all there is about groups: no index is needed
};

/// Target columns by group: [piece][target group] -> the source group that it takes scale and offset from.
struct GroupMap {
  std::int64_t width = 0;
  std::vector<std::vector<std::int32_t>> source_group;
};

/// The sources of a target as affine tensors, with the questions that a planner asks of them. Refers to the target.
class AffineSource {
 public:
  /// Nothing is read but group indices. The reason when some piece is no affine tensor, changes its values or lies in
  /// parts of rows.
  static std::variant<AffineSource, std::string> of(const Target& target);

  const Target& target() const noexcept { return *target_; }
  const std::vector<AffineTensor>& tensors() const noexcept { return tensors_; }
  /// The source group of every target column of a piece.
  const std::vector<std::int32_t>& groups_in_target(std::size_t piece) const { return groups_[piece]; }

  /// The source columns of a piece in target order; nothing: all, in order.
  const std::optional<AxisMap>& columns(std::size_t piece) const noexcept { return columns_[piece]; }

  /// Reads every scale and offset, and remembers which neighbouring groups are equal, so that groups_of() need not. Not to be
  /// called by two threads at once.
  AffineFacts facts() const;
  /// The range of code - zero over all values: reads every code. Zero points must exist.
  IntRange differences() const;
  /// Groups of `width` target columns, when within each the source groups have equal scale and offset in every row; the
  /// data is only read where a target group takes columns from several source groups.
  std::optional<GroupMap> groups_of(std::int64_t width) const;

 private:
  bool equal_everywhere(std::size_t piece, const std::vector<std::pair<std::int32_t, std::int32_t>>& pairs) const;

  const Target* target_ = nullptr;
  std::vector<AffineTensor> tensors_;              // one for each piece
  std::vector<std::vector<std::int32_t>> groups_;  // likewise
  std::vector<std::optional<AxisMap>> columns_;    // likewise
  // Likewise, once facts() has looked: a power of two of groups, from its multiples on, that are equal in every row.
  mutable std::vector<std::size_t> equal_groups_;
};

/// The whole number nearest to -bias / scale, and whether it is exactly that; 0 / 0 is `any`.
struct WholeZero {
  std::int64_t value = 0;
  bool exact = false;
};
WholeZero whole_zero(float scale, float bias, std::int64_t any);

}  // namespace regauge
