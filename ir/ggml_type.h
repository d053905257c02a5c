#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "ir/dtype.h"

namespace regauge {

/// The block types of ggml: fixed groups of elements stored together as one little struct. The enumerators carry ggml's
/// own ids. Source: ggml-org/ggml include/ggml.h; sizes confirmed against llama.cpp v0.5.0.
enum class BlockType : std::uint8_t {
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q8_1 = 9,
  q2_K = 10,
  q3_K = 11,
  q4_K = 12,
  q5_K = 13,
  q6_K = 14,
  q8_K = 15,
  iq2_xxs = 16,
  iq2_xs = 17,
  iq3_xxs = 18,
  iq1_s = 19,
  iq4_nl = 20,
  iq3_s = 21,
  iq2_s = 22,
  iq4_xs = 23,
  iq1_m = 29,
  tq1_0 = 34,
  tq2_0 = 35,
  mxfp4 = 39,
  nvfp4 = 40,
  q1_0 = 41,
  q2_0 = 42,
};

/// One row of ggml's type table: either a dense element type or a block type.
struct GgmlType {
  std::uint32_t id = 0;
  std::string_view name;  ///< as ggml_type_name spells it: "f32", "q4_K"
  std::int64_t block_elements = 1;
  std::int64_t block_bytes = 0;
  std::optional<DType> dtype;      ///< set for the dense ones
  std::optional<BlockType> block;  ///< set for the others
};

/// Every type that llama.cpp v0.5.0 reads, by id. Ids that it retired (4, 5, 31 to 33, 36 to 38) are not here.
std::span<const GgmlType> ggml_types();
const GgmlType* find_ggml_type(std::uint32_t id);
const GgmlType* find_ggml_type(std::string_view name);  ///< case-insensitive: "Q4_0" and "q4_0" are one
bool is_retired_ggml_type(std::uint32_t id);

const GgmlType& ggml_type(BlockType type);
/// The row of a dense type, or nothing for the dtypes that ggml has not.
const GgmlType* ggml_type(DType dtype);

/// Upper-case name as people write it: "Q4_0", "Q4_K", "IQ2_XXS".
std::string_view name(BlockType type);
inline std::int64_t block_elements(BlockType type) { return ggml_type(type).block_elements; }
inline std::int64_t block_bytes(BlockType type) { return ggml_type(type).block_bytes; }

}  // namespace regauge
