#include "tests/support/gguf_keys.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "tests/support/golden.h"

namespace regauge::testing {
namespace {

class Bytes {
 public:
  explicit Bytes(std::vector<std::byte> data) : data_(std::move(data)) {}

  template <typename T>
  T take() {
    T value{};
    std::memcpy(&value, need(sizeof(T)), sizeof(T));
    return value;
  }
  std::string text() {
    const auto size = static_cast<std::size_t>(take<std::uint64_t>());
    return {reinterpret_cast<const char*>(need(size)), size};
  }

  std::uint64_t at() const { return at_; }

 private:
  const std::byte* need(std::size_t count) {
    if (count > data_.size() - at_) throw std::runtime_error("GGUF file ends early");
    const std::byte* here = data_.data() + at_;
    at_ += count;
    return here;
  }

  std::vector<std::byte> data_;
  std::size_t at_ = 0;
};

template <typename T>
MetaArray array_of(Bytes& bytes, MetaType type, std::uint64_t count) {
  std::vector<T> values;
  for (std::uint64_t i = 0; i < count; ++i) {
    if constexpr (std::is_same_v<T, std::string>) {
      values.push_back(bytes.text());
    } else {
      values.push_back(bytes.take<T>());
    }
  }
  return {type, std::move(values)};
}

MetaArray read_array(Bytes& bytes) {
  const auto type = static_cast<MetaType>(bytes.take<std::uint32_t>());
  const auto count = bytes.take<std::uint64_t>();
  switch (type) {
    case MetaType::u8:
    case MetaType::boolean: return array_of<std::uint8_t>(bytes, type, count);
    case MetaType::i8: return array_of<std::int8_t>(bytes, type, count);
    case MetaType::u16: return array_of<std::uint16_t>(bytes, type, count);
    case MetaType::i16: return array_of<std::int16_t>(bytes, type, count);
    case MetaType::u32: return array_of<std::uint32_t>(bytes, type, count);
    case MetaType::i32: return array_of<std::int32_t>(bytes, type, count);
    case MetaType::f32: return array_of<float>(bytes, type, count);
    case MetaType::u64: return array_of<std::uint64_t>(bytes, type, count);
    case MetaType::i64: return array_of<std::int64_t>(bytes, type, count);
    case MetaType::f64: return array_of<double>(bytes, type, count);
    case MetaType::string: return array_of<std::string>(bytes, type, count);
    case MetaType::array: break;
  }
  throw std::runtime_error("GGUF array of an unknown type");
}

MetaValue read_value(Bytes& bytes) {
  switch (static_cast<MetaType>(bytes.take<std::uint32_t>())) {
    case MetaType::u8: return bytes.take<std::uint8_t>();
    case MetaType::i8: return bytes.take<std::int8_t>();
    case MetaType::u16: return bytes.take<std::uint16_t>();
    case MetaType::i16: return bytes.take<std::int16_t>();
    case MetaType::u32: return bytes.take<std::uint32_t>();
    case MetaType::i32: return bytes.take<std::int32_t>();
    case MetaType::f32: return bytes.take<float>();
    case MetaType::boolean: return bytes.take<std::uint8_t>() != 0;
    case MetaType::string: return bytes.text();
    case MetaType::array: return read_array(bytes);
    case MetaType::u64: return bytes.take<std::uint64_t>();
    case MetaType::i64: return bytes.take<std::int64_t>();
    case MetaType::f64: return bytes.take<double>();
  }
  throw std::runtime_error("GGUF key of an unknown type");
}

}  // namespace

const MetaValue* GgufKeys::find(const std::string& key) const {
  const auto found = std::ranges::find(keys, key, &Metadata::Entry::first);
  return found == keys.end() ? nullptr : &found->second;
}

GgufKeys read_gguf_keys(const std::filesystem::path& path) {
  Bytes bytes(read_whole_file(path));
  if (bytes.take<std::uint32_t>() != 0x46554747) throw std::runtime_error("not a GGUF file");
  const auto version = bytes.take<std::uint32_t>();
  if (version != 2 && version != 3) throw std::runtime_error("GGUF version not read here");
  const auto tensors = bytes.take<std::uint64_t>();
  const auto keys = bytes.take<std::uint64_t>();
  GgufKeys out;
  for (std::uint64_t i = 0; i < keys; ++i) {
    std::string key = bytes.text();
    MetaValue value = read_value(bytes);
    out.keys.emplace_back(std::move(key), std::move(value));
  }
  for (std::uint64_t i = 0; i < tensors; ++i) {
    GgufKeys::Info& info = out.tensors.emplace_back();
    info.name = bytes.text();
    const auto rank = bytes.take<std::uint32_t>();
    for (std::uint32_t axis = 0; axis < rank; ++axis) {
      info.shape.insert(info.shape.begin(), static_cast<std::int64_t>(bytes.take<std::uint64_t>()));
    }
    info.type = bytes.take<std::uint32_t>();
    info.offset = bytes.take<std::uint64_t>();
  }
  const MetaValue* alignment = out.find("general.alignment");
  const std::uint64_t step = alignment == nullptr ? 32 : std::get<std::uint32_t>(*alignment);
  out.data_offset = (bytes.at() + step - 1) / step * step;
  return out;
}

}  // namespace regauge::testing
