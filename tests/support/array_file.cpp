#include "tests/support/array_file.h"

#include <cstring>
#include <utility>

#include <nlohmann/json.hpp>

namespace regauge::testing {

ArrayFile& ArrayFile::add(std::string name, std::string dtype, std::vector<std::int64_t> shape,
                          std::span<const std::byte> bytes) {
  drop(name);
  arrays_.push_back({std::move(name), std::move(dtype), std::move(shape), {bytes.begin(), bytes.end()}});
  return *this;
}

ArrayFile& ArrayFile::fill(std::string name, std::string dtype, std::vector<std::int64_t> shape, std::size_t bytes,
                           std::uint8_t fill) {
  return add(std::move(name), std::move(dtype), std::move(shape), std::vector<std::byte>(bytes, std::byte{fill}));
}

ArrayFile& ArrayFile::drop(std::string_view name) {
  std::erase_if(arrays_, [&](const Array& array) { return array.name == name; });
  return *this;
}

void ArrayFile::write(const std::filesystem::path& path) const {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  std::size_t offset = 0;
  for (const Array& array : arrays_) {
    header[array.name] = {
        {"dtype", array.dtype}, {"shape", array.shape}, {"data_offsets", {offset, offset + array.bytes.size()}}};
    offset += array.bytes.size();
  }
  const std::string text = header.dump();
  std::vector<std::byte> file(8 + text.size() + offset);
  const std::uint64_t length = text.size();
  std::memcpy(file.data(), &length, 8);
  std::memcpy(file.data() + 8, text.data(), text.size());
  std::byte* at = file.data() + 8 + text.size();
  for (const Array& array : arrays_) {
    if (!array.bytes.empty()) std::memcpy(at, array.bytes.data(), array.bytes.size());
    at += array.bytes.size();
  }
  write_whole_file(path, file);
}

void write_text(const std::filesystem::path& path, std::string_view text) {
  write_whole_file(path, std::as_bytes(std::span(text.data(), text.size())));
}

}  // namespace regauge::testing
