#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "ir/encoding.h"
#include "ir/rows.h"
#include "ir/shape.h"

namespace regauge {

/// An array exactly as it lies on disk, dead ones included. Byte verdicts, stored digests and sharding speak of these.
struct StoredArray {
  std::string name;
  std::variant<DType, BlockType, Opaque> element;
  Shape shape;               ///< row-major, whatever order the file lists
  std::size_t file = 0;      ///< index into Checkpoint::files
  std::uint64_t offset = 0;  ///< of the first byte, from the start of the file
  std::uint64_t bytes = 0;   ///< without padding
};

/// "BF16", "Q4_0", "opaque ..."
std::string element_name(const StoredArray& array);

/// The roles that stored arrays play in a logical tensor, in canonical orientation: rows are outputs, columns are inputs.
enum class PartId : std::uint8_t {
  values,        ///< dense: [N, K] of the encoding's dtype
  codes,         ///< u8 [N, K], one code a byte
  scales,        ///< [N, G] of Grouped::scale
  zeros,         ///< u8 [N, G], true zero points (GPTQ v2 semantics)
  biases,        ///< [N, G] of Grouped::offset_dtype
  global_scale,  ///< f32, one number
  group_index,   ///< i32 [1, K], the group of every column
  blocks,        ///< Blocked: [N, K / block_elements * block_bytes] bytes
  lowrank_a,     ///< [r, K], any float dtype; [weights, r, K] where several are stacked (ir/low_rank.h)
  lowrank_b,     ///< [N, r], the same dtype
};

std::string_view name(PartId id);

/// One part: where its rows come from and what they hold. `shape` is canonical and counts elements, not bytes (blocks
/// count bytes).
struct Part {
  PartId id = PartId::values;
  DType dtype = DType::f32;
  Shape shape;
  RowSourcePtr rows;
};

/// A logical tensor as its format stores it: name and convention are the dialect's own, the numbers are what `encoding`
/// makes of `parts`. Low-rank parts (value = decode + B * A) may accompany any encoding.
struct Tensor {
  std::string
      name;     ///< of the weight: "model.layers.3.mlp.up_proj.weight", also when its arrays are qweight, scales ...
  Shape shape;  ///< logical, [.., N, K]
  Encoding encoding;
  std::vector<Part> parts;
  std::vector<std::size_t> arrays;  ///< indices into Checkpoint::arrays

  const Part* find(PartId id) const noexcept;
  /// Throws Error{internal} when the part is not there.
  const Part& part(PartId id) const;
  bool has_low_rank() const noexcept { return find(PartId::lowrank_a) != nullptr; }
  /// The smallest row step that every part can be read at: the least common multiple of the parts' quanta.
  std::int64_t row_quantum() const;
};

}  // namespace regauge
