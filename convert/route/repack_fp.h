#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "convert/route/row_maker.h"

namespace regauge {

/// Small floats with a scale byte per group, as three formats share them: mxfp4 (e2m1, e8m0 over 32), nvfp4 (e2m1, e4m3
/// over 16) and mxfp8 (e4m3, e8m0 over 32).
enum class FloatBlocks : std::uint8_t { mxfp4, nvfp4, mxfp8 };

/// As MLX calls the mode.
std::string_view name(FloatBlocks blocks);
int code_bits(FloatBlocks blocks);
std::int64_t group_size(FloatBlocks blocks);

/// Which of them an encoding is.
std::optional<FloatBlocks> float_blocks_of(const Encoding& encoding);

/// Where a repack ends up.
enum class FloatTarget : std::uint8_t { ggml, mlx };

/// Which of them the sources of a target are, or why codes and scales cannot be carried over as they are. Reads every
/// scale: ggml and MLX read e8m0 255 and e4m3 bytes from 0x7F on differently. mxfp8 has no ggml type.
std::variant<FloatBlocks, std::string> plan_float_repack(const Target& target, FloatTarget to);

/// ggml: bands of blocks. MLX: bands of weight and scales. `target` must outlive the result.
RowMakerPtr make_float_repack(const Target& target, FloatBlocks blocks, FloatTarget to);

}  // namespace regauge
