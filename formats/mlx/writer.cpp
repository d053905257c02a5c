#include "formats/mlx/writer.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/limits.h"
#include "formats/mlx/config.h"
#include "formats/safetensors/directory_writer.h"
#include "formats/safetensors/writer.h"

namespace regauge::mlx {
namespace {

// Source: ml-explore/mlx mlx/io/safetensors.cpp, dtype_from_safetensor_str. It reads F8_E4M3 and F8_E8M0 as well, but as
// U8, after which nobody knows what they were.
constexpr std::array kDtypes{DType::f32, DType::bf16, DType::f16, DType::i64, DType::i32, DType::i16,    DType::i8,
                             DType::u64, DType::u32,  DType::u16, DType::u8,  DType::c64, DType::boolean};

using Leaves = std::map<std::string_view, const ArrayPlan*>;

std::string_view module_of(std::string_view name) {
  const auto dot = name.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : name.substr(0, dot);
}

/// The config.json that goes with the arrays, when it is one.
Config config_among(std::span<const CarriedFile> files) {
  const auto found = std::ranges::find(files, "config.json", &CarriedFile::name);
  const auto* text = found == files.end() ? nullptr : std::get_if<std::string>(&found->content);
  if (text == nullptr) return {};
  const Json json = parse_json(*text, found->name, {.duplicates = JsonDuplicates::keep_last});
  const Json* section = find_section(json);
  return section != nullptr ? Config(*section, found->name) : Config();
}

std::optional<int> width_of(const std::string& module, const ArrayPlan& weight, const ArrayPlan& scales,
                            const Config& config) {
  bool renamed = false;
  const Override* override = config.find(module, renamed);
  if (override != nullptr && override->settings) return override->settings->bits;
  if (config.global()) return config.global()->bits;
  const bool byte_scales = scales.element == decltype(scales.element)(DType::u8);
  const auto settings = settings_by_shape(weight.shape.columns(), scales.shape.columns(), byte_scales);
  return settings ? std::optional(settings->bits) : std::nullopt;
}

std::uint64_t elements_of(const ArrayPlan& array) { return static_cast<std::uint64_t>(array.shape.elements()); }

/// Parameters of one module that holds no other; nothing when it is packed and the width is not known.
std::optional<std::uint64_t> count_module(const std::string& module, const Leaves& leaves, const Config& config) {
  const auto weight = leaves.find("weight");
  const auto scales = leaves.find("scales");
  std::uint64_t count = 0;
  if (weight == leaves.end() || scales == leaves.end() ||
      weight->second->element != decltype(ArrayPlan::element)(DType::u32)) {
    for (const auto& [leaf, array] : leaves) count += elements_of(*array);
    return count;
  }
  const auto bits = width_of(module, *weight->second, *scales->second, config);
  if (!bits) return std::nullopt;
  count = elements_of(*weight->second) * 32 / static_cast<std::uint64_t>(*bits);
  if (const auto bias = leaves.find("bias"); bias != leaves.end()) count += elements_of(*bias->second);
  return count;
}

/// mlx-lm before 2026-08-18 takes one such name in a model*.safetensors for the sign of norms without their 1, and adds it a
/// second time; no version uses them. A file of another name it does not open.
/// Source: ml-explore/mlx-lm mlx_lm/models/qwen3_5.py, sanitize; mlx_lm/utils.py, load_model.
bool is_of_mtp(std::string_view array) {
  return array.starts_with("mtp.") || array.find(".mtp.") != std::string_view::npos;
}

/// An adapter is a directory of its own, which mlx-lm is told of by --adapter-path. Source: ml-explore/mlx-lm
/// mlx_lm/tuner/utils.py, load_adapters.
std::string_view side_file_of(std::string_view array) {
  if (array.ends_with(".lora_a") || array.ends_with(".lora_b")) return "adapters/adapters.safetensors";
  return is_of_mtp(array) ? "mtp.safetensors" : "";
}

}  // namespace

std::optional<std::string> can_hold(const ArrayPlan& array) {
  const auto* dtype = std::get_if<DType>(&array.element);
  if (dtype != nullptr && std::ranges::find(kDtypes, *dtype) == kDtypes.end()) {
    return fmt::format("MLX does not read {}", name(*dtype));
  }
  return safetensors::can_hold(array);
}

std::unique_ptr<Writer> create_writer(const std::filesystem::path& target, const WriteOptions& options) {
  // Source: ml-explore/mlx-lm mlx_lm/utils.py, save_model and make_shards.
  return safetensors::create_directory_writer(target, options,
                                              {.file = {.mark = "mlx", .keys = safetensors::FileStyle::Keys::sorted},
                                               .indexes_one_file = true,
                                               .index_indent = 4,
                                               .index_ends_in_line_feed = false,
                                               .count_parameters = count_parameters,
                                               .side_file_of = side_file_of});
}

std::optional<std::uint64_t> count_parameters(std::span<const ArrayPlan> arrays, std::span<const CarriedFile> files) {
  std::map<std::string_view, Leaves> modules;
  std::set<std::string_view> holders;  // of other modules
  for (const ArrayPlan& array : arrays) {
    const std::string_view module = module_of(array.name);
    modules[module].emplace(std::string_view(array.name).substr(module.empty() ? 0 : module.size() + 1), &array);
    for (std::string_view holder = module; !holder.empty();) {
      holder = module_of(holder);
      if (!holders.insert(holder).second) break;
    }
  }
  const Config config = config_among(files);
  std::uint64_t total = 0;
  for (const auto& [module, leaves] : modules) {
    if (holders.contains(module)) continue;
    const auto count = count_module(std::string(module), leaves, config);
    if (!count) return std::nullopt;
    total += *count;
  }
  return total;
}

}  // namespace regauge::mlx
