#include "convert/graft_config.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/limits.h"
#include "base/pattern.h"
#include "models/low_rank.h"
#include "models/permutations.h"
#include "models/size_label.h"
#include "models/vision_files.h"

namespace regauge {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kConfig = "config.json";
constexpr std::string_view kIndexSuffix = ".safetensors.index.json";
// What says how images become patches, in the words of transformers.
constexpr std::array<std::string_view, 3> kProcessors{"preprocessor_config.json", "video_preprocessor_config.json",
                                                      "processor_config.json"};
// Keys of config.json and the tokens whose ids they give. Source: Qwen/Qwen3.5-27B config.json and tokenizer.json.
constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kVisionTokens{
    {{"image_token_id", "<|image_pad|>"},
     {"video_token_id", "<|video_pad|>"},
     {"vision_start_token_id", "<|vision_start|>"},
     {"vision_end_token_id", "<|vision_end|>"}}};

bool has_file(const std::vector<CarriedFile>& files, std::string_view name) {
  return std::ranges::find(files, name, &CarriedFile::name) != files.end();
}

void replace(std::vector<CarriedFile>& files, CarriedFile file) {
  std::erase_if(files, [&](const CarriedFile& other) { return other.name == file.name; });
  files.push_back(std::move(file));
}

/// The id of a token that the base's own tokenizer names.
std::optional<std::int64_t> added_token(const Checkpoint& base, std::string_view text) {
  constexpr std::string_view kTokenizer = "tokenizer.json";
  if (!base.has_sidecar(kTokenizer)) return std::nullopt;
  const Json tokenizer = parse_json(*base.sidecar_text(kTokenizer, kMaxTokenizerBytes), std::string(kTokenizer),
                                    {.duplicates = JsonDuplicates::keep_last});
  const Json* added = tokenizer.is_object() ? get_array(tokenizer, "added_tokens") : nullptr;
  if (added == nullptr) return std::nullopt;
  for (const Json& token : *added) {
    if (token.is_object() && get_string(token, "content") == text) return get_int(token, "id");
  }
  return std::nullopt;
}

/// The ids by which a prompt speaks of images: the donor's, else those of the base's own tokenizer.
void name_vision_tokens(const Checkpoint& base, const Checkpoint& donor, Json& config, Findings& findings) {
  for (const auto& [key, text] : kVisionTokens) {
    const std::string name(key);
    if (config.contains(name)) continue;
    if (donor.config && donor.config->contains(name)) {
      config[name] = (*donor.config)[name];
    } else if (const auto id = added_token(base, text)) {
      config[name] = *id;
    } else {
      findings.push_back({Severity::warning, "config-guessed",
                          fmt::format("neither the donor nor the base's tokenizer tells the id of '{}'", text),
                          std::string(kConfig), name});
    }
  }
}

/// Takes the description of the donor's tower: from its configuration, or made of the keys of an mmproj file.
void describe_vision(const Checkpoint& base, const Checkpoint& donor, bool replaces, GraftedFiles& out,
                     Findings& findings) {
  if (!out.config.contains("text_config") && base.dialect == Dialect::hf) {
    out.config = multimodal_config(out.config);
    out.renames = true;
  }
  // A checkpoint without a tower may say so in this word, which would keep loaders from making the new one.
  if (out.config.contains("language_model_only")) out.config["language_model_only"] = false;
  const auto take = [&](CarriedFile file) {
    if (replaces || !has_file(out.others, file.name)) replace(out.others, std::move(file));
  };
  if (donor.dialect == Dialect::gguf) {
    const Json model_type = out.config.value("model_type", Json(""));
    const bool moe = model_type.is_string() && model_type.get<std::string>().find("moe") != std::string::npos;
    VisionFiles made = vision_files(donor, moe, findings);
    out.config["vision_config"] = std::move(made.config);
    for (TextFile& file : made.files) take({file.name, std::move(file.text)});
  } else {
    const Json* tower = donor.config ? get_object(*donor.config, "vision_config") : nullptr;
    if (tower == nullptr) throw Error(ErrorCode::not_found, "its config.json has no vision_config").at(donor.path);
    out.config["vision_config"] = *tower;
    for (const std::string_view name : kProcessors) {
      if (donor.has_sidecar(name)) take({std::string(name), open_sidecar(donor, name)});
    }
  }
  name_vision_tokens(base, donor, out.config, findings);
}

std::string module_name(std::string_view weight) {
  constexpr std::string_view kLeaf = ".weight";
  return std::string(weight.ends_with(kLeaf) ? weight.substr(0, weight.size() - kLeaf.size()) : weight);
}

/// The linear modules of a checkpoint that are of `replaced` parts, or of none of them.
std::vector<PackedModule> modules_of(const Checkpoint& checkpoint, const Architecture& architecture,
                                     const std::set<Component>& replaced, bool are_replaced) {
  std::vector<PackedModule> modules;
  for (const Tensor& tensor : checkpoint.tensors) {
    const auto assembly = architecture.parse(checkpoint.dialect, tensor.name, tensor.shape);
    const bool linear = assembly && assembly->pieces.size() == 1 && architecture.is_linear(assembly->pieces[0].slot);
    if (!linear && !std::holds_alternative<Grouped>(tensor.encoding)) continue;
    const bool makes_way =
        assembly && !assembly->pieces.empty() && replaced.contains(assembly->pieces.front().slot.component);
    if (makes_way != are_replaced) continue;
    PackedModule module;
    module.name = module_name(tensor.name);
    module.is_quantized = std::holds_alternative<Grouped>(tensor.encoding);
    modules.push_back(std::move(module));
  }
  return modules;
}

std::vector<PackedModule> new_modules(const PlannedOutput& output, std::size_t first_new) {
  std::vector<PackedModule> modules;
  for (std::size_t s = first_new; s < output.steps.size(); ++s) {
    const Step& step = output.steps[s];
    if (step.module) {
      modules.push_back(*step.module);
    } else if (output.targets[s].is_linear) {
      PackedModule dense;
      dense.name = module_name(step.name);
      dense.is_quantized = false;
      modules.push_back(std::move(dense));
    }
  }
  std::ranges::sort(modules, {}, &PackedModule::name);
  return modules;
}

/// `section` without what it says of modules that make way alone: rules of GPTQ that are about no other, entries of MLX.
Json without_modules(Json section, std::span<const PackedModule> replaced, std::span<const PackedModule> existing) {
  for (const PackedModule& module : replaced) {
    if (section.contains(module.name)) section.erase(module.name);
  }
  const Json* dynamic = get_object(section, "dynamic");
  if (dynamic == nullptr || replaced.empty()) return section;
  Json rules = Json::object();
  MatchBudget budget;
  for (const auto& [key, value] : dynamic->items()) {
    const bool marked = key.starts_with("+:") || key.starts_with("-:");
    const Pattern pattern(marked ? std::string_view(key).substr(2) : std::string_view(key));
    const auto is_about = [&](const PackedModule& module) { return pattern.matches(module.name, budget); };
    if (std::ranges::none_of(replaced, is_about) || std::ranges::any_of(existing, is_about)) rules[key] = value;
  }
  section["dynamic"] = std::move(rules);
  return section;
}

/// Puts a section where sections were.
bool replace_sections(Json& object, const Json& section) {
  bool any = false;
  for (const char* key : {"quantization", "quantization_config"}) {
    if (object.is_object() && object.contains(key)) {
      object[key] = section;
      any = true;
    }
  }
  return any;
}

/// As the tools of each ecosystem print it: transformers in the order it has, mlx-lm sorted and wider.
std::string text_of(const Json& config, Dialect dialect) {
  if (dialect != Dialect::mlx) return render_json(config, 2) + "\n";
  std::set<std::string> keys;
  for (const auto& [key, value] : config.items()) keys.insert(key);
  Json sorted = Json::object();
  for (const std::string& key : keys) sorted[key] = config[key];
  return render_json(sorted, 4);
}

/// The arrays that the base's index lists; nothing without one.
std::optional<std::set<std::string>> indexed_arrays(const Checkpoint& base) {
  for (const Sidecar& sidecar : base.sidecars) {
    if (!sidecar.name.ends_with(kIndexSuffix) || sidecar.name.find('/') != std::string::npos) continue;
    const Json index = parse_json(*base.sidecar_text(sidecar.name, kMaxConfigBytes), sidecar.name);
    std::set<std::string> names;
    if (const Json* map = get_object(index, "weight_map")) {
      for (const auto& [name, file] : map->items()) names.insert(name);
    }
    return names;
  }
  return std::nullopt;
}

bool is_adapter_file(std::string_view name) {
  const std::string leaf = fs::path(name).filename().native();
  return leaf == "adapter_model.safetensors" || leaf == "adapters.safetensors" || leaf == "eora.safetensors";
}

/// Given beside the checkpoint, and no file of it.
bool is_from_elsewhere(const Checkpoint& base, const SourceFile& file) {
  return file.name.starts_with("adapter/") && base.folder->path_of(file.name) != file.file->path();
}

}  // namespace

GraftedFiles grafted_files(const Checkpoint& base, const Checkpoint* vision, int mtp_layers, bool replaces,
                           Findings& findings) {
  GraftedFiles out;
  if (!base.config) throw Error(ErrorCode::not_found, "has no config.json").at(base.path);
  out.config = *base.config;
  for (const Sidecar& sidecar : base.sidecars) {
    const bool index = sidecar.name.ends_with(kIndexSuffix) && sidecar.name.find('/') == std::string::npos;
    if (sidecar.name != kConfig && !index) out.others.push_back({sidecar.name, open_sidecar(base, sidecar.name)});
  }
  if (mtp_layers > 0) {
    Json& text = out.config.contains("text_config") ? out.config["text_config"] : out.config;
    text["mtp_num_hidden_layers"] = mtp_layers;
  }
  if (vision != nullptr) describe_vision(base, *vision, replaces, out, findings);
  return out;
}

void GraftedFiles::add_adapter(const Adaptation& factors) {
  const std::string folder(factor_folder(factors.factor_form));
  if (factors.corrected.empty() || folder.empty()) return;
  replace(others,
          {folder + "/adapter_config.json", adapter_config_text(factors.factor_form, factors.corrected, nullptr)});
  // Factors are in the order of their weights, which the adapter has to tell when it is taken out.
  const auto order = std::ranges::find(others, kPermutationFile, &CarriedFile::name);
  const std::string record = folder + "/" + std::string(kPermutationFile);
  if (factors.factor_ranks.empty()) {
    if (order != others.end()) replace(others, {record, order->content});
    return;
  }
  Json json = parse_json(permutations_text({}, factors.factor_ranks), record);
  if (order != others.end()) {
    const auto* file = std::get_if<std::shared_ptr<const File>>(&order->content);
    if (file == nullptr) throw Error(ErrorCode::internal, "an order that was made anew").at(record);
    const auto bytes = (*file)->read_range(0, (*file)->size());
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    json["permutations"] = parse_json(text, (*file)->path(),
                                      {.max_bytes = kMaxRecordBytes, .max_values = kMaxRecordValues})["permutations"];
  }
  replace(others, {record, json.dump() + "\n"});
}

std::vector<CarriedFile> GraftedFiles::finish(const Format& format, const Checkpoint& base,
                                              const Architecture& architecture, const PlannedOutput& output,
                                              std::size_t first_new, const std::set<Component>& replaced) && {
  const std::vector<PackedModule> added = new_modules(output, first_new);
  const bool any_packed = std::ranges::any_of(added, &PackedModule::is_quantized);
  if (base.quantization && format.extend != nullptr && !added.empty()) {
    const std::vector<PackedModule> existing = modules_of(base, architecture, replaced, false);
    const Json rest = without_modules(*base.quantization, modules_of(base, architecture, replaced, true), existing);
    const Json section = format.extend(rest, existing, added);
    if (section != *base.quantization) {
      bool placed = replace_sections(config, section);
      if (config.contains("text_config")) placed = replace_sections(config["text_config"], section) || placed;
      for (const char* name : {"quantize_config.json", "quant_config.json"}) {
        if (!has_file(others, name)) continue;
        replace(others, {name, section.dump(2)});
        placed = true;
      }
      if (!placed) throw Error(ErrorCode::internal, "no file has the quantization config").at(base.path);
    }
  } else if (any_packed) {
    throw Error(ErrorCode::unsupported, "has no quantization config that could speak of quantized parts: --dense")
        .at(base.path);
  }
  if (config == *base.config) {
    others.push_back({std::string(kConfig), open_sidecar(base, kConfig)});
  } else {
    others.push_back({std::string(kConfig), text_of(config, base.dialect)});
  }
  std::ranges::sort(others, {}, &CarriedFile::name);
  return std::move(others);
}

Rewritten files_with(const Checkpoint& base, const Architecture& architecture, const std::set<Component>& replaced) {
  Rewritten out;
  const auto makes_way = [&](const Tensor& tensor) {
    const auto assembly = architecture.parse(base.dialect, tensor.name, tensor.shape);
    return assembly && !assembly->pieces.empty() && replaced.contains(assembly->pieces.front().slot.component);
  };
  std::vector<bool> known(base.arrays.size());
  std::vector<const Tensor*> stay;
  for (const Tensor& tensor : base.tensors) {
    for (const std::size_t array : tensor.arrays) known[array] = true;
    if (!makes_way(tensor)) {
      stay.push_back(&tensor);
      continue;
    }
    for (const std::size_t array : tensor.arrays) out.files.insert(base.arrays[array].file);
  }
  // An adapter in a folder of its own is nobody's shard.
  const auto in_adapter = [&](std::size_t array) { return is_adapter_file(base.files[base.arrays[array].file].name); };
  const auto inside = [&](std::size_t array) { return out.files.contains(base.arrays[array].file); };
  // The arrays of one module may lie in several shards, and then all of those go.
  for (bool grown = !out.files.empty(); grown;) {
    grown = false;
    for (const Tensor* tensor : stay) {
      if (std::ranges::none_of(tensor->arrays, inside)) continue;
      for (const std::size_t array : tensor->arrays) {
        if (!in_adapter(array)) grown = out.files.insert(base.arrays[array].file).second || grown;
      }
    }
  }
  for (const Tensor* tensor : stay) {
    if (std::ranges::none_of(tensor->arrays, inside)) continue;
    if (tensor->has_low_rank() && std::ranges::none_of(tensor->arrays, in_adapter)) {
      throw Error(ErrorCode::unsupported, "has low-rank factors in a file that would be written anew: convert it first")
          .tensor(tensor->name)
          .at(base.path);
    }
    out.tensors.push_back(tensor);
  }
  for (std::size_t i = 0; i < base.arrays.size(); ++i) {
    if (!known[i] && out.files.contains(base.arrays[i].file))
      throw Error(ErrorCode::unsupported, "belongs to no tensor, and lies in a file that would be written anew")
          .tensor(base.arrays[i].name)
          .at(base.path);
  }
  return out;
}

KeptFiles kept_files(const Checkpoint& base, bool adds_to_model, const std::set<std::size_t>& rewritten) {
  KeptFiles out;
  std::vector<std::string> freed;  // names of the model's own files that are written anew
  const auto listed = indexed_arrays(base);
  std::size_t shards = 0;
  for (std::size_t f = 0; f < base.files.size(); ++f) {
    const SourceFile& file = base.files[f];
    if (is_from_elsewhere(base, file)) continue;
    KeptFile kept{file.name, file.file, {}, !is_adapter_file(file.name) && file.name != "mtp.safetensors"};
    for (const StoredArray& array : base.arrays) {
      if (array.file != f) continue;
      const auto* dtype = std::get_if<DType>(&array.element);
      if (dtype == nullptr) throw Error(ErrorCode::internal, "a type that the format has not").tensor(array.name);
      kept.arrays.push_back({array.name, *dtype, array.shape});
    }
    if (listed) {
      kept.is_indexed = std::ranges::any_of(kept.arrays, [&](const ArrayPlan& a) { return listed->contains(a.name); });
    }
    if (rewritten.contains(f)) {
      if (kept.is_indexed) freed.push_back(kept.name);
      continue;
    }
    shards += kept.is_indexed ? 1 : 0;
    out.files.push_back(std::move(kept));
  }
  // A model in one file has this name, by which loaders find it without an index.
  if (shards == 0 && !freed.empty()) freed = {"model.safetensors"};
  if (freed.size() == 1) {
    out.new_file = freed.front();
    return out;
  }
  const auto first = std::ranges::find(out.files, true, &KeptFile::is_indexed);
  if (adds_to_model && shards == 1 && first->name == "model.safetensors") {
    first->name = "model-00001-of-00002.safetensors";
    out.new_file = "model-00002-of-00002.safetensors";
    return out;
  }
  // Under any other name: mlx-lm opens model*.safetensors, the others what the index lists.
  out.new_file = "model-grafted.safetensors";
  for (int i = 2; std::ranges::find(out.files, out.new_file, &KeptFile::name) != out.files.end(); ++i)
    out.new_file = fmt::format("model-grafted-{}.safetensors", i);
  return out;
}

std::int64_t vision_width(const Checkpoint& checkpoint) {
  if (checkpoint.dialect == Dialect::gguf) {
    if (const auto width = checkpoint.metadata.get_uint("clip.vision.projection_dim"))
      return static_cast<std::int64_t>(*width);
  } else if (checkpoint.config) {
    const Json* tower = get_object(*checkpoint.config, "vision_config");
    if (const auto width = tower == nullptr ? std::nullopt : get_int(*tower, "out_hidden_size")) return *width;
  }
  throw Error(ErrorCode::not_found, "nothing tells the width of its vision tower").at(checkpoint.path);
}

void announce_mtp(Metadata& keys, int layers) {
  const std::string prefix = keys.get_string("general.architecture").value_or("") + ".";
  const auto blocks = keys.get_uint(prefix + "block_count");
  if (!blocks) throw Error(ErrorCode::malformed, "key '{}block_count' is missing", prefix);
  const auto before = static_cast<std::size_t>(*blocks);
  const auto added = static_cast<std::size_t>(layers);
  // What a base counts already it has lost: layers that are there are not grafted.
  const auto announced = static_cast<std::size_t>(keys.get_uint(prefix + "nextn_predict_layers").value_or(0));
  const std::size_t total = before - std::min(announced, before) + added;
  for (const auto& [key, value] : std::vector<Metadata::Entry>(keys.entries())) {
    const auto* array = std::get_if<MetaArray>(&value);
    if (!key.starts_with(prefix) || array == nullptr || array->size() != before || key.ends_with(".dimension_sections"))
      continue;
    // MTP blocks are attention blocks: 0 in attention.recurrent_layers, and what the last attention block has elsewhere is
    // not known to be right, so lists of other things are left to whoever knows them.
    auto* flags = std::get_if<std::vector<std::uint8_t>>(&array->values);
    if (!key.ends_with("attention.recurrent_layers") || flags == nullptr) {
      throw Error(ErrorCode::unsupported, "lists something for each block, and nothing says what an MTP block has")
          .tensor(key);
    }
    std::vector<std::uint8_t> longer = *flags;
    longer.resize(total);
    keys.set(key, MetaArray{array->element, std::move(longer)});
  }
  keys.set(prefix + "block_count", static_cast<std::uint32_t>(total));
  keys.set(prefix + "nextn_predict_layers", static_cast<std::uint32_t>(added));
}

void copy_permutations(const Metadata& from, Metadata& to) {
  for (const auto& [key, value] : from.entries()) {
    if (key.starts_with(kPermutationKey)) to.set(key, value);
  }
}

void update_size_label(const Architecture& architecture, PlannedOutput& output) {
  if (output.metadata.find("general.size_label") == nullptr) return;
  std::int64_t parameters = 0;
  for (const Target& target : output.targets) parameters += target.shape.elements();
  // Of a mixture of experts the label speaks of experts, and those of one more layer seldom show in two digits.
  if (architecture.family().find("moe") == std::string_view::npos)
    output.metadata.set("general.size_label", size_label(parameters));
}

}  // namespace regauge
