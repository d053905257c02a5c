#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace regauge {

/// The value types of GGUF keys, with their ids on disk. Source: ggml-org/ggml docs/gguf.md.
enum class MetaType : std::uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12,
};

std::string_view name(MetaType type);

/// Array elements in memory: numbers as their own type, booleans as bytes (0 or 1), strings whole.
using MetaElements =
    std::variant<std::vector<std::uint8_t>, std::vector<std::int8_t>, std::vector<std::uint16_t>,
                 std::vector<std::int16_t>, std::vector<std::uint32_t>, std::vector<std::int32_t>, std::vector<float>,
                 std::vector<std::uint64_t>, std::vector<std::int64_t>, std::vector<double>, std::vector<std::string>>;

struct MetaArray {
  MetaType element = MetaType::string;  ///< tells boolean from u8, which share a vector type
  MetaElements values;
  std::size_t size() const;
  bool operator==(const MetaArray&) const = default;
};

using MetaValue = std::variant<std::uint8_t, std::int8_t, std::uint16_t, std::int16_t, std::uint32_t, std::int32_t,
                               float, bool, std::string, MetaArray, std::uint64_t, std::int64_t, double>;

MetaType type_of(const MetaValue& value);
/// For tables: scalars in full, arrays as "[248320 x string]".
std::string to_string(const MetaValue& value);

/// Ordered, typed key-value pairs: GGUF keys, or the strings of a safetensors `__metadata__`. Keys are unique.
class Metadata {
 public:
  using Entry = std::pair<std::string, MetaValue>;

  const std::vector<Entry>& entries() const noexcept { return entries_; }
  bool empty() const noexcept { return entries_.empty(); }
  const MetaValue* find(std::string_view key) const;

  /// Replaces the value in place, or appends.
  void set(std::string_view key, MetaValue value);
  void erase(std::string_view key);
  /// Appends without looking whether the key is there: for readers that have checked a quarter of a million of them in
  /// one go.
  void append(std::string key, MetaValue value) { entries_.emplace_back(std::move(key), std::move(value)); }

  /// Typed look-ups: nothing when the key is absent; Error{malformed} naming the key when it has another type.
  /// `get_uint` takes any integer type that holds a non-negative value.
  std::optional<std::uint64_t> get_uint(std::string_view key) const;
  std::optional<double> get_float(std::string_view key) const;
  std::optional<bool> get_bool(std::string_view key) const;
  std::optional<std::string> get_string(std::string_view key) const;
  const MetaArray* get_array(std::string_view key) const;

 private:
  std::vector<Entry> entries_;
};

}  // namespace regauge
