#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "formats/format.h"

namespace regauge::mlx {

/// Nothing when MLX can load the array, else the reason: it reads fewer dtypes than safetensors has.
std::optional<std::string> can_hold(const ArrayPlan& array);

/// A writer of a directory as mlx-lm lays it out: an index even for one file, header keys sorted. Unlike MLX's own, headers
/// are padded and arrays lie by falling element size, so that every one is aligned; MLX goes by the offsets.
std::unique_ptr<Writer> create_writer(const std::filesystem::path& target, const WriteOptions& options);

/// `total_parameters` of the index: elements of the leaf modules, packed weights by the width that the config.json among
/// `files` gives them, or else the only one that their shapes allow; nothing when a width stays unknown. Parameters of
/// modules that hold others (A_log, dt_bias) do not count. Source: ml-explore/mlx-lm mlx_lm/utils.py,
/// get_total_parameters.
std::optional<std::uint64_t> count_parameters(std::span<const ArrayPlan> arrays, std::span<const CarriedFile> files);

}  // namespace regauge::mlx
