#include "verify/wide.h"

#include <cmath>
#include <cstdint>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "convert/route/copy.h"

namespace regauge {
namespace {

constexpr double kHalfWord = 4294967296.0;  // 2^32

/// sign * (high * 2^32 + low): the sum of two exact numbers and what rounding took from it (Fast2Sum; the first is the
/// larger or zero).
Wide of_halves(double sign, std::uint32_t high, std::uint32_t low) {
  const double a = static_cast<double>(high) * kHalfWord;
  const auto b = static_cast<double>(low);
  const double sum = a + b;
  return {sign * sum, sign * (b - (sum - a))};
}

Wide of_magnitude(double sign, std::uint64_t magnitude) {
  return of_halves(sign, static_cast<std::uint32_t>(magnitude >> 32), static_cast<std::uint32_t>(magnitude));
}

Wide of_i64(std::int64_t value) {
  const auto bits = static_cast<std::uint64_t>(value);
  return value < 0 ? of_magnitude(-1, ~bits + 1) : of_magnitude(1, bits);
}

template <typename T, typename ToWide>
void widen_each(std::span<const std::byte> bytes, std::span<Wide> out, const ToWide& to_wide) {
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = to_wide(load_le<T>(bytes.data() + i * sizeof(T)));
}

bool is_wide(DType dtype) {
  return dtype == DType::f64 || dtype == DType::i64 || dtype == DType::u64 || dtype == DType::i32 ||
         dtype == DType::u32;
}

}  // namespace

bool same_number(const Wide& a, const Wide& b) {
  if (std::isnan(a.high) || std::isnan(b.high)) return std::isnan(a.high) && std::isnan(b.high);
  return a.high == b.high && a.low == b.low;
}

double difference(const Wide& a, const Wide& b) { return (a.high - b.high) + (a.low - b.low); }

void widen(DType dtype, std::span<const std::byte> bytes, std::span<Wide> out) {
  if (!is_wide(dtype) || bytes.size() != out.size() * static_cast<std::size_t>(bits(dtype) / 8))
    throw Error(ErrorCode::internal, "{} bytes of {} for {} numbers", bytes.size(), name(dtype), out.size());
  switch (dtype) {
    case DType::f64: return widen_each<double>(bytes, out, [](double value) { return Wide{value, 0}; });
    case DType::i64: return widen_each<std::int64_t>(bytes, out, of_i64);
    case DType::u64: return widen_each<std::uint64_t>(bytes, out, [](auto value) { return of_magnitude(1, value); });
    case DType::i32: return widen_each<std::int32_t>(bytes, out, [](auto value) { return of_i64(value); });
    default: return widen_each<std::uint32_t>(bytes, out, [](auto value) { return of_magnitude(1, value); });
  }
}

std::optional<WideRows> WideRows::of(const Target& target) {
  const auto* dense = std::get_if<Dense>(&target.pieces.front().tensor->encoding);
  if (dense == nullptr || !is_wide(dense->dtype) || cannot_copy(target)) return std::nullopt;
  return WideRows(make_copy(target), dense->dtype);
}

void WideRows::read(RowRange rows, Scratch& scratch, std::vector<std::byte>& raw, std::span<Wide> out) const {
  raw.resize(out.size() * static_cast<std::size_t>(bits(dtype_) / 8));
  const std::span<std::byte> bytes(raw);
  Loss ignored;
  maker_->make(rows, std::span(&bytes, 1), scratch, ignored);
  widen(dtype_, raw, out);
}

}  // namespace regauge
