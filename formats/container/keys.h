#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "formats/gguf/header.h"
#include "ir/metadata.h"

namespace regauge::container {

// Those that both the writer and the reader name; the others are where they are written and read.
inline constexpr std::string_view kCodecKey = "regauge.container.codec";
inline constexpr std::string_view kDigestsKey = "regauge.container.digests";
inline constexpr std::string_view kRootKey = "regauge.container.root";

inline constexpr std::string_view kNoCodec = "none";
inline constexpr std::string_view kZstdCodec = "zstd";

/// Typed looks at the keys of a container's header; what is missing or of another type is Error{malformed} with file, key
/// and offset.
class KeyReader {
 public:
  KeyReader(const gguf::Header& header, const std::string& path) : header_(header), path_(path) {}

  template <typename T>
  const T& get(std::string_view key) const {
    const T* value = std::get_if<T>(&value_of(key));
    if (value == nullptr) throw fail(key, "is not of the type that it should be");
    return *value;
  }

  /// The elements of an array of T; `element` tells booleans from bytes.
  template <typename T>
  const std::vector<T>& list(std::string_view key, MetaType element) const {
    const auto& array = get<MetaArray>(key);
    if (array.element != element) throw fail(key, "is not an array of {}", regauge::name(element));
    return std::get<std::vector<T>>(array.values);
  }

  const std::vector<std::string>& texts(std::string_view key) const { return list<std::string>(key, MetaType::string); }

  bool has(std::string_view key) const { return header_.metadata.find(key) != nullptr; }
  const std::string& path() const noexcept { return path_; }

  template <typename... Args>
  Error fail(std::string_view key, fmt::format_string<Args...> format, Args&&... args) const {
    return fault(key, fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  const MetaValue& value_of(std::string_view key) const;
  Error fault(std::string_view key, const std::string& reason) const;

  const gguf::Header& header_;
  const std::string& path_;
};

}  // namespace regauge::container
