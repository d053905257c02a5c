#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "convert/encode/kernels.h"
#include "ir/ggml_type.h"

namespace regauge::ggml_encode {

/// encode_ggml() by the kernels given, which must be among kernels_here(): how tests reach those that are not the fastest.
void encode_ggml_with(const Kernels& kernels, BlockType type, std::int64_t columns, std::span<const float> values,
                      std::span<const float> importance, std::span<std::byte> blocks);

}  // namespace regauge::ggml_encode
