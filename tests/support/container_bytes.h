#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/digest.h"
#include "tests/support/builders.h"

namespace regauge::testing {

/// A container put together by hand after formats/container/README.md, sharing nothing with the writer, so that each field
/// can be set wrong. What is empty is left out. Root and digests are right unless they are given.
struct ContainerBytes {
  struct Part {
    std::string name;
    Bytes bytes;
  };

  std::uint32_t version = 1;
  std::uint32_t version_type = 4;
  std::string format = "safetensors";
  std::string entry;
  std::vector<std::string> files;
  std::vector<std::string> sidecars;
  std::vector<std::string> arrays;
  std::vector<std::string> tensors;
  std::string codec = "none";
  std::vector<Part> parts;  ///< as stored
  std::vector<Bytes> raw;   ///< of a compressed container: each part's raw bytes
  std::uint32_t chunk_bytes = 1024;
  std::vector<std::uint32_t> chunk_stored;
  std::vector<std::uint8_t> chunk_coding;
  std::vector<std::string> chunk_digests;
  std::vector<std::string> digests;
  std::string root;
  std::vector<std::pair<std::string, std::size_t>> key_offsets = {};  ///< filled by build()

  static void add_number(Bytes& out, std::uint64_t number) {
    const auto bytes = std::as_bytes(std::span(&number, 1));
    out.insert(out.end(), bytes.begin(), bytes.end());
  }
  static void add_text(Bytes& out, std::string_view text) {
    add_number(out, text.size());
    const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
    out.insert(out.end(), bytes.begin(), bytes.end());
  }

  /// The bytes that the root digest is of.
  Bytes root_input() const {
    Bytes out;
    for (const std::string* text : {&format, &entry}) {
      add_number(out, 1);
      add_text(out, *text);
    }
    for (const auto* list : {&files, &sidecars, &arrays, &tensors}) {
      add_number(out, list->size());
      for (const std::string& text : *list) add_text(out, text);
    }
    add_number(out, digests.size());
    for (const std::string& digest : digests) {
      // Sixteen digits of the high half, then of the low one; the low one goes first, each little endian.
      add_number(out, std::stoull(digest.substr(16), nullptr, 16));
      add_number(out, std::stoull(digest.substr(0, 16), nullptr, 16));
    }
    return out;
  }

  Bytes build() {
    if (digests.empty()) {
      for (std::size_t i = 0; i < parts.size(); ++i) {
        digests.push_back(hex(Xxh3_128::of(raw.empty() ? parts[i].bytes : raw[i])));
      }
    }
    if (root.empty()) root = hex(Xxh3_128::of(root_input()));
    GgufBytes keys;
    std::uint64_t count = 0;
    constexpr std::size_t kPreamble = 24;
    const auto key = [&](const std::string& name, std::uint32_t type) -> GgufBytes& {
      key_offsets.emplace_back("regauge.container." + name, kPreamble + keys.size());
      ++count;
      return keys.key("regauge.container." + name, type);
    };
    const auto texts = [&](const std::string& name, const std::vector<std::string>& list) {
      if (list.empty()) return;
      key(name, 9).array(8, list.size());
      for (const std::string& text : list) keys.string(text);
    };
    if (version_type == 4) {
      key("version", 4).u32(version);
    } else {
      key("version", version_type).u64(version);
    }
    key("format", 8).string(format);
    key("entry", 8).string(entry);
    texts("files", files);
    texts("sidecars", sidecars);
    texts("arrays", arrays);
    texts("tensors", tensors);
    key("codec", 8).string(codec);
    if (!raw.empty()) {
      key("chunk_bytes", 4).u32(chunk_bytes);
      key("chunk_stored", 9).array(4, chunk_stored.size());
      for (const std::uint32_t bytes : chunk_stored) keys.u32(bytes);
      key("chunk_coding", 9).array(0, chunk_coding.size());
      for (const std::uint8_t coding : chunk_coding) keys.u8(coding);
      texts("chunk_digests", chunk_digests);
    }
    texts("digests", digests);
    key("root", 8).string(root);
    GgufBytes file;
    file.preamble(parts.size(), count).raw(keys.bytes());
    constexpr std::uint32_t kI8 = 24;
    std::uint64_t offset = 0;
    for (const Part& part : parts) {
      file.tensor(part.name, {part.bytes.size()}, kI8, offset);
      offset += (part.bytes.size() + 31) / 32 * 32;
    }
    file.pad();
    for (const Part& part : parts) file.raw(part.bytes).pad();
    return file.bytes();
  }

  std::size_t offset_of(const std::string& key) const {
    for (const auto& [name, offset] : key_offsets) {
      if (name == "regauge.container." + key) return offset;
    }
    return 0;
  }
};

/// A directory of one safetensors file, F32 "a" [2, 3] and U8 "b" [4], and one sidecar.
inline ContainerBytes small_container() {
  const Bytes file = small_safetensors();
  const std::size_t header = file.size() - 28;
  const auto piece = [&](std::size_t begin, std::size_t end) {
    return Bytes(file.begin() + static_cast<std::ptrdiff_t>(begin), file.begin() + static_cast<std::ptrdiff_t>(end));
  };
  const std::string size = std::to_string(file.size());
  const auto at = [&](std::size_t offset) { return std::to_string(header + offset); };
  ContainerBytes out;
  out.files = {R"({"name":"model.safetensors","bytes":)" + size + "}"};
  out.sidecars = {R"({"name":"notes/readme.txt","bytes":5})"};
  out.arrays = {R"({"name":"a","element":"F32","shape":[2,3],"file":0,"offset":)" + at(0) + R"(,"bytes":24})",
                R"({"name":"b","element":"U8","shape":[4],"file":0,"offset":)" + at(24) + R"(,"bytes":4})"};
  out.tensors = {R"({"name":"a","encoding":"F32","shape":[2,3],"arrays":[0]})",
                 R"({"name":"b","encoding":"U8","shape":[4],"arrays":[1]})"};
  const auto text = std::as_bytes(std::span("hello", 5));
  out.parts = {{"f0.skeleton", piece(0, header)},
               {"s0", Bytes(text.begin(), text.end())},
               {"f0.a0", piece(header, header + 24)},
               {"f0.a1", piece(header + 24, header + 28)}};
  return out;
}

}  // namespace regauge::testing
