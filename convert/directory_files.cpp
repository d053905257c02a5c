#include "convert/directory_files.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/error.h"
#include "base/limits.h"
#include "models/permutations.h"

namespace regauge {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kConfig = "config.json";

/// The file of a GGUF model's vision tower, among the parts that come with it.
const Checkpoint* tower_of(std::span<const OpenedPath> sources) {
  for (const OpenedPath& path : sources.subspan(1)) {
    if (path.architecture != nullptr && path.architecture->has_vision()) return path.checkpoint;
  }
  return nullptr;
}

void carry_beside(const Checkpoint& source, DirectoryFiles& out) {
  if (source.config) out.config = source.config;
  for (const Sidecar& sidecar : source.sidecars) {
    if (source.dialect == Dialect::hf && fs::path(sidecar.name).filename() == "adapter_config.json") {
      Json config = parse_json(*source.sidecar_text(sidecar.name, kMaxConfigBytes), sidecar.name,
                               {.duplicates = JsonDuplicates::keep_last});
      if (config.is_object()) out.adapter_config = std::move(config);
    }
    if (!describes_storage(sidecar.name)) out.files.push_back({sidecar.name, open_sidecar(source, sidecar.name)});
  }
}

void replace(DirectoryFiles& files, CarriedFile file) {
  std::erase_if(files.files, [&](const CarriedFile& other) { return other.name == file.name; });
  files.files.push_back(std::move(file));
}

void take_assets(const fs::path& folder, DirectoryFiles& out) {
  if (!fs::is_directory(folder)) throw Error(ErrorCode::not_found, "is no directory").at(folder.native());
  const Source assets = probe(folder);
  for (const fs::path& entry : assets.entries) {
    const std::string& name = entry.native();
    if (name == kConfig) {
      const std::string path = (folder / entry).native();
      out.config =
          parse_json(read_text_file(folder / entry, kMaxConfigBytes), path, {.duplicates = JsonDuplicates::keep_last});
      if (!out.config->is_object()) throw Error(ErrorCode::malformed, "is no JSON object").at(path);
    } else if (!describes_storage(name)) {
      replace(out, {name, std::make_shared<const File>(File::open(folder / entry))});
    }
  }
}

DType common_dtype(const ConvertOptions& options) {
  if (options.dtype) return *options.dtype;
  return options.dense.value_or(DType::bf16);
}

/// What goes with the factors of an adapter that lies in a folder of its own.
void add_adapter_files(const Adaptation& adapted, DirectoryFiles& files) {
  const std::string folder(factor_folder(adapted.factor_form));
  if (adapted.corrected.empty() || folder.empty()) return;
  replace(files, {folder + "/adapter_config.json",
                  adapter_config_text(adapted.factor_form, adapted.corrected,
                                      files.adapter_config ? &*files.adapter_config : nullptr)});
  // Taken out of this directory it still has to say in which order its columns are, and what of it is filling.
  if (!adapted.permutations.empty() || !adapted.factor_ranks.empty()) {
    replace(files, {folder + "/" + std::string(kPermutationFile),
                    permutations_text(adapted.permutations, adapted.factor_ranks)});
  }
}

/// As the tools of each ecosystem print it: transformers in the order it has, mlx-lm sorted and wider.
std::string config_text(const Json& config, Dialect dialect) {
  if (dialect != Dialect::mlx) return render_json(config, 2) + "\n";
  Json sorted = Json::object();
  std::set<std::string> keys;
  for (const auto& [key, value] : config.items()) keys.insert(key);
  for (const std::string& key : keys) sorted[key] = config[key];
  return render_json(sorted, 4);
}

/// Says in a config.json that announces MTP layers, or should, how many there are.
void announce_mtp(int layers, Json& config) {
  constexpr const char* kKey = "mtp_num_hidden_layers";
  const bool nested = config.contains("text_config") && config["text_config"].is_object();
  Json& text = nested ? config["text_config"] : config;
  Json& holder = !text.contains(kKey) && config.contains(kKey) ? config : text;
  if (layers > 0 || holder.contains(kKey)) holder[kKey] = layers;
}

}  // namespace

bool describes_storage(std::string_view name) {
  static constexpr std::array<std::string_view, 5> kNames{"quantize_config.json", "quant_config.json",
                                                          "adapter_config.json", "regauge.json", "config.json"};
  const std::string_view leaf = name.substr(name.find_last_of('/') + 1);
  if (leaf == "config.json") return name == leaf;
  return std::ranges::find(kNames, leaf) != kNames.end() || leaf.ends_with(".safetensors.index.json") ||
         leaf.ends_with(".safetensors");
}

DirectoryFiles collect_directory_files(std::span<const OpenedPath> sources, Dialect dialect, int mtp_layers,
                                       const ConvertOptions& options, Findings& findings) {
  DirectoryFiles out;
  const Checkpoint& model = *sources.front().checkpoint;
  if (model.dialect != Dialect::gguf) {
    carry_beside(model, out);
  } else if (sources.front().architecture != nullptr) {
    const HfFacts facts{.target = dialect,
                        .mtp_layers = mtp_layers,
                        .dtype = common_dtype(options),
                        .vision = options.drop_vision ? nullptr : tower_of(sources)};
    for (TextFile& file : sources.front().architecture->hf_files(model, facts, findings)) {
      if (file.name == kConfig) {
        out.config = parse_json(file.text, file.name);
      } else {
        out.files.push_back({file.name, std::move(file.text)});
      }
    }
  }
  if (options.assets) take_assets(*options.assets, out);
  // By the tensors: a layer that is announced and absent makes loaders fail, and grafting one announces it.
  if (out.config && sources.front().architecture != nullptr) announce_mtp(mtp_layers, *out.config);
  return out;
}

std::unique_ptr<const Architecture> directory_architecture(std::span<const OpenedPath> sources,
                                                           const DirectoryFiles& files, Dialect dialect) {
  const Checkpoint& model = *sources.front().checkpoint;
  if (model.dialect != Dialect::gguf || !files.config) return nullptr;
  Checkpoint directory;
  directory.path = model.path;
  directory.dialect = dialect;
  directory.config = files.config;
  return recognise(directory);
}

std::vector<CarriedFile> finish_directory_files(DirectoryFiles files, const Format& format, const PlannedOutput& output,
                                                const Adaptation& adapted, const ConvertOptions& options) {
  const Dialect dialect = format.packing == Packing::mlx ? Dialect::mlx : Dialect::hf;
  if (!adapted.permutations.empty())
    files.files.push_back({std::string(kPermutationFile), permutations_text(adapted.permutations)});
  add_adapter_files(adapted, files);
  if (!files.config) return std::move(files.files);
  Json config = std::move(*files.config);
  for (const char* key : {"quantization", "quantization_config"}) config.erase(key);
  const bool has_vision =
      std::ranges::any_of(output.steps, [](const Step& step) { return step.component == Component::vision; });
  // mlx-lm takes the absence of vision_config for the sign of a text-only save.
  if (dialect == Dialect::mlx && !has_vision) config.erase("vision_config");
  // Of the multimodal class, whose names stay: those who know the word build no tower then. Published text-only checkpoints have
  // it, and without a vision_config the class would make a tower of default sizes. Source: huggingface/transformers
  // src/transformers/models/qwen3_5/configuration_qwen3_5.py.
  if (dialect == Dialect::hf && !has_vision && options.drop_vision && config.contains("vision_config"))
    config["language_model_only"] = true;
  if (format.configure != nullptr) {
    std::vector<PackedModule> modules;
    for (std::size_t s = 0; s < output.steps.size(); ++s) {
      if (output.steps[s].module) {
        modules.push_back(*output.steps[s].module);
      } else if (output.targets[s].is_linear) {
        PackedModule dense;
        dense.name = output.steps[s].name;
        if (dense.name.ends_with(".weight")) dense.name.resize(dense.name.size() - std::string_view(".weight").size());
        dense.is_quantized = false;
        modules.push_back(std::move(dense));
      }
    }
    // By name, so that the order in which a source keeps its arrays does not show.
    std::ranges::sort(modules, {}, &PackedModule::name);
    format.configure(config, modules, name(options.layout), files.files);
  }
  files.files.push_back({std::string(kConfig), config_text(config, dialect)});
  std::ranges::sort(files.files, {}, &CarriedFile::name);
  return std::move(files.files);
}

}  // namespace regauge
