#include "ir/metadata.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/error.h"

namespace regauge {
namespace {

Error wrong_type(std::string_view key, std::string_view wanted, const MetaValue& value) {
  return Error(ErrorCode::malformed, "key '{}' is {} where {} is expected", key, name(type_of(value)), wanted);
}

}  // namespace

std::string_view name(MetaType type) {
  constexpr std::array<std::string_view, 13> kNames{"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                    "bool", "string", "array", "u64", "i64", "f64"};
  return kNames.at(static_cast<std::size_t>(type));
}

std::size_t MetaArray::size() const {
  return std::visit([](const auto& v) { return v.size(); }, values);
}

// The alternatives of MetaValue stand in the order of the ids on disk.
MetaType type_of(const MetaValue& value) { return static_cast<MetaType>(value.index()); }

std::string to_string(const MetaValue& value) {
  if (const auto* array = std::get_if<MetaArray>(&value))
    return fmt::format("[{} x {}]", array->size(), name(array->element));
  return std::visit(
      [](const auto& v) -> std::string {
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, MetaArray>) {
          return {};
        } else {
          return fmt::format("{}", v);
        }
      },
      value);
}

const MetaValue* Metadata::find(std::string_view key) const {
  const auto found = std::ranges::find(entries_, key, &Entry::first);
  return found == entries_.end() ? nullptr : &found->second;
}

void Metadata::set(std::string_view key, MetaValue value) {
  const auto found = std::ranges::find(entries_, key, &Entry::first);
  if (found == entries_.end()) {
    entries_.emplace_back(std::string(key), std::move(value));
  } else {
    found->second = std::move(value);
  }
}

void Metadata::erase(std::string_view key) {
  std::erase_if(entries_, [&](const Entry& entry) { return entry.first == key; });
}

std::optional<std::uint64_t> Metadata::get_uint(std::string_view key) const {
  const MetaValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  return std::visit(
      [&](const auto& v) -> std::uint64_t {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
          if (v >= T{0}) return static_cast<std::uint64_t>(v);
        }
        throw wrong_type(key, "a non-negative integer", *value);
      },
      *value);
}

std::optional<double> Metadata::get_float(std::string_view key) const {
  const MetaValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* f = std::get_if<float>(value)) return *f;
  if (const auto* d = std::get_if<double>(value)) return *d;
  throw wrong_type(key, "a float", *value);
}

std::optional<bool> Metadata::get_bool(std::string_view key) const {
  const MetaValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* b = std::get_if<bool>(value)) return *b;
  throw wrong_type(key, "a bool", *value);
}

std::optional<std::string> Metadata::get_string(std::string_view key) const {
  const MetaValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* s = std::get_if<std::string>(value)) return *s;
  throw wrong_type(key, "a string", *value);
}

const MetaArray* Metadata::get_array(std::string_view key) const {
  const MetaValue* value = find(key);
  if (value == nullptr) return nullptr;
  if (const auto* a = std::get_if<MetaArray>(value)) return a;
  throw wrong_type(key, "an array", *value);
}

}  // namespace regauge
