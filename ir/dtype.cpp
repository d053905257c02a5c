#include "ir/dtype.h"

#include <array>

#include "base/checked.h"

namespace regauge {
namespace {

struct Row {
  DType dtype;
  std::string_view name;
  int bits;
  bool is_float;
};

constexpr std::array<Row, 22> kTable{{
    {DType::boolean, "BOOL", 8, false},
    {DType::f4, "F4", 4, true},
    {DType::f6_e2m3, "F6_E2M3", 6, true},
    {DType::f6_e3m2, "F6_E3M2", 6, true},
    {DType::u8, "U8", 8, false},
    {DType::i8, "I8", 8, false},
    {DType::f8_e5m2, "F8_E5M2", 8, true},
    {DType::f8_e4m3, "F8_E4M3", 8, true},
    {DType::f8_e8m0, "F8_E8M0", 8, true},
    {DType::f8_e4m3fnuz, "F8_E4M3FNUZ", 8, true},
    {DType::f8_e5m2fnuz, "F8_E5M2FNUZ", 8, true},
    {DType::i16, "I16", 16, false},
    {DType::u16, "U16", 16, false},
    {DType::f16, "F16", 16, true},
    {DType::bf16, "BF16", 16, true},
    {DType::i32, "I32", 32, false},
    {DType::u32, "U32", 32, false},
    {DType::f32, "F32", 32, true},
    {DType::c64, "C64", 64, false},
    {DType::f64, "F64", 64, true},
    {DType::i64, "I64", 64, false},
    {DType::u64, "U64", 64, false},
}};

constexpr auto kAll = [] {
  std::array<DType, kTable.size()> all{};
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = kTable[i].dtype;
  return all;
}();

const Row& row(DType dtype) { return kTable[static_cast<std::size_t>(dtype)]; }

}  // namespace

std::span<const DType> all_dtypes() { return kAll; }
std::string_view name(DType dtype) { return row(dtype).name; }
int bits(DType dtype) { return row(dtype).bits; }
bool is_float(DType dtype) { return row(dtype).is_float; }
bool is_integer(DType dtype) { return !row(dtype).is_float && dtype != DType::c64 && dtype != DType::boolean; }

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const Row& r : kTable) {
    if (r.name == name) return r.dtype;
  }
  return std::nullopt;
}

std::optional<std::uint64_t> storage_bytes(DType dtype, std::uint64_t count) {
  const auto total = checked_mul(count, static_cast<std::uint64_t>(bits(dtype)));
  if (!total || *total % 8 != 0) return std::nullopt;
  return *total / 8;
}

}  // namespace regauge
