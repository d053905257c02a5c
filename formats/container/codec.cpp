#include "formats/container/codec.h"

#include <algorithm>

#include "base/error.h"
#include "base/zstd.h"

namespace regauge::container {
namespace {

std::vector<std::byte> split_planes(std::span<const std::byte> chunk) {
  const std::size_t half = chunk.size() / 2;
  std::vector<std::byte> planes(chunk.size());
  for (std::size_t i = 0; i < half; ++i) {
    planes[i] = chunk[2 * i];
    planes[half + i] = chunk[2 * i + 1];
  }
  return planes;
}

}  // namespace

EncodedChunk encode_chunk(std::span<const std::byte> chunk, bool planes, int level) {
  planes = planes && chunk.size() % 2 == 0;
  EncodedChunk encoded{planes ? Coding::zstd_planes : Coding::zstd,
                       planes ? zstd_compress(split_planes(chunk), level) : zstd_compress(chunk, level)};
  if (encoded.bytes.size() >= chunk.size()) return {};
  return encoded;
}

void decode_chunk(Coding coding, std::span<const std::byte> stored, std::span<std::byte> chunk) {
  switch (coding) {
    case Coding::raw:
      if (stored.size() != chunk.size()) throw Error(ErrorCode::malformed, "a raw chunk has another size");
      std::ranges::copy(stored, chunk.begin());
      return;
    case Coding::zstd: return zstd_decompress(stored, chunk);
    case Coding::zstd_planes: {
      if (chunk.size() % 2 != 0) throw Error(ErrorCode::malformed, "a chunk of 16-bit elements has an odd size");
      std::vector<std::byte> planes(chunk.size());
      zstd_decompress(stored, planes);
      const std::size_t half = chunk.size() / 2;
      for (std::size_t i = 0; i < half; ++i) {
        chunk[2 * i] = planes[i];
        chunk[2 * i + 1] = planes[half + i];
      }
      return;
    }
  }
  throw Error(ErrorCode::malformed, "a chunk is stored in an unknown way");
}

}  // namespace regauge::container
