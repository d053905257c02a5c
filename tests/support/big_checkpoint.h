#pragma once

#include <cstdint>
#include <filesystem>

namespace regauge::testing {

/// Writes a safetensors file of `tensors` BF16 matrices [rows, columns], all values finite, most of which F16 has to round
/// no further than to a denormal; the same bytes for the same arguments. Written piece by piece: any size will do.
void write_big_safetensors(const std::filesystem::path& path, int tensors, std::int64_t rows, std::int64_t columns);

}  // namespace regauge::testing
