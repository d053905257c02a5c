#include "tests/support/patch.h"

#include <algorithm>
#include <bit>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "tests/support/gguf_keys.h"
#include "tests/support/golden.h"

namespace regauge::testing {
namespace {

template <typename Items>
auto& named(Items& items, const std::string& name) {
  for (auto& item : items) {
    if (item.name == name) return item;
  }
  throw std::runtime_error("nothing here is called " + name);
}

template <typename Items>
void erase_named(Items& items, const std::function<bool(const std::string&)>& predicate) {
  std::erase_if(items, [&](const auto& item) { return predicate(item.name); });
}

template <typename T>
void append(GgufBytes& file, const std::vector<T>& values) {
  for (const T& value : values) {
    if constexpr (std::is_same_v<T, std::string>) {
      file.string(value);
    } else {
      file.number(value);
    }
  }
}

void append(GgufBytes& file, const MetaValue& value) {
  file.u32(static_cast<std::uint32_t>(type_of(value)));
  std::visit(
      [&](const auto& held) {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, MetaArray>) {
          file.array(static_cast<std::uint32_t>(held.element), held.size());
          std::visit([&](const auto& values) { append(file, values); }, held.values);
        } else if constexpr (std::is_same_v<Held, std::string>) {
          file.string(held);
        } else if constexpr (std::is_same_v<Held, bool>) {
          file.u8(held ? 1 : 0);
        } else {
          file.number(held);
        }
      },
      value);
}

void write_arrays(const std::filesystem::path& path, const nlohmann::ordered_json& metadata,
                  const std::vector<SafetensorsPatch::Array>& arrays) {
  // Joined as text: an ordered object looks through all of its keys for each new one.
  std::string text;
  if (!metadata.is_null()) text = "\"__metadata__\":" + metadata.dump();
  Bytes data;
  for (const auto& array : arrays) {
    const nlohmann::ordered_json entry{{"dtype", array.dtype},
                                       {"shape", array.shape},
                                       {"data_offsets", {data.size(), data.size() + array.bytes.size()}}};
    text += (text.empty() ? "" : ",") + nlohmann::json(array.name).dump() + ":" + entry.dump();
    data.insert(data.end(), array.bytes.begin(), array.bytes.end());
  }
  text = "{" + text + "}";
  text.resize((text.size() + 7) / 8 * 8, ' ');
  Bytes file = safetensors_bytes(text, 0);
  file.insert(file.end(), data.begin(), data.end());
  write_whole_file(path, file);
}

}  // namespace

SafetensorsPatch::SafetensorsPatch(const std::filesystem::path& path) {
  const Bytes raw = read_whole_file(path);
  std::uint64_t length = 0;
  std::memcpy(&length, raw.data(), sizeof length);
  const auto* text = reinterpret_cast<const char*>(raw.data()) + sizeof length;
  const auto header = nlohmann::ordered_json::parse(text, text + length);
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      metadata = entry;
      continue;
    }
    const auto begin = sizeof length + length + entry["data_offsets"][0].get<std::uint64_t>();
    const auto end = sizeof length + length + entry["data_offsets"][1].get<std::uint64_t>();
    arrays.push_back(
        {name, entry["dtype"], entry["shape"].get<std::vector<std::int64_t>>(),
         Bytes(raw.begin() + static_cast<std::ptrdiff_t>(begin), raw.begin() + static_cast<std::ptrdiff_t>(end))});
  }
}

void SafetensorsPatch::save(const std::filesystem::path& path) const { write_arrays(path, metadata, arrays); }

void write_safetensors(const std::filesystem::path& path, const std::vector<SafetensorsPatch::Array>& arrays) {
  write_arrays(path, {{"format", "pt"}}, arrays);
}

SafetensorsPatch::Array& SafetensorsPatch::array(const std::string& name) { return named(arrays, name); }

std::vector<SafetensorsPatch::Array*> SafetensorsPatch::ending(const std::string& suffix) {
  std::vector<Array*> found;
  for (Array& array : arrays) {
    if (array.name.ends_with(suffix)) found.push_back(&array);
  }
  return found;
}

void SafetensorsPatch::erase(const std::function<bool(const std::string&)>& predicate) {
  erase_named(arrays, predicate);
}

GgufPatch::GgufPatch(const std::filesystem::path& path) {
  const GgufKeys header = read_gguf_keys(path);
  const Bytes raw = read_whole_file(path);
  keys = header.keys;
  for (std::size_t i = 0; i < header.tensors.size(); ++i) {
    const GgufKeys::Info& info = header.tensors[i];
    const std::uint64_t begin = header.data_offset + info.offset;
    // With the padding behind it, which save() makes anew: a row's size is no business of this reader.
    const std::uint64_t end =
        i + 1 < header.tensors.size() ? header.data_offset + header.tensors[i + 1].offset : raw.size();
    Bytes bytes(raw.begin() + static_cast<std::ptrdiff_t>(begin), raw.begin() + static_cast<std::ptrdiff_t>(end));
    tensors.push_back({info.name, info.shape, info.type, std::move(bytes)});
  }
}

void GgufPatch::save(const std::filesystem::path& path) const {
  GgufBytes file(version, is_big_endian);
  file.preamble(tensors.size(), keys.size());
  for (const auto& [key, value] : keys) {
    file.string(key);
    append(file, value);
  }
  const auto padded = [this](std::size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; };
  std::uint64_t offset = 0;
  for (const Tensor& one : tensors) {
    file.string(one.name).u32(static_cast<std::uint32_t>(one.shape.size()));
    for (std::size_t axis = one.shape.size(); axis-- > 0;) file.length(static_cast<std::uint64_t>(one.shape[axis]));
    file.u32(one.type).u64(offset);
    offset += padded(one.bytes.size());
  }
  file.pad(alignment);
  for (const Tensor& one : tensors) {
    Bytes bytes = one.bytes;
    const std::size_t width = one.type == 0 ? 4 : 2;  // F32; F16 and BF16
    for (std::size_t at = 0; is_big_endian && at + width <= bytes.size(); at += width)
      std::reverse(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                   bytes.begin() + static_cast<std::ptrdiff_t>(at + width));
    file.raw(bytes).zeros(padded(bytes.size()) - bytes.size());
  }
  write_whole_file(path, file.bytes());
}

GgufPatch::Tensor& GgufPatch::tensor(const std::string& name) { return named(tensors, name); }

void GgufPatch::erase(const std::function<bool(const std::string&)>& predicate) { erase_named(tensors, predicate); }

void GgufPatch::set(const std::string& key, MetaValue value) {
  const auto found = std::ranges::find(keys, key, &Metadata::Entry::first);
  if (found == keys.end()) {
    keys.emplace_back(key, std::move(value));
  } else {
    found->second = std::move(value);
  }
}

void GgufPatch::erase_key(const std::string& key) {
  std::erase_if(keys, [&](const Metadata::Entry& entry) { return entry.first == key; });
}

std::string read_text(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_text(const std::filesystem::path& path, const std::string& text) {
  write_whole_file(path, std::as_bytes(std::span(text.data(), text.size())));
}

void patch_json(const std::filesystem::path& path, const std::function<void(nlohmann::ordered_json&)>& change) {
  auto json = nlohmann::ordered_json::parse(read_text(path));
  change(json);
  write_text(path, json.dump(2));
}

std::vector<float> from_bf16(const Bytes& bytes) {
  std::vector<float> values(bytes.size() / 2);
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::uint16_t raw = 0;
    std::memcpy(&raw, bytes.data() + 2 * i, sizeof raw);
    values[i] = std::bit_cast<float>(static_cast<std::uint32_t>(raw) << 16U);
  }
  return values;
}

Bytes to_bf16(const std::vector<float>& values) {
  Bytes bytes(values.size() * 2);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto raw = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(values[i]) >> 16U);
    std::memcpy(bytes.data() + 2 * i, &raw, sizeof raw);
  }
  return bytes;
}

std::vector<float> from_f32(const Bytes& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

Bytes to_f32(const std::vector<float>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

}  // namespace regauge::testing
