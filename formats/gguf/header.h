#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/finding.h"
#include "formats/gguf/keys.h"
#include "ir/metadata.h"

namespace regauge::gguf {

/// "GGUF", never in the other byte order. Source of this and of the layout: ggml-org/ggml docs/gguf.md.
inline constexpr std::string_view kMagic = "GGUF";

/// One tensor as the header lists it, its own fields checked, its place not yet.
struct TensorInfo {
  std::string name;
  std::vector<std::int64_t> ne;  ///< as in the file: fastest dimension first
  std::uint32_t type = 0;        ///< ggml's id, known or not, never a retired one
  std::uint64_t offset = 0;      ///< from the start of the data section
  std::uint64_t at = 0;          ///< where the header describes it
};

struct Header {
  std::uint32_t version = 3;
  bool is_big_endian = false;
  std::uint32_t alignment = kDefaultAlignment;
  Metadata metadata;
  std::vector<TensorInfo> tensors;
  std::vector<std::uint64_t> key_offsets;  ///< where each entry of `metadata` is written
  std::uint64_t header_bytes = 0;          ///< up to the end of the last tensor's description
  std::uint64_t data_offset = 0;           ///< header_bytes rounded up to the alignment
};

/// Reads the header of versions 1 to 3 in either byte order and checks everything that it alone can tell; oddities that
/// ggml accepts go to `tally`. Throws Error{malformed|unsupported} with file, key or tensor, and offset.
Header read_header(const File& file, FindingTally& tally);

}  // namespace regauge::gguf
