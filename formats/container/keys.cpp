#include "formats/container/keys.h"

#include <algorithm>

namespace regauge::container {

const MetaValue& KeyReader::value_of(std::string_view key) const {
  const MetaValue* value = header_.metadata.find(key);
  if (value == nullptr) throw fail(key, "is missing");
  return *value;
}

Error KeyReader::fault(std::string_view key, const std::string& reason) const {
  Error error(ErrorCode::malformed, "key '{}' {}", key, reason);
  const auto& entries = header_.metadata.entries();
  const auto found = std::ranges::find(entries, key, &Metadata::Entry::first);
  // A key that is missing is missing from the list of keys, which ends where the tensors begin or the header does.
  const auto index = static_cast<std::size_t>(found - entries.begin());
  const std::uint64_t at = index < header_.key_offsets.size() ? header_.key_offsets[index] : header_.header_bytes;
  return std::move(error.at(path_).offset(at));
}

}  // namespace regauge::container
