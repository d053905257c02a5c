#include "formats/mlx/mlx.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/text.h"
#include "formats/mlx/config.h"
#include "formats/mlx/config_writer.h"
#include "formats/mlx/module.h"
#include "formats/mlx/writer.h"
#include "formats/safetensors/safetensors.h"
#include "models/architecture.h"

namespace regauge {
namespace {

using mlx::Config;
using mlx::Module;
using mlx::Override;
using mlx::Settings;

namespace fs = std::filesystem;

/// MLX sorts the keys of its headers, so the metadata come first: `{"__metadata__":{"format":"mlx"}`. Source: ml-explore/mlx
/// mlx/io/safetensors.cpp, save_safetensors.
bool begins_like_mlx(std::span<const std::byte> head) {
  constexpr std::string_view kMark = R"({"__metadata__":{"format":"mlx")";
  return head.size() > 8 && text_of(head.subspan(8)).starts_with(kMark);
}

/// The first bytes of a directory's first shard; empty when it cannot be read.
std::vector<std::byte> first_shard_head(const Source& source) {
  const auto shard = std::ranges::find_if(source.entries, [](const fs::path& path) {
    return !path.has_parent_path() && path.extension() == ".safetensors" && path.filename() != "adapters.safetensors";
  });
  if (shard == source.entries.end()) return {};
  try {
    const File file = source.folder->open(*shard);
    return file.read_range(0, std::min<std::uint64_t>(file.size(), Source::kHeadBytes));
  } catch (const Error&) {
    return {};  // whoever opens the checkpoint says what is wrong with it
  }
}

bool has_quantized_names(const std::vector<std::string>& names) {
  constexpr std::string_view kScales = ".scales";
  const std::unordered_set<std::string_view> known(names.begin(), names.end());
  return std::ranges::any_of(names, [&](const std::string& name) {
    return name.ends_with(kScales) && known.contains(name.substr(0, name.size() - kScales.size()) + ".weight");
  });
}

/// Names alone do not tell: FP8 checkpoints have scales as well. Packed weights are U32.
bool has_packed_weights(const Source& source) {
  FindingTally ignored;
  try {
    return !mlx::collect_modules(open_safetensors(source), ignored).empty();
  } catch (const Error&) {
    return false;  // plain safetensors' reader says what is wrong
  }
}

/// Another quantizer's checkpoint, whatever its arrays are called.
bool is_foreign(const std::optional<Json>& config) {
  if (!config || !config->is_object() || mlx::find_section(*config) != nullptr) return false;
  const auto names_method = [](const Json& object) {
    const Json* section = find(object, "quantization_config");
    return section != nullptr && section->is_object() && find(*section, "quant_method") != nullptr;
  };
  const Json* text = find(*config, "text_config");
  return names_method(*config) || (text != nullptr && text->is_object() && names_method(*text));
}

Bid bid(const Source& source) {
  if (mlx::is_adapter_directory(source)) return {85, "holds an mlx-lm adapter"};
  const SafetensorsGlance seen = glance(source);
  if (!seen.is_safetensors || is_foreign(seen.config)) return {};
  if (seen.config && mlx::find_section(*seen.config) != nullptr) return {85, "config.json has an MLX quantization"};
  if (begins_like_mlx(source.is_directory ? first_shard_head(source) : source.head)) {
    return {75, "the files say that MLX wrote them"};
  }
  if (has_quantized_names(seen.names) && has_packed_weights(source)) return {70, "has scales beside packed weights"};
  return {};
}

/// config.json of a directory, or of the folder that a single file lies in.
std::optional<Json> config_of(const Checkpoint& checkpoint, const Source& source) {
  if (checkpoint.config || source.is_directory) return checkpoint.config;
  const std::string file = "config.json";
  if (!checkpoint.folder->has_file(file)) return std::nullopt;
  return parse_json(checkpoint.folder->read_text(file, kMaxConfigBytes), checkpoint.folder->path_of(file),
                    {.duplicates = JsonDuplicates::keep_last});
}

class Reader {
 public:
  Reader(Checkpoint checkpoint, Config config, bool whole)
      : checkpoint_(std::move(checkpoint)), config_(std::move(config)), whole_(whole) {}

  Checkpoint read(const OpenOptions& options) {
    assemble(mlx::collect_modules(checkpoint_, tally_));
    check_overrides();
    if (config_.quantizes_activations()) {
      tally_.add(Severity::note, "mlx-activations", "the config also quantizes activations, which changes no tensor");
    }
    tally_.move_to(checkpoint_.findings, {});
    mlx::attach_adapter(checkpoint_, options);
    checkpoint_.format = kMlxFormat.name;
    checkpoint_.format_version.clear();
    checkpoint_.dialect = Dialect::mlx;
    checkpoint_.quantization = config_.section();
    return std::move(checkpoint_);
  }

 private:
  /// Replaces the dense tensors of the modules' arrays by the modules' own, at the place of the weight.
  void assemble(const std::vector<Module>& modules) {
    std::vector<bool> taken(checkpoint_.arrays.size());
    for (const Module& module : modules) {
      const auto settings = settings_of(module);
      if (!settings) {
        // The numbers must not be taken for integers: what they mean is simply not known.
        checkpoint_.tensors[module.weight].encoding = Opaque{"MLX codes of unknown width"};
        continue;
      }
      Tensor tensor = mlx::make_tensor(checkpoint_, module, *settings);
      for (const std::size_t array : tensor.arrays) taken[array] = true;
      taken[module.weight] = false;
      checkpoint_.tensors[module.weight] = std::move(tensor);
    }
    std::vector<Tensor> tensors;
    for (std::size_t i = 0; i < taken.size(); ++i) {
      if (!taken[i]) tensors.push_back(std::move(checkpoint_.tensors[i]));
    }
    checkpoint_.tensors = std::move(tensors);
  }

  std::optional<Settings> settings_of(const Module& module) {
    if (!config_.section()) return guess(module);
    bool renamed = false;
    const Override* override = config_.find(module.name, renamed);
    if (override == nullptr) return config_.global();
    used_.insert(override);
    if (renamed) {
      tally_.add(Severity::warning, "mlx-override-renamed",
                 "the config names a module as another dialect does: mlx-lm would overlook it", override->key);
    }
    if (override->is_dense) {
      tally_.add(Severity::warning, "mlx-override-dense", "the config says that a module is dense, but it is quantized",
                 override->key);
    }
    return override->settings ? override->settings : config_.global();
  }

  std::optional<Settings> guess(const Module& module) {
    const StoredArray& scales = checkpoint_.arrays[module.scales];
    const StoredArray& weight = checkpoint_.arrays[module.weight];
    const bool byte_scales = scales.element == decltype(scales.element)(DType::u8);
    const auto columns = columns_of(weight.name);
    const auto settings =
        columns ? mlx::settings_by_columns(weight.shape.columns(), scales.shape.columns(), byte_scales, *columns)
                : mlx::settings_by_shape(weight.shape.columns(), scales.shape.columns(), byte_scales);
    tally_.add(
        settings ? Severity::warning : Severity::fault, settings ? "mlx-config-missing" : "mlx-width-unknown",
        settings
            ? "there is no quantization config: the width is the only one that shapes and sizes allow"
            : "there is no quantization config and the shapes allow several widths: codes are carried, not decoded",
        module.name);
    return settings;
  }

  /// How wide a weight is by the sizes in config.json, which the packed words do not tell.
  std::optional<std::int64_t> columns_of(const std::string& weight) {
    if (!sizes_read_) {
      sizes_read_ = true;
      read_sizes();
    }
    const auto found = columns_.find(weight);
    return found == columns_.end() ? std::nullopt : std::optional(found->second);
  }

  void read_sizes() {
    checkpoint_.dialect = Dialect::mlx;
    std::unique_ptr<const Architecture> architecture;
    try {
      architecture = recognise(checkpoint_);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::malformed && error.code() != ErrorCode::unsupported) throw;
    }
    if (architecture == nullptr) return;
    for (const ExpectedSlot& expected : architecture->expected()) {
      if (const auto place = architecture->place(Dialect::mlx, expected.slot))
        columns_[place->array] = place->shape.columns();
    }
  }

  /// Every override must mean a weight that is there. A single file may be one shard of many.
  void check_overrides() {
    if (config_.overrides().size() == used_.size()) return;
    std::unordered_set<std::string> modules;
    for (const Tensor& tensor : checkpoint_.tensors) {
      const std::string_view name = tensor.name;
      for (const std::string_view module : {name.substr(0, name.rfind('.')), name}) {
        for (std::string& normalised : mlx::normalised_names(module)) modules.insert(std::move(normalised));
      }
    }
    for (const Override& override : config_.overrides()) {
      if (used_.contains(&override) || !override.settings) continue;
      const auto names = mlx::normalised_names(override.key);
      const bool there = std::ranges::any_of(names, [&](const std::string& name) { return modules.contains(name); });
      if (there) {
        tally_.add(Severity::warning, "mlx-override-unused", "the config has a width for a module that is dense",
                   override.key);
      } else if (whole_) {
        throw Error(ErrorCode::malformed, "the quantization config names a module that is not there")
            .tensor(excerpt(override.key))
            .at(config_.path());
      }
    }
  }

  Checkpoint checkpoint_;
  Config config_;
  bool whole_;
  std::set<const Override*> used_;
  bool sizes_read_ = false;
  std::map<std::string, std::int64_t> columns_;  ///< of weights, by name
  FindingTally tally_;
};

mlx::QuantizableModule quantizable(const PackedModule& module) {
  mlx::QuantizableModule entry;
  entry.path = module.name;
  if (!module.is_quantized) return entry;
  Settings settings{.bits = module.bits, .group_size = module.group_size};
  for (const mlx::Mode mode : {mlx::Mode::mxfp4, mlx::Mode::mxfp8, mlx::Mode::nvfp4}) {
    if (name(mode) == module.mode) settings.mode = mode;
  }
  entry.settings = settings;
  return entry;
}

void configure(Json& config, std::span<const PackedModule> modules, std::string_view, std::vector<CarriedFile>&) {
  std::vector<mlx::QuantizableModule> all;
  for (const PackedModule& module : modules) all.push_back(quantizable(module));
  config = mlx::with_quantization(config, mlx::make_config(all));
}

Json extend(const Json& section, std::span<const PackedModule>, std::span<const PackedModule> added) {
  std::vector<mlx::QuantizableModule> modules;
  for (const PackedModule& module : added) modules.push_back(quantizable(module));
  return mlx::with_modules(section, modules);
}

}  // namespace

Checkpoint open_mlx(const Source& source, const OpenOptions& options) {
  Checkpoint checkpoint = open_safetensors(source, options);
  if (mlx::is_adapter_directory(source)) {
    mlx::turn_factors(checkpoint);
    checkpoint.format = kMlxFormat.name;
    checkpoint.dialect = Dialect::mlx;
    return checkpoint;
  }
  const std::string path = checkpoint.folder->path_of("config.json");
  const auto json = config_of(checkpoint, source);
  const Json* section = json ? mlx::find_section(*json) : nullptr;
  Config config;
  if (section != nullptr) config = Config(*section, path);
  if (section != nullptr && find(*json, "quantization") == nullptr) {
    checkpoint.findings.push_back({Severity::warning,
                                   "mlx-quantization-key",
                                   "the settings are in quantization_config only, where mlx-lm does not look for them",
                                   "config.json",
                                   {}});
  }
  return Reader(std::move(checkpoint), std::move(config), source.is_directory).read(options);
}

const Format kMlxFormat = {
    .name = "mlx",
    .summary = "MLX checkpoints, quantized or dense, with adapters",
    .bid = bid,
    .open = open_mlx,
    .can_hold = mlx::can_hold,
    .create = mlx::create_writer,
    .packing = Packing::mlx,
    .configure = configure,
    .extend = extend,
};

}  // namespace regauge
