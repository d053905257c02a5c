#include "base/zstd.h"

#include <zstd.h>

#include "base/error.h"

namespace regauge {

std::string zstd_version() { return ZSTD_versionString(); }

int max_zstd_level() { return ZSTD_maxCLevel(); }

std::vector<std::byte> zstd_compress(std::span<const std::byte> bytes, int level) {
  if (level < 1 || level > max_zstd_level()) {
    throw Error(ErrorCode::invalid, "zstd levels go from 1 to {}, and {} is none", max_zstd_level(), level);
  }
  std::vector<std::byte> frame(ZSTD_compressBound(bytes.size()));
  const std::size_t size = ZSTD_compress(frame.data(), frame.size(), bytes.data(), bytes.size(), level);
  if (ZSTD_isError(size) != 0) throw Error(ErrorCode::internal, "zstd does not compress: {}", ZSTD_getErrorName(size));
  frame.resize(size);
  return frame;
}

void zstd_decompress(std::span<const std::byte> frame, std::span<std::byte> out) {
  // Looked at first: the decoder would read any number of frames, skippable ones too, one behind the other.
  const unsigned long long content = ZSTD_getFrameContentSize(frame.data(), frame.size());
  if (content == ZSTD_CONTENTSIZE_ERROR) throw Error(ErrorCode::malformed, "not a zstd frame");
  if (content == ZSTD_CONTENTSIZE_UNKNOWN || content != out.size()) {
    throw Error(ErrorCode::malformed, "a zstd frame does not hold the {} bytes it should", out.size());
  }
  const std::size_t extent = ZSTD_findFrameCompressedSize(frame.data(), frame.size());
  if (ZSTD_isError(extent) != 0 || extent != frame.size()) {
    throw Error(ErrorCode::malformed, "a zstd frame does not end where it should");
  }
  const std::size_t size = ZSTD_decompress(out.data(), out.size(), frame.data(), frame.size());
  if (ZSTD_isError(size) != 0) {
    throw Error(ErrorCode::malformed, "a zstd frame is damaged: {}", ZSTD_getErrorName(size));
  }
  if (size != out.size()) throw Error(ErrorCode::malformed, "a zstd frame holds {} bytes, not {}", size, out.size());
}

}  // namespace regauge
