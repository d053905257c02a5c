#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace regauge::container {

/// How a chunk is stored; the numbers are those on disk.
enum class Coding : std::uint8_t {
  raw = 0,
  zstd = 1,
  zstd_planes = 2,  ///< one zstd frame of all low bytes, then all high bytes, of 16-bit elements
};

struct EncodedChunk {
  Coding coding = Coding::raw;
  std::vector<std::byte> bytes;  ///< empty when raw: the chunk itself is what is stored
};

/// Compresses a chunk; `planes` for elements of 16 bits. What does not get smaller stays raw.
EncodedChunk encode_chunk(std::span<const std::byte> chunk, bool planes, int level);

/// Fills `chunk` from what is stored. Throws Error{malformed}.
void decode_chunk(Coding coding, std::span<const std::byte> stored, std::span<std::byte> chunk);

}  // namespace regauge::container
