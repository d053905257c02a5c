#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace regauge {

/// Version of the zstd library that runs, "1.5.4": compressed bytes are reproducible for one version only.
std::string zstd_version();
/// The highest level that it knows.
int max_zstd_level();

/// One zstd frame that tells its content size, made by one thread; level 1 to max_zstd_level(). Throws Error{invalid} for
/// another level.
std::vector<std::byte> zstd_compress(std::span<const std::byte> bytes, int level);

/// Fills `out` from `frame`, which must be exactly one frame of exactly that content. Allocates nothing that depends on what
/// the frame claims. Throws Error{malformed}.
void zstd_decompress(std::span<const std::byte> frame, std::span<std::byte> out);

}  // namespace regauge
