#include "formats/gguf/header_bytes.h"

#include <concepts>
#include <string>
#include <utility>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/text.h"

namespace regauge::gguf {
namespace {

constexpr std::uint32_t kVersion = 3;

/// Bytes of a header, growing.
class HeaderBytes {
 public:
  template <typename T>
    requires std::integral<T> || std::floating_point<T>
  void add(T value) {
    const auto bytes = bytes_of(value);
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }

  void add_raw(std::string_view text) {
    const auto bytes = bytes_of(text);
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }

  void add(const std::string& text) {
    if (text.size() > kMaxGgufStringBytes) {
      throw Error(ErrorCode::unsupported, "a string of {} bytes is more than ggml reads", text.size());
    }
    add<std::uint64_t>(text.size());
    add_raw(text);
  }

  void add(bool value) { add<std::uint8_t>(value ? 1 : 0); }

  void add(const MetaArray& array) {
    if (array.element == MetaType::array) throw Error(ErrorCode::unsupported, "ggml does not read arrays of arrays");
    if (array.size() > kMaxGgufArrayElements) {
      throw Error(ErrorCode::unsupported, "an array of {} elements is more than ggml reads", array.size());
    }
    add(static_cast<std::uint32_t>(array.element));
    add<std::uint64_t>(array.size());
    std::visit([this](const auto& values) { add_elements(values); }, array.values);
  }

  void add(const MetaValue& value) {
    add(static_cast<std::uint32_t>(type_of(value)));
    std::visit([this](const auto& alternative) { add(alternative); }, value);
  }

  void pad() { bytes_.resize(round_up(bytes_.size(), kDefaultAlignment)); }
  std::uint64_t size() const noexcept { return bytes_.size(); }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  template <typename T>
  void add_elements(const std::vector<T>& values) {
    const auto bytes = std::as_bytes(std::span(values));
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }

  void add_elements(const std::vector<std::string>& values) {
    for (const std::string& value : values) add(value);
  }

  std::vector<std::byte> bytes_;
};

}  // namespace

std::vector<std::byte> header_bytes(std::span<const Metadata::Entry* const> keys, std::span<const TensorInfo> tensors) {
  HeaderBytes header;
  header.add_raw(kMagic);
  header.add(kVersion);
  header.add<std::uint64_t>(tensors.size());
  header.add<std::uint64_t>(keys.size());
  for (const Metadata::Entry* entry : keys) {
    try {
      header.add(entry->first);
      header.add(entry->second);
    } catch (const Error& error) {
      throw Error(error.code(), "key '{}': {}", excerpt(entry->first), error.message());
    }
  }
  for (const TensorInfo& tensor : tensors) {
    header.add(tensor.name);
    header.add(static_cast<std::uint32_t>(tensor.ne.size()));
    for (const std::int64_t dim : tensor.ne) header.add(dim);
    header.add(tensor.type);
    header.add(tensor.offset);
  }
  if (!tensors.empty()) header.pad();
  return header.take();
}

}  // namespace regauge::gguf
