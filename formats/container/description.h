#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "formats/gguf/header.h"
#include "ir/metadata.h"
#include "ir/shape.h"

namespace regauge::container {

/// What is written and what is read; README.md has the layout.
inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::string_view kVersionKey = "regauge.container.version";

/// A file as it was: one that holds arrays, or one that lay beside them.
struct Member {
  std::string name;  ///< relative to the checkpoint's directory
  std::uint64_t bytes = 0;
};

/// A stored array of one of the files. Name, element type and shape are for people and other programs: the reader of the
/// original format takes them from the file's own header.
struct Array {
  std::string name;
  std::string element;  ///< "BF16", "Q4_0", "opaque ..."
  Shape shape;
  std::size_t file = 0;
  std::uint64_t offset = 0;  ///< in the file
  std::uint64_t bytes = 0;
};

/// A number that arrays make up, as the writer saw it.
struct LogicalTensor {
  std::string name;
  std::string encoding;  ///< "u4 g128 f16 zp"
  Shape shape;
  std::vector<std::size_t> arrays;
  std::optional<Digest128> value_digest;
};

/// Everything that a container says about what it holds.
struct Description {
  std::string format;  ///< of the original: "gptq", "gguf"
  std::string entry;   ///< the file that was opened; empty when the whole directory was
  std::vector<Member> files;
  std::vector<Member> sidecars;
  std::vector<Array> arrays;  ///< by file, then by offset, without overlap
  std::vector<LogicalTensor> tensors;
};

/// The description as keys, in the order in which they are written.
Metadata description_keys(const Description& description);

/// Reads and checks the description that a header carries: names that stay inside their directory, arrays that lie in
/// their files one behind the other. Throws Error{malformed} with `path`, key and offset.
Description read_description(const gguf::Header& header, const std::string& path);

/// What is wrong with the name of a file or sidecar, or null.
const char* member_name_fault(std::string_view name);

/// XXH3-128 over the description's texts and the digests of all parts: see README.md.
Digest128 root_digest(const Metadata& description, const std::vector<Digest128>& part_digests);

}  // namespace regauge::container
