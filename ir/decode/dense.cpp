#include "ir/decode/dense.h"

#include <cstdint>
#include <cstring>

#include "base/bytes.h"
#include "base/error.h"
#include "base/half.h"

namespace regauge {
namespace {

/// Decodes one stored T per value. Conversions from f64 and wide integers round by IEEE 754's default, to nearest even.
template <typename T, typename ToFloat>
void decode_each(std::span<const std::byte> values, std::span<float> out, ToFloat to_float) noexcept {
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = to_float(load_le<T>(values.data() + i * sizeof(T)));
}

template <typename T>
void decode_numbers(std::span<const std::byte> values, std::span<float> out) noexcept {
  decode_each<T>(values, out, [](T value) noexcept { return static_cast<float>(value); });
}

/// Decodes codes of 4 or 6 bits, packed from the lowest bit on; a code may start in one byte and end in the next.
template <unsigned Bits, typename ToFloat>
void decode_packed(std::span<const std::byte> values, std::span<float> out, ToFloat to_float) noexcept {
  std::uint32_t window = 0;
  unsigned available = 0;
  std::size_t next = 0;
  for (float& value : out) {
    if (available < Bits) {
      window |= std::to_integer<std::uint32_t>(values[next++]) << available;
      available += 8;
    }
    value = to_float(static_cast<std::uint8_t>(window & ((1U << Bits) - 1)));
    window >>= Bits;
    available -= Bits;
  }
}

float e4m3_ocp(std::uint8_t bits) noexcept { return f8_e4m3_to_f32(bits, F8Flavour::ocp); }
float e8m0_ocp(std::uint8_t bits) noexcept { return f8_e8m0_to_f32(bits, F8Flavour::ocp); }

}  // namespace

bool can_decode(DType dtype) noexcept { return dtype != DType::c64; }

void decode_dense(DType dtype, std::span<const std::byte> values, std::span<float> out) {
  if (!can_decode(dtype)) throw Error(ErrorCode::unsupported, "{} has no real value", name(dtype));
  if (storage_bytes(dtype, out.size()) != values.size()) {
    throw Error(ErrorCode::invalid, "{} bytes do not hold exactly {} values of {}", values.size(), out.size(),
                name(dtype));
  }
  // No default: a new dtype without a decoder is a compiler warning.
  switch (dtype) {
    case DType::boolean:
      return decode_each<std::uint8_t>(values, out, [](std::uint8_t byte) noexcept { return byte != 0 ? 1.0F : 0.0F; });
    case DType::f4: return decode_packed<4>(values, out, f4_e2m1_to_f32);
    case DType::f6_e2m3: return decode_packed<6>(values, out, f6_e2m3_to_f32);
    case DType::f6_e3m2: return decode_packed<6>(values, out, f6_e3m2_to_f32);
    case DType::u8: return decode_numbers<std::uint8_t>(values, out);
    case DType::i8: return decode_numbers<std::int8_t>(values, out);
    case DType::f8_e5m2: return decode_each<std::uint8_t>(values, out, f8_e5m2_to_f32);
    case DType::f8_e4m3: return decode_each<std::uint8_t>(values, out, e4m3_ocp);
    case DType::f8_e8m0: return decode_each<std::uint8_t>(values, out, e8m0_ocp);
    case DType::f8_e4m3fnuz: return decode_each<std::uint8_t>(values, out, f8_e4m3fnuz_to_f32);
    case DType::f8_e5m2fnuz: return decode_each<std::uint8_t>(values, out, f8_e5m2fnuz_to_f32);
    case DType::i16: return decode_numbers<std::int16_t>(values, out);
    case DType::u16: return decode_numbers<std::uint16_t>(values, out);
    case DType::f16: return decode_each<std::uint16_t>(values, out, f16_to_f32);
    case DType::bf16: return decode_each<std::uint16_t>(values, out, bf16_to_f32);
    case DType::i32: return decode_numbers<std::int32_t>(values, out);
    case DType::u32: return decode_numbers<std::uint32_t>(values, out);
    case DType::f32:
      // Bytes, not numbers: loading a signalling NaN into a register may make it quiet.
      if (!out.empty()) std::memcpy(out.data(), values.data(), values.size());
      return;
    case DType::f64: return decode_numbers<double>(values, out);
    case DType::i64: return decode_numbers<std::int64_t>(values, out);
    case DType::u64: return decode_numbers<std::uint64_t>(values, out);
    case DType::c64: return;
  }
}

}  // namespace regauge
