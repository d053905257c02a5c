#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "base/error.h"

namespace regauge {

static_assert(std::endian::native == std::endian::little, "on-disk formats are little endian and so is this code");

/// Reads a little-endian number at `bytes`, whatever its alignment. The caller guarantees sizeof(T) readable bytes.
template <typename T>
  requires std::is_trivially_copyable_v<T>
T load_le(const std::byte* bytes) noexcept {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

template <typename T>
  requires std::is_trivially_copyable_v<T>
void store_le(std::byte* bytes, T value) noexcept {
  std::memcpy(bytes, &value, sizeof value);
}

template <typename T>
  requires std::is_trivially_copyable_v<T>
std::span<const std::byte> bytes_of(const T& value) noexcept {
  return std::as_bytes(std::span(&value, 1));
}

inline std::span<const std::byte> bytes_of(std::string_view text) noexcept {
  return std::as_bytes(std::span(text.data(), text.size()));
}

inline std::string_view text_of(std::span<const std::byte> bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// A cursor over untrusted bytes: every step is checked and fails as Error{malformed} with the offset of the step.
/// `base` is the file offset of the first byte, so that messages speak of the file.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes, std::uint64_t base = 0) : bytes_(bytes), base_(base) {}

  template <typename T>
    requires std::integral<T> || std::floating_point<T>
  T read(std::string_view what) {
    T value = load_le<T>(take(sizeof(T), what).data());
    if constexpr (sizeof(T) > 1) {
      if (swapped_) value = byteswap(value);
    }
    return value;
  }

  /// The next `count` bytes, still owned by the caller's buffer.
  std::span<const std::byte> take(std::uint64_t count, std::string_view what) {
    if (count > remaining()) {
      throw Error(ErrorCode::malformed, "{} takes {} bytes but only {} are left", what, count, remaining())
          .offset(offset());
    }
    const auto part = bytes_.subspan(position_, static_cast<std::size_t>(count));
    position_ += static_cast<std::size_t>(count);
    return part;
  }

  /// Numbers read from here on are of the other byte order.
  void swap_bytes(bool swapped) noexcept { swapped_ = swapped; }
  std::uint64_t offset() const noexcept { return base_ + position_; }
  std::uint64_t remaining() const noexcept { return bytes_.size() - position_; }

  template <typename T>
  static T byteswap(T value) noexcept {
    std::byte raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof raw);
    for (std::size_t i = 0; i < sizeof raw / 2; ++i) std::swap(raw[i], raw[sizeof raw - 1 - i]);
    std::memcpy(&value, raw, sizeof raw);
    return value;
  }

 private:
  std::span<const std::byte> bytes_;
  std::uint64_t base_;
  std::size_t position_ = 0;
  bool swapped_ = false;
};

}  // namespace regauge
