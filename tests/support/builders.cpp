#include "tests/support/builders.h"

namespace regauge::testing {
namespace {

void append_counting(Bytes& bytes, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) bytes.push_back(static_cast<std::byte>(i & 0xFFU));
}

}  // namespace

Bytes safetensors_bytes(std::string_view header, std::size_t data_bytes, std::optional<std::uint64_t> length) {
  const std::uint64_t written = length.value_or(header.size());
  Bytes bytes(sizeof written);
  std::memcpy(bytes.data(), &written, sizeof written);
  const auto text = std::as_bytes(std::span(header.data(), header.size()));
  bytes.insert(bytes.end(), text.begin(), text.end());
  append_counting(bytes, data_bytes);
  return bytes;
}

std::string safetensors_entry(std::string_view name, std::string_view dtype, std::string_view shape,
                              std::string_view data_offsets) {
  std::string text;
  text.append("\"").append(name).append(R"(":{"dtype":")").append(dtype).append(R"(","shape":)").append(shape);
  return text.append(R"(,"data_offsets":)").append(data_offsets).append("}");
}

GgufBytes& GgufBytes::length(std::uint64_t value) {
  return version_ == 1 ? u32(static_cast<std::uint32_t>(value)) : u64(value);
}

GgufBytes& GgufBytes::raw(std::string_view text) { return raw(std::as_bytes(std::span(text.data(), text.size()))); }

GgufBytes& GgufBytes::raw(std::span<const std::byte> bytes) {
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  return *this;
}

GgufBytes& GgufBytes::string(std::string_view text) { return length(text.size()).raw(text); }

GgufBytes& GgufBytes::preamble(std::uint64_t tensors, std::uint64_t keys) {
  return raw("GGUF").u32(version_).length(tensors).length(keys);
}

GgufBytes& GgufBytes::key(std::string_view name, std::uint32_t type) { return string(name).u32(type); }

GgufBytes& GgufBytes::tensor(std::string_view name, std::initializer_list<std::uint64_t> ne, std::uint32_t type,
                             std::uint64_t offset) {
  string(name).u32(static_cast<std::uint32_t>(ne.size()));
  for (const std::uint64_t dim : ne) length(dim);
  return u32(type).u64(offset);
}

GgufBytes& GgufBytes::pad(std::size_t alignment) { return zeros((alignment - bytes_.size() % alignment) % alignment); }

GgufBytes& GgufBytes::zeros(std::size_t count) {
  bytes_.resize(bytes_.size() + count);
  return *this;
}

GgufBytes& GgufBytes::data(std::size_t count) {
  append_counting(bytes_, count);
  return *this;
}

GgufBytes small_gguf(std::uint32_t version, bool is_big_endian) {
  GgufBytes file(version, is_big_endian);
  file.preamble(2, 2).text_key("general.architecture", "llama").key("llama.block_count", 4).u32(1);
  // 32 bytes of F32 and two Q8_0 blocks of 34, the latter padded to 96.
  file.tensor("a", {4, 2}, 0, 0).tensor("b", {32, 2}, 8, 32).pad().data(32).data(68).zeros(28);
  return file;
}

Bytes small_safetensors() {
  return safetensors_bytes("{" + safetensors_entry("a", "F32", "[2,3]", "[0,24]") + "," +
                               safetensors_entry("b", "U8", "[4]", "[24,28]") + "}",
                           28);
}

}  // namespace regauge::testing
