#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "ir/dtype.h"
#include "ir/shape.h"

namespace regauge::safetensors {

/// One array as the header lists it. Offsets count from the start of the data section.
struct Entry {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

/// A header that has passed every check: entries by offset, tiling the data section without hole or overlap up to the
/// last byte of the file, each as long as its shape and dtype say.
struct Header {
  std::vector<Entry> entries;
  std::vector<std::pair<std::string, std::string>> metadata;  ///< `__metadata__`, in file order
  bool null_metadata = false;                                 ///< it was there, as null
  std::uint64_t data_offset = 0;                              ///< from the start of the file
};

/// Reads and checks the header, by the rules of the reference library and of the format's description. Throws
/// Error{malformed}, and Error{unsupported} for an unknown dtype or for what is another kind of file altogether, with
/// file, array and offset.
Header read_header(const File& file);

/// Whether `head`, the first bytes of a file of `size` bytes, could begin a safetensors file: a believable length, then
/// a brace.
bool looks_like_safetensors(std::span<const std::byte> head, std::uint64_t size);

/// What is wrong with an array's name, or null: one that could move a cursor or climb out of a folder is refused.
const char* name_fault(std::string_view name);

}  // namespace regauge::safetensors
