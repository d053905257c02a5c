#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace regauge {

/// An element type with an exact meaning on disk: every one of the safetensors specification. GGUF's dense types are a
/// subset (ir/ggml_type.h maps them).
enum class DType : std::uint8_t {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64,
};

/// All of them, in the order in which the safetensors serialiser ranks them (it writes the last ones first).
/// Source: huggingface/safetensors safetensors/src/tensor.rs, enum Dtype.
std::span<const DType> all_dtypes();

/// As safetensors spells it: "BF16", "F8_E4M3", "BOOL".
std::string_view name(DType dtype);
std::optional<DType> dtype_from_name(std::string_view name);

/// Size of one element in bits: 4 and 6 for the sub-byte types, which are packed without gaps, else a multiple of 8.
int bits(DType dtype);

bool is_float(DType dtype);
bool is_integer(DType dtype);

/// Bytes that `count` elements take, or nothing when that is no whole number of bytes or overflows.
std::optional<std::uint64_t> storage_bytes(DType dtype, std::uint64_t count);

}  // namespace regauge
