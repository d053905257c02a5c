#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "ir/dtype.h"
#include "ir/ggml_type.h"

namespace regauge {

/// How one code of a grouped encoding is read as a number.
enum class CodeKind : std::uint8_t {
  unsigned_int,  ///< 0 .. 2^bits - 1
  e2m1,          ///< 4-bit float
  e4m3,          ///< 8-bit float
};

/// What is subtracted or added. midpoint: code - 2^(bits-1); zero_point: code - zero of the group; bias: + bias of the group.
enum class Offset : std::uint8_t { none, midpoint, zero_point, bias };

/// Whose reading of the corner bytes of 8-bit floats applies (base/half.h).
enum class Flavour : std::uint8_t { ocp, mlx, ggml };

/// Elements that share a scale: `rows` x `cols`; cols 0 means a whole row.
struct GroupShape {
  std::int64_t rows = 1;
  std::int64_t cols = 128;
  bool operator==(const GroupShape&) const = default;
};

struct Dense {
  DType dtype = DType::f32;
  bool operator==(const Dense&) const = default;
};

/// Small codes with a scale (and offset) per group; its parts are codes, scales, then zeros or biases, group_index,
/// global_scale as the fields say.
struct Grouped {
  CodeKind code = CodeKind::unsigned_int;
  int bits = 4;
  GroupShape group;
  DType scale = DType::f16;  ///< f16, bf16, f32; u8 holds e8m0 (mx modes) or e4m3 (nvfp4) by `code` and `group`
  Offset offset = Offset::none;
  DType offset_dtype = DType::u8;  ///< of the zeros (u8) or biases part; ignored without one
  bool indexed = false;            ///< columns name their group through the group_index part
  bool global_scale = false;       ///< one f32 for the whole tensor, in the global_scale part
  Flavour flavour = Flavour::ocp;
  bool operator==(const Grouped&) const = default;
};

/// ggml blocks, kept as stored.
struct Blocked {
  BlockType type = BlockType::q4_0;
  bool operator==(const Blocked&) const = default;
};

/// Carried, listed and hashed, never interpreted: an unknown type of known size, a foreign quantization.
struct Opaque {
  std::string origin;  ///< the type's own name where it came from
  bool operator==(const Opaque&) const = default;
};

using Encoding = std::variant<Dense, Grouped, Blocked, Opaque>;

/// One short line: "BF16", "u4 g128 f16 zp idx", "u5 g64 bf16 bias", "mxfp4 g32", "Q4_0", "opaque I2_S".
std::string to_string(const Encoding& encoding);

/// Whether values can be made of it.
bool is_decodable(const Encoding& encoding);
inline bool is_quantized(const Encoding& encoding) {
  return std::holds_alternative<Grouped>(encoding) || std::holds_alternative<Blocked>(encoding);
}

}  // namespace regauge
