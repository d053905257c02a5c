#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace regauge::testing {

using Bytes = std::vector<std::byte>;

/// A safetensors file of this header text and so many data bytes (0, 1, 2, ... 255, 0, ...). `length` overrides the
/// length that is written in front of the header.
Bytes safetensors_bytes(std::string_view header, std::size_t data_bytes, std::optional<std::uint64_t> length = {});

/// The text of one header entry: "name":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}, nothing escaped or checked.
std::string safetensors_entry(std::string_view name, std::string_view dtype, std::string_view shape,
                              std::string_view data_offsets);

/// The bytes of a GGUF file, written field by field in file order, so that each can be set wrong and none is checked.
class GgufBytes {
 public:
  explicit GgufBytes(std::uint32_t version = 3, bool is_big_endian = false)
      : version_(version), is_big_endian_(is_big_endian) {}

  /// Any number, in the file's byte order.
  template <typename T>
    requires std::is_arithmetic_v<T>
  GgufBytes& number(T value) {
    std::byte raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof raw);
    if (is_big_endian_) std::reverse(raw, raw + sizeof raw);
    bytes_.insert(bytes_.end(), raw, raw + sizeof raw);
    return *this;
  }
  GgufBytes& u8(std::uint8_t value) { return number(value); }
  GgufBytes& u16(std::uint16_t value) { return number(value); }
  GgufBytes& u32(std::uint32_t value) { return number(value); }
  GgufBytes& i32(std::int32_t value) { return number(value); }
  GgufBytes& u64(std::uint64_t value) { return number(value); }
  GgufBytes& f32(float value) { return number(value); }

  /// A count or length: 32 bits in version 1, else 64.
  GgufBytes& length(std::uint64_t value);
  GgufBytes& raw(std::string_view text);
  GgufBytes& raw(std::span<const std::byte> bytes);
  /// Length, then the text.
  GgufBytes& string(std::string_view text);

  /// Magic, version and the two counts.
  GgufBytes& preamble(std::uint64_t tensors, std::uint64_t keys);
  /// A key's name and value type; the value follows.
  GgufBytes& key(std::string_view name, std::uint32_t type);
  /// A key with a string value.
  GgufBytes& text_key(std::string_view name, std::string_view value) { return key(name, 8).string(value); }
  /// The start of an array: element type and count; the elements follow.
  GgufBytes& array(std::uint32_t element, std::uint64_t count) { return u32(element).length(count); }
  /// A whole tensor description.
  GgufBytes& tensor(std::string_view name, std::initializer_list<std::uint64_t> ne, std::uint32_t type,
                    std::uint64_t offset);
  /// Zeros up to a multiple of `alignment` from the start of the file.
  GgufBytes& pad(std::size_t alignment = 32);
  GgufBytes& zeros(std::size_t count);
  /// 0, 1, 2, ... 255, 0, ...
  GgufBytes& data(std::size_t count);

  std::size_t size() const { return bytes_.size(); }
  const Bytes& bytes() const { return bytes_; }

 private:
  std::uint32_t version_;
  bool is_big_endian_;
  Bytes bytes_;
};

/// A small valid GGUF file: two keys, an F32 tensor "a" {4, 2} and a Q8_0 tensor "b" {32, 2}, padded to the end.
GgufBytes small_gguf(std::uint32_t version = 3, bool is_big_endian = false);

/// A small valid safetensors file: F32 "a" [2, 3] and U8 "b" [4].
Bytes small_safetensors();

}  // namespace regauge::testing
